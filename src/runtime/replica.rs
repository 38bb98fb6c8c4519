//! One engine of a loaded model.

use std::fmt;

use actix::Addr;

use super::engine::Engine;
use super::router::Load;
use super::routes::EngineStatus;
use crate::ids::ModelId;
use std::sync::Arc;

/// What an engine is called by the worker, the cache and the sessions. A model that is loaded again has other ones, so
/// that nothing that is still on its way to the old ones meets the new.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct ReplicaId {
    /// Whose.
    pub(super) model: ModelId,
    /// Which load of the process made it.
    pub(super) load: u64,
    /// Its place among the model's.
    pub(super) place: usize,
}

impl ReplicaId {
    /// Whether both are over one set of weights.
    pub(super) fn shares_weights(&self, other: &ReplicaId) -> bool {
        self.model == other.model && self.load == other.load
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            0 => write!(f, "{}", self.model),
            place => write!(f, "{}#{place}", self.model),
        }
    }
}

/// One engine, and what it is doing.
pub(super) struct Replica {
    pub(super) id: ReplicaId,
    pub(super) status: Arc<EngineStatus>,
    pub(super) engine: Addr<Engine>,
}

impl Replica {
    /// What a router is told.
    pub(super) fn load(&self) -> Load {
        Load {
            waiting_tokens: self.status.waiting_tokens(),
            running: self.status.running(),
            weight: 1,
            // One that lost its device is up: a request has it loaded again.
            up: true,
        }
    }
}
