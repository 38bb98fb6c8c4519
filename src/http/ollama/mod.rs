//! Ollama's API (<https://github.com/ollama/ollama/blob/main/docs/api.md>), so that its clients find their models here.
//!
//! It differs in one thing on purpose: nothing is cut in silence. A prompt that does not fit is refused, and so is a
//! field that cannot be honoured.

mod answer;
mod ask;
mod details;
mod embed;
mod generate;
mod models;
mod name;
mod options;
mod pull;

pub(super) use embed::{embed, embed_one};
pub(super) use generate::{chat, generate};
pub(super) use models::{alive, copy, delete, ps, show, tags, version};
pub(super) use pull::pull;

/// Whether bodies are read to their end.
#[cfg(test)]
pub(super) mod read {
    use super::super::wire::Fields;
    use super::ask::{Ask, Route};

    pub(in crate::http) fn generate(fields: Fields) -> bool {
        Ask::read(Route::Generate, fields).is_ok()
    }

    pub(in crate::http) fn chat(fields: Fields) -> bool {
        Ask::read(Route::Chat, fields).is_ok()
    }

    pub(in crate::http) fn options(mut fields: Fields) -> bool {
        super::options::Options::read(&mut fields).is_ok()
    }
}
