//! Why a checkpoint cannot be written or taken up.

use std::path::PathBuf;

use crate::store::StoreError;
use crate::train::optimizer::OptimizerError;

/// What is wrong with a checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// A file cannot be read or written, or is malformed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file of the optimizer's does not fit.
    #[error(transparent)]
    Optimizer(#[from] OptimizerError),
    /// A sound file of another run.
    #[error("{} does not fit this run: {reason}", path.display())]
    Other {
        /// The file.
        path: PathBuf,
        /// What differs.
        reason: String,
    },
    /// The network has no adapters.
    #[error("there are no adapters to {0}: the run trains the model itself")]
    NoAdapters(&'static str),
}

impl CheckpointError {
    pub(super) fn other(path: impl Into<PathBuf>, reason: impl Into<String>) -> Self {
        CheckpointError::Other {
            path: path.into(),
            reason: reason.into(),
        }
    }
}
