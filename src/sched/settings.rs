//! The `[scheduler]` section.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::{self, Duration};

/// How many requests run, how many wait, and for how long.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Sequences that one step computes together.
    #[serde(deserialize_with = "units::at_least_one")]
    #[schemars(range(min = 1))]
    pub max_batch: usize,
    /// Requests that wait at most; one more is answered "busy".
    #[serde(deserialize_with = "units::at_least_one")]
    #[schemars(range(min = 1))]
    pub max_queue: usize,
    /// Prompt tokens of all waiting requests at most; one request over it is answered "busy".
    #[serde(deserialize_with = "units::at_least_one")]
    #[schemars(range(min = 1))]
    pub max_queue_tokens: usize,
    /// Prompt tokens that one step computes at most, so that running answers do not stall.
    #[serde(deserialize_with = "units::at_least_one")]
    #[schemars(range(min = 1))]
    pub prefill_tokens: usize,
    /// How long a request may wait before it is answered "busy".
    pub queue_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            max_batch: 8,
            max_queue: 64,
            max_queue_tokens: 262_144,
            prefill_tokens: 512,
            queue_timeout: Duration::seconds(120),
        }
    }
}
