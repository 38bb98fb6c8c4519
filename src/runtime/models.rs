//! Which models are loaded: loads on demand, each once however many ask; unloads the least recently used when the
//! byte budget is short, and what was idle too long; never a busy one.
//!
//! Obeys [`Load`], [`UnloadModel`], [`States`] and [`DrainAll`]; publishes loaded models in [`Routes`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use actix::{
    Actor, ActorContext, ActorFutureExt, Addr, AsyncContext, Context, Handler, Message,
    ResponseFuture, Supervised, Supervisor, WrapFuture,
};
use tokio::sync::oneshot;

use super::cache::Cache;
use super::engine::{Engine, Parts};
use super::load_state::{LoadState, ModelError, ModelState};
use super::orders::{Close, Drain};
use super::restart::Restart;
use super::routes::{EngineStatus, Routes, ServedModel};
use super::sessions::Sessions;
use super::source::{ModelSource, Opened, SourceError};
use super::worker::{Facts, LoadFailure, Worker};
use crate::ids::ModelId;
use crate::telemetry::Metrics;
use crate::{kv, sched};

/// How often idle models are looked for.
const TICK: Duration = Duration::from_secs(1);

/// Have a model loaded. Answered when it is, or cannot be.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Load {
    pub(super) name: String,
    pub(super) reply: oneshot::Sender<Result<Arc<ServedModel>, ModelError>>,
}

/// Unload a model that is idle.
#[derive(Message)]
#[rtype(result = "Result<(), ModelError>")]
pub(super) struct UnloadModel {
    pub(super) id: ModelId,
}

/// Say what is loaded, loading or failed.
#[derive(Message)]
#[rtype(result = "Vec<ModelState>")]
pub(super) struct States;

/// Finish what runs, take in no more, and unload. Answered with whether all was finished in time.
#[derive(Message)]
#[rtype(result = "bool")]
pub(super) struct DrainAll {
    pub(super) deadline: Duration,
}

type Waiter = oneshot::Sender<Result<Arc<ServedModel>, ModelError>>;

/// One model's slot.
enum Slot {
    Loading(Vec<Waiter>),
    Loaded(Arc<ServedModel>),
    Failed(ModelError),
}

/// What the models actor hands down.
pub(super) struct Parents {
    pub(super) source: Arc<dyn ModelSource>,
    pub(super) worker: Addr<Worker>,
    pub(super) cache: Addr<Cache>,
    pub(super) routes: Routes,
    pub(super) metrics: Metrics,
    pub(super) sessions: Sessions,
    pub(super) scheduler: sched::Config,
    pub(super) kv: kv::Config,
    pub(super) memory: Option<usize>,
    pub(super) keep_alive: Duration,
}

/// See the module.
pub(super) struct Models {
    parents: Parents,
    slots: BTreeMap<ModelId, Slot>,
    draining: bool,
}

impl Models {
    pub(super) fn new(parents: Parents) -> Self {
        Models {
            parents,
            slots: BTreeMap::new(),
            draining: false,
        }
    }

    /// The name was resolved to `opened`: loads it unless that is done or under way.
    fn opened(
        &mut self,
        outcome: Result<Opened, SourceError>,
        name: &str,
        waiter: Waiter,
        ctx: &mut Context<Self>,
    ) {
        let opened = match outcome {
            Ok(opened) => opened,
            Err(SourceError::NotFound(text)) => {
                let _ = waiter.send(Err(ModelError::NotFound(text)));
                return;
            }
            Err(SourceError::Unusable(reason)) => {
                let _ = waiter.send(Err(failed(name, reason)));
                return;
            }
        };
        if self.draining {
            let _ = waiter.send(Err(ModelError::ShuttingDown));
            return;
        }
        match self.slots.get_mut(&opened.id) {
            Some(Slot::Loaded(model)) => {
                let _ = waiter.send(Ok(Arc::clone(model)));
            }
            Some(Slot::Loading(waiters)) => waiters.push(waiter),
            None | Some(Slot::Failed(_)) => match self.make_room(&opened) {
                Ok(()) => {
                    let slot = Slot::Loading(vec![waiter]);
                    self.slots.insert(opened.id.clone(), slot);
                    self.load(opened, ctx);
                }
                Err(error) => {
                    let _ = waiter.send(Err(error));
                }
            },
        }
    }

    fn load(&mut self, opened: Opened, ctx: &mut Context<Self>) {
        tracing::info!(model = %opened.id, about = %opened.about, "loading");
        let started = Instant::now();
        let load = super::worker::Load {
            model: opened.id.clone(),
            build: Arc::clone(&opened.build),
        };
        let reply = self.parents.worker.send(load).into_actor(self);
        ctx.spawn(reply.map(move |outcome, models, _| {
            let lost = || LoadFailure::Lost("the worker's thread is gone".to_owned());
            let outcome = outcome.unwrap_or_else(|_| Err(lost()));
            let took = started.elapsed();
            models.parents.metrics.model_load(outcome.is_ok(), took);
            models.loaded(opened, outcome, took);
        }));
    }

    fn loaded(&mut self, opened: Opened, outcome: Result<Facts, LoadFailure>, took: Duration) {
        let id = opened.id.clone();
        let outcome = match outcome {
            Ok(facts) => {
                let served = Arc::new(self.serve(opened, facts));
                let (bytes, ms) = (served.weight_bytes, took.as_millis() as u64);
                tracing::info!(model = %id, weight_bytes = bytes, ms, "loaded");
                self.parents
                    .metrics
                    .set_model_resident(id.as_str(), bytes as u64);
                self.parents.routes.publish(Arc::clone(&served));
                Ok(served)
            }
            Err(error) => {
                tracing::error!(model = %id, %error, "loading failed");
                Err(failed(id.as_str(), error.to_string()))
            }
        };
        let slot = match &outcome {
            Ok(served) => Slot::Loaded(Arc::clone(served)),
            Err(error) => Slot::Failed(error.clone()),
        };
        if let Some(Slot::Loading(waiters)) = self.slots.insert(id, slot) {
            for waiter in waiters {
                let _ = waiter.send(outcome.clone());
            }
        }
    }

    /// Starts the engine of a model that is on the device.
    fn serve(&self, opened: Opened, facts: Facts) -> ServedModel {
        let status = Arc::new(EngineStatus::default());
        let parts = Parts {
            model: opened.id.clone(),
            build: opened.build,
            scheduler: self.parents.scheduler.clone(),
            kv: self.parents.kv.clone(),
            worker: self.parents.worker.clone(),
            cache: self.parents.cache.clone(),
            status: Arc::clone(&status),
            metrics: self.parents.metrics.clone(),
            sessions: self.parents.sessions.clone(),
        };
        ServedModel {
            id: opened.id,
            tokenizer: opened.tokenizer,
            template: opened.template,
            context: opened.context,
            eos: opened.eos,
            shape: facts.shape,
            kv: self.parents.kv.clone(),
            weight_bytes: facts.weight_bytes,
            about: opened.about,
            loaded_at: SystemTime::now(),
            status,
            engine: Supervisor::start(move |_| Engine::new(parts, facts)),
        }
    }

    /// Unloads idle models, the longest idle first, until `opened` fits.
    fn make_room(&mut self, opened: &Opened) -> Result<(), ModelError> {
        let Some(budget) = self.parents.memory else {
            return Ok(());
        };
        loop {
            let used: usize = self.serving().map(|model| model.weight_bytes).sum();
            let free = budget.saturating_sub(used);
            if opened.weight_bytes <= free {
                return Ok(());
            }
            let idlest = self
                .serving()
                .filter(|model| model.status.idle_for() > Duration::ZERO)
                .max_by_key(|model| model.status.idle_for())
                .map(|model| model.id.clone());
            match idlest {
                Some(id) if opened.weight_bytes <= budget => self.unload(&id, "memory was needed"),
                _ => {
                    return Err(ModelError::NoMemory {
                        model: opened.id.to_string(),
                        needed: opened.weight_bytes,
                        free,
                    });
                }
            }
        }
    }

    fn unload(&mut self, id: &ModelId, reason: &'static str) {
        if let Some(Slot::Loaded(model)) = self.slots.remove(id) {
            tracing::info!(model = %id, reason, "unloading");
            self.parents.routes.withdraw(id);
            self.parents.metrics.model_unloaded(id.as_str());
            model.engine.do_send(Close);
        }
    }

    fn unload_idle(&mut self) {
        let limit = self.parents.keep_alive;
        if limit.is_zero() {
            return;
        }
        let idle: Vec<ModelId> = self
            .serving()
            .filter(|model| model.status.idle_for() > limit)
            .map(|model| model.id.clone())
            .collect();
        for id in idle {
            self.unload(&id, "it was idle for longer than runtime.keep_alive");
        }
    }

    fn serving(&self) -> impl Iterator<Item = &Arc<ServedModel>> {
        self.slots.values().filter_map(|slot| match slot {
            Slot::Loaded(model) => Some(model),
            Slot::Loading(_) | Slot::Failed(_) => None,
        })
    }
}

fn failed(model: &str, reason: String) -> ModelError {
    ModelError::LoadFailed {
        model: model.to_owned(),
        reason,
    }
}

impl Actor for Models {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(TICK, |models, _| models.unload_idle());
    }
}

impl Supervised for Models {
    fn restarting(&mut self, _: &mut Self::Context) {
        tracing::warn!("the models actor was stopped and starts again; loaded models are kept");
        // Replies to loads in flight are lost with the old life: those who wait are told by the dropped channel.
        self.slots
            .retain(|_, slot| !matches!(slot, Slot::Loading(_)));
    }
}

impl Handler<Load> for Models {
    type Result = ();

    fn handle(&mut self, load: Load, ctx: &mut Self::Context) {
        let source = Arc::clone(&self.parents.source);
        let name = load.name.clone();
        // Opening reads files and builds a tokenizer: not on this thread.
        let opening = tokio::task::spawn_blocking(move || source.open(&name)).into_actor(self);
        ctx.spawn(opening.map(move |outcome, models, ctx| {
            let outcome = outcome.unwrap_or_else(|panic| {
                Err(SourceError::Unusable(format!("reading it failed: {panic}")))
            });
            models.opened(outcome, &load.name, load.reply, ctx);
        }));
    }
}

impl Handler<UnloadModel> for Models {
    type Result = Result<(), ModelError>;

    fn handle(&mut self, unload: UnloadModel, _: &mut Self::Context) -> Self::Result {
        match self.slots.get(&unload.id) {
            Some(Slot::Loaded(model)) if model.status.waiting() + model.status.running() > 0 => {
                Err(ModelError::Busy(unload.id.to_string()))
            }
            Some(Slot::Loaded(_)) => {
                self.unload(&unload.id, "it was asked for");
                Ok(())
            }
            _ => Err(ModelError::NotFound(format!(
                "model {} is not loaded",
                unload.id
            ))),
        }
    }
}

impl Handler<States> for Models {
    type Result = Vec<ModelState>;

    fn handle(&mut self, _: States, _: &mut Self::Context) -> Self::Result {
        let state = |(id, slot): (&ModelId, &Slot)| {
            let mut line = ModelState {
                name: id.to_string(),
                state: LoadState::Loading,
                error: None,
                weight_bytes: 0,
                kv_bytes: 0,
                waiting: 0,
                running: 0,
                idle_seconds: 0,
            };
            match slot {
                Slot::Loading(_) => {}
                Slot::Failed(error) => {
                    line.state = LoadState::Failed;
                    line.error = Some(error.to_string());
                }
                Slot::Loaded(model) => {
                    line.state = LoadState::Loaded;
                    line.weight_bytes = model.weight_bytes;
                    line.kv_bytes = model.status.kv_bytes();
                    line.waiting = model.status.waiting();
                    line.running = model.status.running();
                    line.idle_seconds = model.status.idle_for().as_secs();
                }
            }
            line
        };
        self.slots.iter().map(state).collect()
    }
}

impl Handler<DrainAll> for Models {
    type Result = ResponseFuture<bool>;

    fn handle(&mut self, drain: DrainAll, _: &mut Self::Context) -> Self::Result {
        self.draining = true;
        let engines: Vec<_> = self.serving().map(|model| model.engine.clone()).collect();
        let deadline = drain.deadline;
        Box::pin(async move {
            let mut ends = Vec::new();
            for engine in &engines {
                let (done, end) = oneshot::channel();
                engine.do_send(Drain { deadline, done });
                ends.push(end);
            }
            let mut complete = true;
            for end in ends {
                complete &= end.await.unwrap_or(false);
            }
            for engine in engines {
                let _ = engine.send(Close).await;
            }
            complete
        })
    }
}

impl Handler<Restart> for Models {
    type Result = ();

    fn handle(&mut self, _: Restart, ctx: &mut Self::Context) {
        ctx.stop();
    }
}
