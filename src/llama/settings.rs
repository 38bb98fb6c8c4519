//! The `[model]` section.

use std::num::NonZeroUsize;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units;

/// How a model is computed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What products are computed in. On a CPU, `auto` and `bfloat16` round the inputs of quantised weights: of generated
    /// tokens to 8 bits, of prompts to bfloat16 where the processor has tiles of it or, under `bfloat16`, any
    /// instructions for it, else to 8 bits. `auto` rounds the attention of prompts to 8 bits as well where the processor
    /// multiplies bytes faster than anything else and the policy needs no weights of it, and keeps products with other
    /// weights nearer to `float32`, which rounds nothing.
    pub dtype: Dtype,
    /// Compute threads; absent = what the cgroup quota and the CPU affinity allow.
    #[schemars(example = 4)]
    pub threads: Option<NonZeroUsize>,
    /// Prompt tokens of one forward pass.
    #[serde(deserialize_with = "units::at_least_one")]
    #[schemars(range(min = 1))]
    pub prefill_chunk: usize,
    /// The longest sequence in tokens, when it is to be less than the model's own.
    #[serde(deserialize_with = "units::at_least_one_if_any")]
    #[schemars(example = 8192, range(min = 1))]
    pub context: Option<usize>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            dtype: Dtype::Auto,
            threads: None,
            prefill_chunk: 256,
            context: None,
        }
    }
}

/// The type of weights and activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Dtype {
    /// The one that is faster on this device.
    Auto,
    /// 32-bit floats.
    Float32,
    /// 16-bit floats with the exponent of 32-bit ones.
    Bfloat16,
}
