//! What of a model may change.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::train::network::LoraSpec;

/// The shape of low-rank adapters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Lora {
    /// Rank of an adapter's two matrices.
    #[schemars(range(min = 1, max = 1024))]
    pub rank: u32,
    /// An adapter's output is scaled by alpha over rank.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub alpha: f64,
    /// The share of an adapter's inputs that a training step leaves out.
    #[schemars(extend("minimum" = 0, "exclusiveMaximum" = 1))]
    pub dropout: f64,
    /// Names or patterns of the linear layers that get one: `q_proj`, `*_proj`, `all-linear`.
    pub targets: Vec<String>,
}

impl Default for Lora {
    fn default() -> Self {
        Lora {
            rank: 8,
            alpha: 32.0,
            dropout: 0.05,
            targets: vec!["q_proj".to_owned(), "v_proj".to_owned()],
        }
    }
}

impl From<&Lora> for LoraSpec {
    fn from(lora: &Lora) -> LoraSpec {
        LoraSpec {
            rank: lora.rank as usize,
            alpha: lora.alpha as f32,
            dropout: lora.dropout as f32,
            targets: lora.targets.clone(),
        }
    }
}

/// What the weights of a model under adapters are stored in.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Quantisation {
    /// The format; a model that is quantised already can be kept as it is.
    pub format: QuantFormat,
}

/// What the weights of a model under adapters are stored in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum QuantFormat {
    /// As they are in the model's file, which must be quantised.
    #[default]
    Stored,
    /// Blocks of 4 bits with a scale.
    Int4,
    /// Blocks of 8 bits with a scale.
    Int8,
}

/// Weights that stay as they are.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Freeze {
    /// How many of the first blocks.
    #[schemars(range(min = 0, max = 256))]
    pub layers: u32,
    /// Whether the embedding table.
    pub embeddings: bool,
}
