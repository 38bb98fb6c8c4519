//! The `[history]` section.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is kept of the conversations of this machine's user.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Whether `run` and `chat` keep each question and its answer in the home folder, for `llamahome log` and
    /// `--continue`. The server keeps none, whatever this says.
    pub calls: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config { calls: true }
    }
}
