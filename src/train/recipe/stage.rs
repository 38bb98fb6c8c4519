//! What a run does to a model.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Packing;

/// What a run does to a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Learns to continue text, from nothing or from a model.
    Pretrain,
    /// Learns from instructions and answers; every weight may change.
    Sft,
    /// The same with low-rank adapters ([LoRA](https://arxiv.org/abs/2106.09685)); the model itself stays as it is.
    Lora,
    /// The same over a quantised model ([QLoRA](https://arxiv.org/abs/2305.14314)).
    Qlora,
    /// Learns from rewards of what it says.
    Rl,
}

impl Stage {
    /// The stage as recipes write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Stage::Pretrain => "pretrain",
            Stage::Sft => "sft",
            Stage::Lora => "lora",
            Stage::Qlora => "qlora",
            Stage::Rl => "rl",
        }
    }

    /// How samples become rows unless the recipe says.
    pub const fn packing(self) -> Packing {
        match self {
            Stage::Pretrain => Packing::Concatenate,
            Stage::Sft | Stage::Lora | Stage::Qlora => Packing::BestFit,
            // A reply is a row of its own: there is nothing to pack.
            Stage::Rl => Packing::Padding,
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What products of matrices are computed in; weights that are learned, norms and losses are float32 in both.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32 bits.
    #[default]
    Fp32,
    /// Inputs rounded to bfloat16, sums in float32.
    Bf16,
}
