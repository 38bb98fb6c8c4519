//! The `[runtime]` section.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::{self, ByteSize, Duration};

/// Which models are loaded, for how long, and how the process watches itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The model of a request that names none.
    pub default_model: String,
    /// Models that are loaded at the start.
    pub preload: Vec<String>,
    /// How long an idle model stays loaded; `0s` = for ever.
    pub keep_alive: Duration,
    /// The most memory that loaded models take; absent = no limit but the machine's.
    #[schemars(example = "8GiB")]
    pub memory: Option<ByteSize>,
    /// How long running answers may take to finish when the process stops.
    pub drain_timeout: Duration,
    /// How often CPU, memory, disk and GPU are sampled.
    #[serde(deserialize_with = "units::some_time")]
    pub monitor_interval: Duration,
    /// How long one step may take before its worker counts as stalled.
    #[serde(deserialize_with = "units::some_time")]
    pub stall_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            default_model: "smollm2".to_owned(),
            preload: Vec::new(),
            keep_alive: Duration::seconds(0),
            memory: None,
            drain_timeout: Duration::seconds(30),
            monitor_interval: Duration::seconds(5),
            stall_timeout: Duration::seconds(60),
        }
    }
}
