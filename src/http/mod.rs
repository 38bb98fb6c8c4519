//! The APIs: OpenAI's chat and text completions and Ollama's, streamed and not, and what an operator asks of a daemon.
//!
//! [`serve`] binds and hands back a [`Server`] to await. A request passes `edge` (its id, who may ask, how long it may
//! take, what is counted), is read by `wire` into narrow types, becomes sequences in `generate`, and is told back by
//! `chat`, `completion` or `stream`. A stream owns its generations: when the client leaves it is dropped, and the
//! work ends with the step in flight. A request for a model that has replicas elsewhere may be sent on to one by `remote`.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )
)]

mod anthropic;
mod body;
mod chat;
mod completion;
mod debug;
mod edge;
mod embeddings;
mod evaluations;
mod form;
mod generate;
mod guard;
mod health;
mod keys;
mod limits;
mod live;
mod logprobs;
mod models;
mod monitor;
mod narration;
mod ollama;
mod openapi;
mod page;
mod readiness;
mod remote;
mod respond;
mod responses;
mod routes;
mod runs;
mod serve;
mod sessions;
mod settings;
mod stream;
mod tokens;
mod trail;
mod wire;

pub use keys::{KeyFileError, check_keys};
pub use live::Reloader;
pub use readiness::Readiness;
pub use routes::{Needs, ROUTES};
pub use serve::{Closer, HttpError, Server, serve};
pub use settings::{Config, UnknownFields};
