//! The `[telemetry]` section.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::{self, ByteSize};

/// What is logged, how it looks and how long it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The least severe event of this program that is logged; other crates log one step less.
    pub level: Level,
    /// The shape of log lines on standard error: `auto` is text on a terminal and JSON elsewhere.
    pub format: Format,
    /// The folder of log files; absent = `logs` in the home folder.
    #[schemars(example = "/var/log/llamahome")]
    pub dir: Option<PathBuf>,
    /// How often a new log file is begun.
    pub rotation: Rotation,
    /// The size at which a log file is put aside, whatever the time; 0 = none.
    pub file_bytes: ByteSize,
    /// How many log files of each kind are kept, with those that were put aside.
    #[serde(deserialize_with = "units::at_least_one")]
    #[schemars(range(min = 1))]
    pub keep_files: usize,
    /// Whether samples of CPU, memory, disk and GPU are written to `resources.log`.
    pub resources: bool,
    /// Whether prompts and answers may appear in the log; they never do unless this is true.
    pub prompts: bool,
    /// The collector that traces are sent to over OTLP; absent = `OTEL_EXPORTER_OTLP_ENDPOINT`, or none are made.
    #[schemars(example = "http://127.0.0.1:4318")]
    pub otlp_endpoint: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            level: Level::Info,
            format: Format::Auto,
            dir: None,
            rotation: Rotation::Daily,
            file_bytes: ByteSize::mib(64),
            keep_files: 14,
            resources: true,
            prompts: false,
            otlp_endpoint: None,
        }
    }
}

/// How severe an event must be to be logged.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Level {
    /// Something failed.
    Error,
    /// Something is wrong, and the program went on.
    Warn,
    /// What an operator wants to see: starts, loads, one line a request.
    Info,
    /// What a developer wants to see.
    Debug,
    /// Everything.
    Trace,
}

/// The shape of log lines on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Format {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// One line of text an event.
    Text,
    /// One JSON object an event.
    Json,
}

/// How often a new log file is begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Rotation {
    /// At midnight UTC.
    Daily,
    /// At each full hour.
    Hourly,
    /// One file for ever.
    Never,
}
