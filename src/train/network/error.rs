//! Why a model cannot be trained, or a pass not be run.

use crate::llama::LlamaError;
use crate::store::StoreError;

/// What is wrong with a model, an option or a pass.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The model's configuration or weights.
    #[error(transparent)]
    Llama(#[from] LlamaError),
    /// The model's files.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The model is sound but has a part that cannot be trained here.
    #[error("{part} cannot be trained: {reason}")]
    Unsupported {
        /// The part of the model.
        part: String,
        /// Why not, and what to do.
        reason: String,
    },
    /// An option that fits neither the model nor the other options.
    #[error("{option}: {reason}")]
    Option {
        /// The field of the options.
        option: &'static str,
        /// What it must be.
        reason: String,
    },
    /// Rows that make no pass.
    #[error("the pass's {field} cannot be used: {reason}")]
    Pass {
        /// The field of the pass.
        field: &'static str,
        /// What it must be.
        reason: String,
    },
    /// The system starts no further thread.
    #[error("the compute threads could not be started: {0}; lower the number of threads")]
    Threads(#[source] std::io::Error),
}

impl NetworkError {
    pub(super) fn option(option: &'static str, reason: impl Into<String>) -> Self {
        NetworkError::Option {
            option,
            reason: reason.into(),
        }
    }

    pub(super) fn pass(field: &'static str, reason: impl Into<String>) -> Self {
        NetworkError::Pass {
            field,
            reason: reason.into(),
        }
    }

    pub(super) fn unsupported(part: impl Into<String>, reason: impl Into<String>) -> Self {
        NetworkError::Unsupported {
            part: part.into(),
            reason: reason.into(),
        }
    }
}
