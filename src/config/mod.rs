//! Settings, and where each of them came from.
//!
//! Each module owns its section; this folder composes them into [`Settings`] and overlays seven layers, low to
//! high: built-in < project `.config` < profile < user's folder < `.env` < environment < command line.
//! The `config` crate reads files of any format, `figment` overlays them and knows which source won each key.
//! [`keys`] derives the one table of keys from the sections; [`mod@reference`] writes the documentation from it.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod error;
mod file;
mod folder;
pub mod keys;
mod lines;
mod load;
mod origin;
pub mod reference;
mod reload;
mod sampling;
mod show;
mod source;
mod variables;

pub use error::ConfigError;
pub use load::{Inputs, Loaded, Overrides, load};
pub use origin::{Layer, Origin};
pub use reload::{Change, LIVE, Reread, reread, told};
pub use show::show;

/// All settings of the process.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// What is logged, how it looks and how long it is kept.
    pub telemetry: crate::telemetry::Config,
    /// What is kept of the keys and values of a sequence, and how much of them in all.
    pub kv: crate::kv::Config,
    /// How a model is computed.
    pub model: crate::llama::Config,
    /// How many requests run, how many wait, and for how long.
    pub scheduler: crate::sched::Config,
    /// Which models are loaded, for how long, and how the process watches itself.
    pub runtime: crate::runtime::Config,
    /// Where the server listens, and whom it answers.
    pub http: crate::http::Config,
    /// How the next token is drawn when a request does not say.
    #[schemars(with = "sampling::Described")]
    pub sampling: crate::sample::Defaults,
    /// Which models can be fetched by name.
    pub store: crate::store::Config,
    /// What is kept of the conversations of this machine's user.
    pub history: crate::history::Config,
}
