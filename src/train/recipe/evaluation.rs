//! What is measured during a run, and when it ends early.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is measured on the way. The loss on the data that was held back always is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Evaluation {
    /// Steps from one evaluation to the next; the end of a run always has one.
    #[schemars(range(min = 1))]
    pub every: u64,
    /// The most rows of the data held back that it reads; absent = all.
    #[schemars(range(min = 1), extend("examples" = [64]))]
    pub rows: Option<u64>,
    /// Tasks that are run beside it, by name or path.
    pub tasks: Vec<String>,
    /// Prompts that the model continues.
    pub samples: Vec<String>,
    /// The most tokens of a continuation.
    #[schemars(range(min = 1, max = 65536))]
    pub sample_tokens: u32,
}

impl Default for Evaluation {
    fn default() -> Self {
        Evaluation {
            every: 250,
            rows: None,
            tasks: Vec::new(),
            samples: Vec::new(),
            sample_tokens: 64,
        }
    }
}

/// Ends a run whose evaluations get no better.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EarlyStopping {
    /// After how many evaluations in a row.
    #[schemars(range(min = 1, max = 1000000))]
    pub patience: u32,
    /// By how much one must be better than the best before it to count.
    #[schemars(range(min = 0.0))]
    pub threshold: f64,
}

impl Default for EarlyStopping {
    fn default() -> Self {
        EarlyStopping {
            patience: 3,
            threshold: 0.01,
        }
    }
}

/// Stops a run that has gone wrong, with its last good checkpoint. A loss or gradient that is not a number always does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Watchdog {
    /// How many times the median of the last losses a loss must be to count as gone wrong; 0 = no loss does.
    #[schemars(range(min = 0.0))]
    pub divergence: f64,
    /// How many losses in a row must be.
    #[schemars(range(min = 1, max = 1000000))]
    pub patience: u32,
    /// Over how many losses the median is taken.
    #[schemars(range(min = 3, max = 100000))]
    pub window: u32,
}

impl Default for Watchdog {
    fn default() -> Self {
        Watchdog {
            divergence: 3.0,
            patience: 3,
            window: 50,
        }
    }
}
