//! What can go wrong with the folder of a run.

use std::path::{Path, PathBuf};

use super::RunId;
use crate::store::StoreError;

/// Why a run could not be made, found, opened or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The file system refused.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was being done, as in "open".
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The disk has no room for a checkpoint, or does not say.
    #[error("no checkpoint can be written: {0}")]
    Disk(#[from] StoreError),
    /// No run is called so.
    #[error("there is no run {id} in {}{}", folder.display(), known(.closest))]
    Unknown {
        /// What was asked for.
        id: String,
        /// Where runs are.
        folder: PathBuf,
        /// The run whose name is nearest.
        closest: Option<String>,
    },
    /// Another process has the run.
    #[error("run {id} is in use by process {}: stop it there first", pid.map_or_else(|| "unknown".to_owned(), |pid| pid.to_string()))]
    Locked {
        /// The run.
        id: RunId,
        /// The process, as far as the run's state says.
        pid: Option<u32>,
    },
    /// A file of the run is not what was written.
    #[error("{} is damaged: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A checkpoint that is asked for is not there.
    #[error("run {id} has no checkpoint {wanted}: it has {}", list(.there))]
    NoCheckpoint {
        /// The run.
        id: RunId,
        /// What was asked for.
        wanted: String,
        /// The steps of those that are there.
        there: Vec<u64>,
    },
}

fn known(closest: &Option<String>) -> String {
    match closest {
        Some(name) => format!(": did you mean {name}?"),
        None => ": llamahome train ls lists them".to_owned(),
    }
}

fn list(steps: &[u64]) -> String {
    match steps {
        [] => "none".to_owned(),
        steps => steps
            .iter()
            .map(u64::to_string)
            .collect::<Vec<_>>()
            .join(", "),
    }
}

impl RunError {
    /// For `map_err`.
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| RunError::Io {
            doing,
            path,
            source,
        }
    }
}
