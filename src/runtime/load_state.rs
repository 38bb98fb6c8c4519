//! Where a model is in its life, and why it may not be served.

use serde::Serialize;

/// Why a model cannot serve.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    /// No model of this name is installed.
    #[error("{0}")]
    NotFound(String),
    /// It is installed and could not be loaded.
    #[error("model {model} could not be loaded: {reason}")]
    LoadFailed {
        /// Its name.
        model: String,
        /// Why.
        reason: String,
    },
    /// Loading it would exceed the budget, and nothing loaded is idle.
    #[error(
        "model {model} needs {needed} bytes and {free} of runtime.memory are free, with no idle model to unload: \
         wait, raise runtime.memory, or use a smaller model"
    )]
    NoMemory {
        /// Its name.
        model: String,
        /// Estimated bytes.
        needed: usize,
        /// Free bytes.
        free: usize,
    },
    /// It has work.
    #[error("model {0} is busy and was not unloaded: wait for its requests to end")]
    Busy(String),
    /// The process is stopping.
    #[error("the server is shutting down")]
    ShuttingDown,
}

/// Where a model is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LoadState {
    /// Being read.
    Loading,
    /// Serving.
    Loaded,
    /// Its last load failed.
    Failed,
}

/// One line of a listing.
#[derive(Debug, Clone, Serialize)]
pub struct ModelState {
    /// Its name.
    pub name: String,
    /// Where it is in its life.
    pub state: LoadState,
    /// Why it failed.
    pub error: Option<String>,
    /// Bytes of its weights.
    pub weight_bytes: usize,
    /// Bytes of KV cache in use.
    pub kv_bytes: usize,
    /// Requests that wait.
    pub waiting: usize,
    /// Sequences in the batch.
    pub running: usize,
    /// Seconds since it was last used.
    pub idle_seconds: u64,
}
