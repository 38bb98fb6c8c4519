//! What a run leaves behind: checkpoints, records and a model.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is saved to go on from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Checkpoint {
    /// Steps from one save to the next; the end of a run always has one. Absent = the end only.
    #[schemars(range(min = 1), extend("examples" = [1000]))]
    pub every: Option<u64>,
    /// How many of the newest are kept.
    #[schemars(range(min = 1, max = 100000))]
    pub keep_last: u32,
    /// By what the best is told, which is kept beside the newest.
    pub keep_best: KeepBest,
    /// Whether SIGINT and SIGTERM save before they end the run.
    pub on_signal: bool,
}

impl Default for Checkpoint {
    fn default() -> Self {
        Checkpoint {
            every: None,
            keep_last: 5,
            keep_best: KeepBest::Loss,
            on_signal: true,
        }
    }
}

/// By what the best checkpoint is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum KeepBest {
    /// No checkpoint is kept for being the best.
    Off,
    /// The lowest loss on the data held back.
    Loss,
    /// The highest mean reward on held-out prompts.
    Reward,
}

/// What is told of a run while it goes on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Logging {
    /// Steps from one line of the log to the next.
    #[schemars(range(min = 1))]
    pub every: u64,
    /// Whether TensorBoard event files are written, too.
    pub tensorboard: bool,
    /// Whether progress is shown on the terminal.
    pub progress: bool,
}

impl Default for Logging {
    fn default() -> Self {
        Logging {
            every: 10,
            tensorboard: true,
            progress: true,
        }
    }
}

/// The model that a finished run leaves.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Export {
    /// The name that it is registered and served under; absent = the run's.
    #[schemars(extend("examples" = ["my-model"]))]
    pub name: Option<String>,
    /// What its weights are written in.
    pub dtype: ExportType,
}

/// What weights are written in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ExportType {
    /// 32 bits.
    #[default]
    Fp32,
    /// 16 bits, 8 of them exponent.
    Bf16,
    /// 16 bits, 5 of them exponent.
    Fp16,
}
