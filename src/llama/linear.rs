//! A linear layer; several that read the same input are stored as one.

use tch::{TchError, Tensor};

use super::LlamaError;
use super::names::Part;
use super::weights::{self, Weights};

/// `y = x W^T + b` in the compute type; `W` is `[out, in]`.
#[derive(Debug)]
pub(super) struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// The layers `parts`, `(part, outputs)`, one below the other: one product reads the input once for all.
    pub(super) fn stacked(
        weights: &Weights<'_>,
        parts: &[(Part, usize)],
        inputs: usize,
    ) -> Result<Self, LlamaError> {
        let mut rows = Vec::with_capacity(parts.len());
        let mut biases = Vec::new();
        for &(part, outputs) in parts {
            rows.push(weights.weight(part, &[outputs, inputs])?);
            biases.extend(weights.bias(part, outputs)?);
        }
        let bias = match biases.len() {
            0 => None,
            n if n == parts.len() => Some(Tensor::f_cat(&biases, 0)?),
            _ => {
                return Err(LlamaError::Missing(
                    "biases for all of query, key and value",
                ));
            }
        };
        let weight = match rows.len() {
            1 => rows.swap_remove(0),
            _ => Tensor::f_cat(&rows, 0)?,
        };
        Ok(Linear { weight, bias })
    }

    /// A layer whose weight is shared with another (a tied head).
    pub(super) fn shared(weight: &Tensor) -> Self {
        Linear {
            weight: weight.shallow_clone(),
            bias: None,
        }
    }

    /// `x` `[rows, in]` -> `[rows, out]`, in the compute type.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let x = weights::to_kind(x, self.weight.f_kind()?)?;
        x.f_linear(&self.weight, self.bias.as_ref())
    }

    /// Bytes of weight and bias.
    pub(super) fn bytes(&self) -> usize {
        weights::bytes(&self.weight) + self.bias.as_ref().map_or(0, weights::bytes)
    }
}

impl Linear {
    /// Whether the weight is the same memory as `tensor`.
    pub(super) fn shares(&self, tensor: &Tensor) -> bool {
        self.weight.data_ptr() == tensor.data_ptr()
    }
}
