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
