//! What can be wrong with a model before it runs.

use crate::sched::ForwardError;
use crate::store::StoreError;

/// Why a model cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LlamaError {
    /// The files cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file does not say something that is needed.
    #[error("the model does not say its {0}")]
    Missing(&'static str),
    /// A number that makes no model.
    #[error("the model's {field} is {value}, which is not valid: {reason}")]
    Invalid {
        /// The configuration key.
        field: &'static str,
        /// What it says.
        value: String,
        /// What it should be.
        reason: &'static str,
    },
    /// An architecture that is not of the family.
    #[error("architecture {0:?} is not supported; supported are llama, mistral and qwen2")]
    Architecture(String),
    /// A tensor of another shape than the configuration implies.
    #[error("tensor {name} has shape {found:?}, the configuration implies {expected:?}")]
    Shape {
        /// The tensor.
        name: String,
        /// Its shape.
        found: Vec<usize>,
        /// The shape that was expected.
        expected: Vec<usize>,
    },
    /// A weight could not be repacked for the processor.
    #[error("a weight could not be repacked: {0}")]
    Packing(String),
    /// The threads of the kernels could not be started.
    #[error("the compute threads could not be started: {0}; lower --threads")]
    Threads(String),
    /// The tensor library refused, for lack of memory as a rule.
    #[error("the tensor library failed while loading: {0}")]
    Tensor(#[from] tch::TchError),
}

impl From<tch::TchError> for ForwardError {
    fn from(error: tch::TchError) -> Self {
        // The C++ message carries a stack trace; the first line says what happened.
        let text = error.to_string();
        ForwardError::Tensor(text.lines().next().unwrap_or_default().to_owned())
    }
}
