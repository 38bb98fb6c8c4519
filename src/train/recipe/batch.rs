//! How much a step learns from, and how many steps there are.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How much one step of the optimiser learns from. `tokens` or `rows` say it for the whole step; `micro_rows` go through
/// the model at once, `accumulation` times a step.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Batch {
    /// Tokens of a step, a multiple of a row; absent = from `rows`, or from the shape in pretraining.
    #[schemars(range(min = 1), extend("examples" = [524288]))]
    pub tokens: Option<u64>,
    /// Rows of a step, in place of `tokens`.
    #[schemars(range(min = 1), extend("examples" = [16]))]
    pub rows: Option<u64>,
    /// Rows that go through the model at once; absent = as many as make about 4,096 tokens.
    #[schemars(range(min = 1), extend("examples" = [4]))]
    pub micro_rows: Option<u64>,
    /// How many times rows go through the model before the weights move; absent = what makes up the step.
    #[schemars(range(min = 1), extend("examples" = [4]))]
    pub accumulation: Option<u64>,
}

/// When a run ends. One of `epochs`, `tokens` and `ratio` may be given; `steps` alone, or as an upper bound beside it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Horizon {
    /// Steps of the optimiser.
    #[schemars(range(min = 1), extend("examples" = [1000]))]
    pub steps: Option<u64>,
    /// How often the data is gone through.
    #[schemars(extend("exclusiveMinimum" = 0, "examples" = [3]))]
    pub epochs: Option<f64>,
    /// Tokens in all.
    #[schemars(range(min = 1), extend("examples" = [1000000000]))]
    pub tokens: Option<u64>,
    /// Tokens for each weight of the blocks and the output layer; pretraining only.
    #[schemars(extend("exclusiveMinimum" = 0, "examples" = [12]))]
    pub ratio: Option<f64>,
}
