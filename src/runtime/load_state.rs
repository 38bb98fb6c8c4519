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
    #[error("model {0} is busy and was left as it is: wait for its requests to end")]
    Busy(String),
    /// It is not in the state that was asked to change.
    #[error(
        "model {model} is {state} and not {wanted}: see GET /v1/models for what it can be told"
    )]
    WrongState {
        /// Its name.
        model: String,
        /// What it is.
        state: &'static str,
        /// What it would have to be.
        wanted: &'static str,
    },
    /// The process is stopping.
    #[error("the server is shutting down")]
    ShuttingDown,
}

/// Where a model is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LoadState {
    /// On disk only.
    Unloaded,
    /// Being read.
    Loading,
    /// Serving.
    Loaded,
    /// Its weights are dropped, its sessions kept; the next request wakes it.
    Sleeping,
    /// Its last load failed.
    Failed,
}

impl LoadState {
    /// Its name in listings.
    pub fn name(self) -> &'static str {
        match self {
            LoadState::Unloaded => "unloaded",
            LoadState::Loading => "loading",
            LoadState::Loaded => "loaded",
            LoadState::Sleeping => "sleeping",
            LoadState::Failed => "failed",
        }
    }
}

/// One line of a listing.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelState {
    /// Its name.
    pub name: String,
    /// Where it is in its life.
    pub state: LoadState,
    /// How much of it was read, from 0 to 1, while it is loading and that is known.
    pub fraction: Option<f64>,
    /// Why it failed.
    pub error: Option<String>,
    /// Bytes of its weights in memory; those it will take while it is loading.
    pub weight_bytes: usize,
    /// Bytes of KV cache in use.
    pub kv_bytes: usize,
    /// Requests that wait.
    pub waiting: usize,
    /// Sequences in the batch.
    pub running: usize,
    /// Seconds since it was last used.
    pub idle_seconds: u64,
    /// How long it is kept when it is idle: a length of time, or `forever`.
    pub keep_alive: Option<String>,
    /// Its engines.
    pub replicas: Vec<ReplicaState>,
}

/// What one engine of a model is doing.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReplicaState {
    /// Its name.
    pub name: String,
    /// Bytes of KV cache in use.
    pub kv_bytes: usize,
    /// Requests that wait.
    pub waiting: usize,
    /// Sequences in the batch.
    pub running: usize,
}

impl ModelState {
    /// A line that says nothing but the state.
    pub fn new(name: impl Into<String>, state: LoadState) -> Self {
        ModelState {
            name: name.into(),
            state,
            fraction: None,
            error: None,
            weight_bytes: 0,
            kv_bytes: 0,
            waiting: 0,
            running: 0,
            idle_seconds: 0,
            keep_alive: None,
            replicas: Vec::new(),
        }
    }
}

/// What is told to those who watch the models.
#[derive(Debug, Clone, PartialEq)]
pub enum ModelEvent {
    /// A model changed its state, or more of it was read.
    State(Box<ModelState>),
    /// The process stops: nothing more is told.
    Closing,
}
