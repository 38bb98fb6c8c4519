//! What the models actor obeys.

use std::time::Duration;

use actix::Message;
use tokio::sync::oneshot;

use crate::ids::ModelId;
use crate::runtime::load_state::{ModelError, ModelState};
use crate::runtime::served::Held;

/// Whoever waits for a model.
pub(in crate::runtime) type Waiter = oneshot::Sender<Result<Held, ModelError>>;

/// Have a model loaded, or woken. Answered when it is, or cannot be.
#[derive(Message)]
#[rtype(result = "()")]
pub(in crate::runtime) struct Load {
    pub(in crate::runtime) name: String,
    pub(in crate::runtime) reply: Waiter,
}

/// Let go of a model that is idle.
#[derive(Message)]
#[rtype(result = "Result<ModelState, ModelError>")]
pub(in crate::runtime) struct LetGo {
    pub(in crate::runtime) id: ModelId,
    pub(in crate::runtime) how: How,
}

/// How much of a model is let go of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::runtime) enum How {
    /// All of it.
    Unload,
    /// Its weights.
    Sleep,
}

/// Say what is loaded, loading, sleeping or failed.
#[derive(Message)]
#[rtype(result = "Vec<ModelState>")]
pub(in crate::runtime) struct States;

/// Finish what runs, take in no more, and unload. Answered with whether all was finished in time.
#[derive(Message)]
#[rtype(result = "bool")]
pub(in crate::runtime) struct DrainAll {
    pub(in crate::runtime) deadline: Duration,
}
