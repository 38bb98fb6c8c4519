//! What drawing answers can fail of.

use crate::llama::LlamaError;
use crate::sample::ChooseError;
use crate::sched::ForwardError;
use crate::store::StoreError;
use crate::text::TextError;

/// Why there are no answers.
#[derive(Debug, thiserror::Error)]
pub enum RolloutError {
    /// The weights cannot be packed.
    #[error(transparent)]
    Model(#[from] LlamaError),
    /// The weights do not make a model.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A pass failed.
    #[error(transparent)]
    Forward(#[from] ForwardError),
    /// What the calculator wrote cannot be encoded.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The model gives no distribution to draw from.
    #[error("{0}; go on from the last checkpoint with a lower optim.lr")]
    Choose(#[from] ChooseError),
    /// There is nothing to go on from.
    #[error("prompt {0} has no token")]
    NoPrompt(usize),
}
