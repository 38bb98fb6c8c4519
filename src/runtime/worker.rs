//! The compute thread of one device: it owns the models and their tensors, and does one step at a time.
//!
//! Obeys [`Load`], [`Step`], [`SessionCall`], [`MemoryCall`] and [`Unload`]. A panic inside is caught: the sender gets [`StepError::Lost`], this worker
//! stops with all it holds, and the next message meets a fresh one on the same thread and at the same address.

use std::any::Any;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use actix::{Actor, ActorContext, Handler, Message, SyncContext};

use super::source::{Builder, SourceError};
use crate::ids::ModelId;
use crate::kv::KvShape;
use crate::sched::{Drawn, ForwardError, MemoryReport, Plan, SessionOrder, SessionReply, Stepper};
use crate::telemetry::Metrics;

/// Put a model on the device, in place of an older one of the same name.
#[derive(Message)]
#[rtype(result = "Result<Facts, LoadFailure>")]
pub(super) struct Load {
    pub(super) model: ModelId,
    pub(super) build: Builder,
}

/// What is known once a model is loaded.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts {
    pub(super) shape: KvShape,
    pub(super) weight_bytes: usize,
}

/// Why a model was not loaded.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum LoadFailure {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("loading panicked: {0}")]
    Lost(String),
}

/// Compute one step of one model.
#[derive(Message)]
#[rtype(result = "Result<Vec<Drawn>, StepError>")]
pub(super) struct Step {
    pub(super) model: ModelId,
    pub(super) plan: Plan,
}

/// Why a step came to nothing. The sequences of its plan are gone.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum StepError {
    /// This worker is younger than the model's last load.
    #[error("the model is not on the device")]
    NotLoaded,
    #[error("{0}")]
    Lost(String),
    #[error(transparent)]
    Forward(#[from] ForwardError),
}

/// Do something with the parked sessions of one model.
#[derive(Message)]
#[rtype(result = "Result<SessionReply, StepError>")]
pub(super) struct SessionCall {
    pub(super) model: ModelId,
    pub(super) order: SessionOrder,
}

/// Say what all models keep beyond open sequences.
#[derive(Message)]
#[rtype(result = "Result<MemoryReport, StepError>")]
pub(super) struct MemoryCall;

/// Free a model and its caches.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Unload {
    pub(super) model: ModelId,
}

/// See the module.
pub(super) struct Worker {
    models: HashMap<ModelId, Stepper>,
    metrics: Metrics,
}

impl Worker {
    /// An empty worker. Kept trivial: a panic here would end the thread.
    pub(super) fn new(metrics: Metrics) -> Self {
        Worker {
            models: HashMap::new(),
            metrics,
        }
    }

    /// Runs `work`; a panic in it ends this worker.
    fn guarded<T>(
        &mut self,
        ctx: &mut SyncContext<Self>,
        work: impl FnOnce(&mut Self) -> T,
    ) -> Result<T, String> {
        let outcome = catch_unwind(AssertUnwindSafe(|| work(self)));
        outcome.map_err(|panic| {
            let text = message(panic.as_ref());
            tracing::error!(panic = %text, "the compute worker panicked and is replaced");
            self.metrics.worker_restarted();
            // Tensors in an unknown state may panic again while they are dropped.
            let models = std::mem::take(&mut self.models);
            if catch_unwind(AssertUnwindSafe(move || drop(models))).is_err() {
                tracing::error!("dropping the lost worker's models panicked too");
            }
            ctx.stop();
            text
        })
    }
}

impl Actor for Worker {
    type Context = SyncContext<Self>;
}

impl Handler<Load> for Worker {
    type Result = Result<Facts, LoadFailure>;

    fn handle(&mut self, load: Load, ctx: &mut Self::Context) -> Self::Result {
        // The old one first: two copies of a large model may not fit.
        self.models.remove(&load.model);
        let built = self.guarded(ctx, |_| (load.build)());
        let stepper = Stepper::new(built.map_err(LoadFailure::Lost)??);
        let facts = Facts {
            shape: stepper.kv_shape(),
            weight_bytes: stepper.weight_bytes(),
        };
        self.models.insert(load.model, stepper);
        Ok(facts)
    }
}

impl Handler<Step> for Worker {
    type Result = Result<Vec<Drawn>, StepError>;

    fn handle(&mut self, step: Step, ctx: &mut Self::Context) -> Self::Result {
        let outcome = self.guarded(ctx, |worker| {
            let model = worker.models.get_mut(&step.model);
            Ok(model.ok_or(StepError::NotLoaded)?.step(&step.plan)?)
        });
        outcome.map_err(StepError::Lost)?
    }
}

impl Handler<SessionCall> for Worker {
    type Result = Result<SessionReply, StepError>;

    fn handle(&mut self, call: SessionCall, ctx: &mut Self::Context) -> Self::Result {
        let outcome = self.guarded(ctx, |worker| {
            let model = worker.models.get_mut(&call.model);
            Ok(model.ok_or(StepError::NotLoaded)?.session(call.order)?)
        });
        outcome.map_err(StepError::Lost)?
    }
}

impl Handler<MemoryCall> for Worker {
    type Result = Result<MemoryReport, StepError>;

    fn handle(&mut self, _: MemoryCall, ctx: &mut Self::Context) -> Self::Result {
        let outcome = self.guarded(ctx, |worker| {
            let mut sum = MemoryReport::default();
            for report in worker.models.values().map(Stepper::memory) {
                sum.prefix_bytes += report.prefix_bytes;
                sum.prefix_blocks += report.prefix_blocks;
                sum.prefix_in_use += report.prefix_in_use;
                sum.parked_bytes += report.parked_bytes;
                sum.spilled_session_bytes += report.spilled_session_bytes;
            }
            sum
        });
        outcome.map_err(StepError::Lost)
    }
}

impl Handler<Unload> for Worker {
    type Result = ();

    fn handle(&mut self, unload: Unload, ctx: &mut Self::Context) {
        // A failure is logged by `guarded`, and then everything is unloaded.
        let _ = self.guarded(ctx, |worker| drop(worker.models.remove(&unload.model)));
        give_memory_back();
    }
}

/// Returns what the allocator holds free to the system, so that unloading is seen in the process's size.
fn give_memory_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[allow(unsafe_code)]
    // SAFETY: malloc_trim takes no pointers and may be called at any time from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// What a panic said: its first line, for a C++ error carries a stack trace after it.
fn message(panic: &(dyn Any + Send)) -> String {
    let text = match (panic.downcast_ref::<String>(), panic.downcast_ref::<&str>()) {
        (Some(text), _) => text.as_str(),
        (_, Some(text)) => text,
        _ => "a panic without a message",
    };
    text.lines().next().unwrap_or_default().to_owned()
}
