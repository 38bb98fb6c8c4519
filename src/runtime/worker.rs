//! The compute thread of one device: it owns the models and their tensors, and does one step at a time.
//!
//! Obeys [`Load`], [`Step`], [`SessionCall`], [`MemoryCall`], [`Sleep`] and [`Unload`].
//! Replicas of a model share this one thread: a step uses all cores of the device, so two at a time would only wait for
//! each other's memory bandwidth, and weights that no other thread reads can be shared without a lock. A panic inside is
//! caught: the sender gets [`StepError::Lost`], this worker stops with all it holds, and the next message meets a fresh
//! one on the same thread and at the same address.

use std::any::Any;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, Handler, Message, SyncContext};

use super::heap::give_memory_back;
use super::pulse::{Pulse, Work};
use super::replica::ReplicaId;
use super::source::{Builder, SourceError};
use crate::kv::KvShape;
use crate::sched::{
    ForwardError, Kept, MemoryReport, Plan, SessionOrder, SessionReply, Stepped, Stepper,
};
use crate::telemetry::{Lost, Metrics};

/// Put a replica of a model on the device, in place of what it was before. Its weights are those of another replica of
/// the same load when there is one, and it goes on with what it has kept asleep.
#[derive(Message)]
#[rtype(result = "Result<Facts, LoadFailure>")]
pub(super) struct Load {
    pub(super) model: ReplicaId,
    pub(super) build: Builder,
}

/// What is known once a model is loaded.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts {
    pub(super) shape: KvShape,
    pub(super) weight_bytes: usize,
    /// Into how many slices a prompt's row can be cut.
    pub(super) slices: usize,
    /// Whether it goes on with what it kept asleep.
    pub(super) resumed: bool,
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
#[rtype(result = "Result<Stepped, StepError>")]
pub(super) struct Step {
    pub(super) model: ReplicaId,
    pub(super) plan: Plan,
    /// How long prompts may compute in it, if not to their ends.
    pub(super) slice: Option<Duration>,
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
    pub(super) model: ReplicaId,
    pub(super) order: SessionOrder,
}

/// Say what all models keep by open sequences and beyond them.
#[derive(Message)]
#[rtype(result = "Result<MemoryReport, StepError>")]
pub(super) struct MemoryCall;

/// Free a model and its caches.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Unload {
    pub(super) model: ReplicaId,
}

/// Free the weights of a replica, and keep what outlives its sequences until it is loaded again.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Sleep {
    pub(super) model: ReplicaId,
}

/// See the module.
pub(super) struct Worker {
    models: HashMap<ReplicaId, Stepper>,
    /// What is left of those that sleep.
    asleep: HashMap<ReplicaId, Kept>,
    metrics: Metrics,
    pulse: Arc<Pulse>,
}

impl Worker {
    /// An empty worker. Kept trivial: a panic here would end the thread.
    pub(super) fn new(metrics: Metrics, pulse: Arc<Pulse>) -> Self {
        Worker {
            models: HashMap::new(),
            asleep: HashMap::new(),
            metrics,
            pulse,
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
            self.metrics.worker_restarted(Lost::Panicked);
            // Tensors in an unknown state may panic again while they are dropped.
            let lost = (
                std::mem::take(&mut self.models),
                std::mem::take(&mut self.asleep),
            );
            if catch_unwind(AssertUnwindSafe(move || drop(lost))).is_err() {
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
        let pulse = Arc::clone(&self.pulse);
        let _beat = pulse.begin(Work::Load, Some(&load.model.model));
        // The old one first: two copies of a large model may not fit.
        self.models.remove(&load.model);
        let built = self.guarded(ctx, |worker| -> Result<_, SourceError> {
            let mut others = worker.models.iter();
            let twin = others
                .find(|(other, _)| other.shares_weights(&load.model))
                .and_then(|(_, other)| other.twin());
            let mut stepper = match twin {
                Some(twin) => twin,
                None => Stepper::new((load.build)()?),
            };
            let kept = worker.asleep.remove(&load.model);
            let resumed = kept.is_some_and(|kept| stepper.put_kept(kept));
            Ok((stepper, resumed))
        });
        // What reading the weights took beside them.
        give_memory_back();
        let (stepper, resumed) = match built {
            Ok(built) => built.map_err(LoadFailure::Source)?,
            Err(panic) => return Err(LoadFailure::Lost(panic)),
        };
        let facts = Facts {
            shape: stepper.kv_shape(),
            weight_bytes: stepper.weight_bytes(),
            slices: stepper.slices(),
            resumed,
        };
        self.models.insert(load.model, stepper);
        Ok(facts)
    }
}

impl Handler<Step> for Worker {
    type Result = Result<Stepped, StepError>;

    fn handle(&mut self, step: Step, ctx: &mut Self::Context) -> Self::Result {
        let pulse = Arc::clone(&self.pulse);
        let _beat = pulse.begin(Work::Step, Some(&step.model.model));
        let outcome = self.guarded(ctx, |worker| {
            let model = worker.models.get_mut(&step.model);
            Ok(model
                .ok_or(StepError::NotLoaded)?
                .step(&step.plan, step.slice)?)
        });
        outcome.map_err(StepError::Lost)?
    }
}

impl Handler<SessionCall> for Worker {
    type Result = Result<SessionReply, StepError>;

    fn handle(&mut self, call: SessionCall, ctx: &mut Self::Context) -> Self::Result {
        let pulse = Arc::clone(&self.pulse);
        let _beat = pulse.begin(Work::Step, Some(&call.model.model));
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
            let awake = worker.models.values().map(Stepper::memory);
            let asleep = worker.asleep.values().map(|kept| kept.memory);
            for report in awake.chain(asleep) {
                sum.prefix_bytes += report.prefix_bytes;
                sum.prefix_blocks += report.prefix_blocks;
                sum.prefix_in_use += report.prefix_in_use;
                sum.parked_bytes += report.parked_bytes;
                sum.spilled_session_bytes += report.spilled_session_bytes;
                sum.open_sequences += report.open_sequences;
                sum.open_bytes += report.open_bytes;
            }
            sum
        });
        outcome.map_err(StepError::Lost)
    }
}

impl Handler<Unload> for Worker {
    type Result = ();

    fn handle(&mut self, unload: Unload, ctx: &mut Self::Context) {
        let pulse = Arc::clone(&self.pulse);
        let _beat = pulse.begin(Work::Load, Some(&unload.model.model));
        // A failure is logged by `guarded`, and then everything is unloaded.
        let _ = self.guarded(ctx, |worker| {
            drop(worker.models.remove(&unload.model));
            drop(worker.asleep.remove(&unload.model));
        });
        give_memory_back();
    }
}

impl Handler<Sleep> for Worker {
    type Result = ();

    fn handle(&mut self, sleep: Sleep, ctx: &mut Self::Context) {
        // A failure is logged by `guarded`, and then nothing is kept: whoever wakes it is told so.
        let _ = self.guarded(ctx, |worker| {
            if let Some(mut stepper) = worker.models.remove(&sleep.model)
                && let Some(kept) = stepper.take_kept()
            {
                worker.asleep.insert(sleep.model, kept);
            }
        });
        give_memory_back();
    }
}

/// What a panic said: its first line, for a C++ error carries a stack trace after it.
pub(super) fn message(panic: &(dyn Any + Send)) -> String {
    let text = match (panic.downcast_ref::<String>(), panic.downcast_ref::<&str>()) {
        (Some(text), _) => text.as_str(),
        (_, Some(text)) => text,
        _ => "a panic without a message",
    };
    text.lines().next().unwrap_or_default().to_owned()
}
