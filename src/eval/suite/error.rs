//! Why a suite did not load or run.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::judge::JudgeError;
use super::sandbox::SandboxError;

/// Why a suite did not load or run.
#[derive(Debug, Error)]
pub enum SuiteError {
    /// A file could not be read.
    #[error("{path}: {source}; check the path, which a task file gives relative to its own folder")]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A task file or an item is not as it must be.
    #[error("{at}: {why}")]
    Invalid {
        /// File and line, or the task and item.
        at: String,
        /// What is wrong and what to write instead.
        why: String,
    },
    /// Two task files have one name.
    #[error("{second}: the name {name:?} is taken by {first}; rename one of them")]
    Twice {
        /// The name.
        name: String,
        /// Who had it first.
        first: String,
        /// The other.
        second: String,
    },
    /// No task of that name.
    #[error("no task {name:?}; there are {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// A code task without a sandbox.
    #[error("task {task} runs code: give the suite a sandbox, or leave the task out")]
    NoSandbox {
        /// The task.
        task: String,
    },
    /// The model failed.
    #[error("task {task}: {source}")]
    Judge {
        /// The task.
        task: String,
        /// Why.
        source: JudgeError,
    },
    /// The model gave more or fewer answers than it was asked for.
    #[error("task {task}: the model gave {given} answers to {asked} questions")]
    Answers {
        /// The task.
        task: String,
        /// Answers.
        given: usize,
        /// Questions.
        asked: usize,
    },
    /// The sandbox did not run a program.
    #[error("task {task}: {source}")]
    Sandbox {
        /// The task.
        task: String,
        /// Why.
        source: SandboxError,
    },
    /// Results that share no task.
    #[error("{0}")]
    Incomparable(String),
}

pub(super) fn invalid(at: impl Into<String>, why: impl Into<String>) -> SuiteError {
    SuiteError::Invalid {
        at: at.into(),
        why: why.into(),
    }
}
