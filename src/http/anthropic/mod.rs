//! Anthropic's Messages API (<https://docs.anthropic.com/en/api/messages>), so that its clients find their models here.

mod answer;
mod ask;
mod messages;
mod talk;
mod tools;

pub(super) use messages::{count, create};

/// Whether a body is read to its end.
#[cfg(test)]
pub(super) fn reads(fields: super::wire::Fields) -> bool {
    ask::Ask::read(ask::Purpose::Answer, fields).is_ok()
}
