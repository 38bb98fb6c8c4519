//! OpenAI's Responses API (<https://platform.openai.com/docs/api-reference/responses>). A response that is kept is a session:
//! the next one that names it goes on from its KV cache, in a copy, so that several can go on from the same one.

mod answer;
mod ask;
mod create;
mod items;
mod kept;

pub(super) use create::{create, erase, show};
pub(super) use kept::Kept;

/// Whether a body is read to its end.
#[cfg(test)]
pub(super) fn reads(fields: super::wire::Fields) -> bool {
    ask::Ask::read(fields).is_ok()
}
