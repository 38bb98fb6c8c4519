//! How a run is going, as the file beside it says.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::RunId;
use crate::train::recipe::Stage;

/// How a run is going.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Waits for its turn.
    Queued,
    /// Takes steps.
    Running,
    /// Takes none until it is resumed.
    Paused,
    /// Was asked to end before its last step.
    Stopped,
    /// Ended by an error.
    Failed,
    /// Took its last step.
    Finished,
}

impl Status {
    /// Whether a process should be at it.
    pub fn is_live(self) -> bool {
        matches!(self, Status::Queued | Status::Running | Status::Paused)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Status::Queued => "queued",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
            Status::Failed => "failed",
            Status::Finished => "finished",
        })
    }
}

/// The `state.json` of a run. Times are seconds since 1970.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunState {
    /// The run.
    pub id: RunId,
    /// What it does.
    pub stage: Stage,
    /// How it is going.
    pub status: Status,
    /// The process that is at it, or was.
    pub pid: Option<u32>,
    /// Steps taken.
    pub step: u64,
    /// Steps in all, once they are known.
    pub steps: Option<u64>,
    /// The last training loss.
    pub loss: Option<f64>,
    /// When the run was made.
    pub created: u64,
    /// When this was written.
    pub updated: u64,
    /// Seconds that steps were taken in, over all processes.
    pub active_s: f64,
    /// What ended it, of a failed run; why it stopped, of a stopped one.
    pub reason: Option<String>,
    /// The name of the model it left.
    pub exported: Option<String>,
}

impl RunState {
    /// A run that has not begun.
    pub fn queued(id: RunId, stage: Stage, now: u64) -> RunState {
        RunState {
            id,
            stage,
            status: Status::Queued,
            pid: None,
            step: 0,
            steps: None,
            loss: None,
            created: now,
            updated: now,
            active_s: 0.0,
            reason: None,
            exported: None,
        }
    }
}
