//! How a model is trained.

use serde::{Deserialize, Serialize};

use super::NetworkError;
use super::lora::LoraSpec;
use crate::kernels::training::Arithmetic;
use crate::llama::ModelConfig;

/// What products compute in. The residual stream, norms, softmax, losses and the weights that an optimizer moves are
/// float32 in both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Inputs and sums in float32.
    #[default]
    Float32,
    /// Inputs rounded to bfloat16, sums in float32. Frozen weights under LoRA are held in bfloat16.
    Bfloat16,
}

impl Precision {
    /// What the kernels call it.
    pub fn arithmetic(self) -> Arithmetic {
        match self {
            Precision::Float32 => Arithmetic::Float32,
            Precision::Bfloat16 => Arithmetic::Bfloat16,
        }
    }
}

/// What is not trained although it could be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Freeze {
    /// The first so many blocks, which get no adapters either.
    pub layers: usize,
    /// The embedding, and with it a head that is tied to it.
    pub embeddings: bool,
}

/// How a model is trained.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkOptions {
    /// What products compute in.
    pub precision: Precision,
    /// Trains adapters of the linears and nothing else.
    pub lora: Option<LoraSpec>,
    /// Under LoRA, the linears stay in the quantised blocks of their file; those that a file holds as floats are
    /// quantised to blocks of 8-bit integers (Q8_0).
    pub quantised: bool,
    /// What else is not trained.
    pub freeze: Freeze,
    /// Computes a block's activations again for its gradient, instead of keeping them: a third more time, and memory of
    /// one block instead of all.
    pub recompute: bool,
    /// The longest span in tokens; the model's own context if `None`.
    pub context: Option<usize>,
    /// Of random weights, adapters and dropout.
    pub seed: u64,
    /// Threads that compute, 0 for all.
    pub threads: usize,
}

impl Default for NetworkOptions {
    fn default() -> Self {
        NetworkOptions {
            precision: Precision::Float32,
            lora: None,
            quantised: false,
            freeze: Freeze::default(),
            recompute: false,
            context: None,
            seed: 0,
            threads: 0,
        }
    }
}

impl NetworkOptions {
    /// Whether they fit each other and the model; returns the longest span.
    pub(super) fn check(&self, config: &ModelConfig) -> Result<usize, NetworkError> {
        let context = self.context.unwrap_or(config.context);
        if context == 0 || context > config.context {
            let reason = format!("must be from 1 to the model's {}", config.context);
            return Err(NetworkError::option("context", reason));
        }
        if let Some(window) = config.sliding_window.filter(|&window| window < context) {
            let reason = format!(
                "spans of {context} tokens would need attention over a sliding window of {window}: set at most {window}"
            );
            return Err(NetworkError::option("context", reason));
        }
        if self.freeze.layers > config.layers {
            let reason = format!("the model has {} layers", config.layers);
            return Err(NetworkError::option("freeze.layers", reason));
        }
        match &self.lora {
            Some(lora) => lora.check()?,
            None if self.quantised => {
                let reason = "a quantised base needs lora, for its own weights cannot be trained";
                return Err(NetworkError::option("quantised", reason));
            }
            None => {}
        }
        Ok(context)
    }
}
