//! Where one model is in its life, and what is told of it.

use std::sync::Arc;

use super::orders::Waiter;
use crate::ids::ModelId;
use crate::runtime::load_state::{LoadState, ModelError, ModelState, ReplicaState};
use crate::runtime::replica::ReplicaId;
use crate::runtime::served::ServedModel;

/// One model's slot. One that is not there is on disk only.
pub(super) enum Slot {
    Loading(Loading),
    Loaded(Arc<ServedModel>),
    Sleeping(Arc<ServedModel>),
    Failed(ModelError),
}

/// A load that is under way.
pub(super) struct Loading {
    pub(super) waiters: Vec<Waiter>,
    /// What the weights are expected to take.
    pub(super) bytes: usize,
    /// What was last told of its progress.
    pub(super) fraction: Option<f64>,
    /// The replicas that are being put on the device.
    pub(super) replicas: Vec<ReplicaId>,
    /// The model that is being woken.
    pub(super) asleep: Option<Arc<ServedModel>>,
}

/// The line of a listing.
pub(super) fn line(id: &ModelId, slot: &Slot) -> ModelState {
    match slot {
        Slot::Loading(loading) => ModelState {
            fraction: loading.fraction,
            weight_bytes: loading.bytes,
            ..ModelState::new(id.as_str(), LoadState::Loading)
        },
        Slot::Failed(error) => ModelState {
            error: Some(error.to_string()),
            ..ModelState::new(id.as_str(), LoadState::Failed)
        },
        Slot::Loaded(model) => serving(model, LoadState::Loaded),
        Slot::Sleeping(model) => ModelState {
            weight_bytes: 0,
            ..serving(model, LoadState::Sleeping)
        },
    }
}

fn serving(model: &ServedModel, state: LoadState) -> ModelState {
    let replica = |replica: &crate::runtime::replica::Replica| ReplicaState {
        name: replica.id.to_string(),
        kv_bytes: replica.status.kv_bytes(),
        waiting: replica.status.waiting(),
        running: replica.status.running(),
    };
    ModelState {
        weight_bytes: model.weight_bytes,
        kv_bytes: model.kv_bytes(),
        waiting: model.waiting(),
        running: model.running(),
        idle_seconds: model.idle_for().unwrap_or_default().as_secs(),
        keep_alive: Some(model.keep_alive().to_string()),
        replicas: model.replicas.iter().map(replica).collect(),
        ..ModelState::new(model.id.as_str(), state)
    }
}
