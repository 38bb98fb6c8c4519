//! What a run can fail of.

use std::path::PathBuf;

use crate::data::DataError;
use crate::eval::suite::RewardError;
use crate::store::StoreError;
use crate::text::TextError;
use crate::train::checkpoint::CheckpointError;
use crate::train::network::NetworkError;
use crate::train::optimizer::OptimizerError;
use crate::train::plan::PlanError;
use crate::train::recipe::RecipeError;
use crate::train::rollout::RolloutError;
use crate::train::runs::RunError;
use crate::train::scaling::BadShape;
use crate::train::watchdog::Alarm;

/// Why a run does not begin, or does not go on.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The recipe says too little, or something that this stage does not do.
    #[error("{key}: {reason}")]
    Key {
        /// The key.
        key: &'static str,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// See [`RecipeError`].
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// See [`PlanError`].
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// See [`BadShape`].
    #[error(transparent)]
    Shape(#[from] BadShape),
    /// See [`DataError`].
    #[error(transparent)]
    Data(#[from] DataError),
    /// See [`TextError`].
    #[error(transparent)]
    Text(#[from] TextError),
    /// See [`StoreError`].
    #[error(transparent)]
    Store(#[from] StoreError),
    /// See [`NetworkError`].
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// See [`OptimizerError`].
    #[error(transparent)]
    Optimizer(#[from] OptimizerError),
    /// See [`CheckpointError`].
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// See [`RunError`].
    #[error(transparent)]
    Run(#[from] RunError),
    /// See [`RewardError`].
    #[error("rl.task: {0}")]
    Reward(#[from] RewardError),
    /// See [`RolloutError`].
    #[error("the answers of a step cannot be drawn: {0}")]
    Rollout(#[from] RolloutError),
    /// The run has gone wrong; its last checkpoint is good.
    #[error(transparent)]
    Alarm(#[from] Alarm),
    /// A file of the run cannot be written.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Rows of the data stopped before the last step.
    #[error("the data ended after step {step}; its files have changed while the run was on")]
    Ended {
        /// Steps taken.
        step: u64,
    },
    /// The place in the data that a checkpoint has does not fit this program.
    #[error("the place in the data that the checkpoint has cannot be read: {0}")]
    Place(serde_json::Error),
    /// The state of a checkpoint does not fit this program.
    #[error("the state of checkpoint {step} cannot be read: {reason}")]
    State {
        /// Its step.
        step: u64,
        /// What is wrong.
        reason: String,
    },
}

impl TrainError {
    pub(super) fn key(key: &'static str, reason: impl Into<String>) -> TrainError {
        TrainError::Key {
            key,
            reason: reason.into(),
        }
    }

    pub(super) fn place(error: serde_json::Error) -> TrainError {
        TrainError::Place(error)
    }

    pub(super) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> TrainError {
        let path = path.into();
        move |source| TrainError::Io { path, source }
    }
}
