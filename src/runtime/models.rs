//! Which models are loaded: loads on demand, each once however many ask; unloads the least recently used when the
//! byte budget is short, and what was idle too long; puts to sleep what may sleep; never a model that is in use.
//!
//! Obeys [`Load`], [`LetGo`], [`States`] and [`DrainAll`]; publishes loaded models in [`Routes`], and tells every change
//! to those who watch.

mod lease;
mod orders;
mod room;
mod slot;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use actix::{
    Actor, ActorContext, ActorFutureExt, Addr, AsyncContext, Context, Handler, ResponseFuture,
    Supervised, Supervisor, WrapFuture,
};
use tokio::sync::{broadcast, oneshot};

pub(super) use lease::Lend;
pub(super) use orders::{DrainAll, How, LetGo, Load, States};

use super::Config;
use super::cache::Cache;
use super::device::Device;
use super::engine::{Engine, Parts};
use super::load_state::{LoadState, ModelError, ModelEvent, ModelState};
use super::orders::{Close, Drain};
use super::replica::{Replica, ReplicaId};
use super::restart::Restart;
use super::routes::{EngineStatus, Routes};
use super::served::{Held, ServedModel, Usage};
use super::sessions::Sessions;
use super::source::{Builder, ModelSource, Opened, SourceError};
use super::worker::{Facts, LoadFailure, Sleep, Unload};
use crate::ids::ModelId;
use crate::sample::Grammars;
use crate::telemetry::{Metrics, Steps};
use crate::{kv, sched};
use orders::Waiter;
use room::{Tenant, make_room};
use slot::{Loading, Slot, line};

/// How often idle models are looked for, and progress is told.
const TICK: Duration = Duration::from_millis(100);
/// Progress is told in steps of this.
const STEP: f64 = 0.01;

/// What the models actor hands down.
pub(super) struct Parents {
    pub(super) source: Arc<dyn ModelSource>,
    pub(super) worker: Device,
    pub(super) steps: Steps,
    pub(super) cache: Addr<Cache>,
    pub(super) routes: Routes,
    pub(super) metrics: Metrics,
    pub(super) sessions: Sessions,
    pub(super) scheduler: sched::Config,
    pub(super) kv: kv::Config,
    pub(super) config: Config,
    pub(super) watchers: broadcast::Sender<ModelEvent>,
}

/// See the module.
pub(super) struct Models {
    parents: Parents,
    slots: BTreeMap<ModelId, Slot>,
    loads: u64,
    /// Bytes of the budget that a training run has.
    reserved: usize,
    draining: bool,
}

impl Models {
    pub(super) fn new(parents: Parents) -> Self {
        Models {
            parents,
            slots: BTreeMap::new(),
            loads: 0,
            reserved: 0,
            draining: false,
        }
    }

    /// Answers, or lets wait, whoever asks for a model that is not just on disk. Gives the waiter back for one that is.
    fn known(&mut self, id: &ModelId, waiter: Waiter, ctx: &mut Context<Self>) -> Option<Waiter> {
        if self.draining {
            let _ = waiter.send(Err(ModelError::ShuttingDown));
            return None;
        }
        match self.slots.get_mut(id) {
            Some(Slot::Loaded(model)) => {
                let _ = waiter.send(Ok(Held::new(model)));
            }
            Some(Slot::Loading(loading)) => loading.waiters.push(waiter),
            Some(Slot::Sleeping(model)) => {
                let model = Arc::clone(model);
                self.wake(model, waiter, ctx);
            }
            None | Some(Slot::Failed(_)) => return Some(waiter),
        }
        None
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
        let Some(waiter) = self.known(&opened.id, waiter, ctx) else {
            return;
        };
        match self.make_room(opened.weight_bytes) {
            Ok(closed) => self.load(opened, waiter, closed, ctx),
            Err(free) => {
                let _ = waiter.send(Err(no_memory(&opened.id, opened.weight_bytes, free)));
            }
        }
    }

    fn load(
        &mut self,
        opened: Opened,
        waiter: Waiter,
        closed: Vec<Addr<Engine>>,
        ctx: &mut Context<Self>,
    ) {
        let id = opened.id.clone();
        tracing::info!(model = %id, about = %opened.about, "loading");
        self.loads += 1;
        let replicas = self.parents.config.keeping(&id).replicas;
        let replica = |place| ReplicaId {
            model: id.clone(),
            load: self.loads,
            place,
        };
        let replicas: Vec<ReplicaId> = (0..replicas).map(replica).collect();
        let slot = Slot::Loading(Loading {
            waiters: vec![waiter],
            bytes: opened.weight_bytes,
            fraction: None,
            replicas: replicas.clone(),
            asleep: None,
        });
        self.put(&id, slot);
        let started = Instant::now();
        let worker = self.parents.worker.clone();
        let build = Arc::clone(&opened.build);
        let putting = put_all(worker, closed, replicas, build, How::Unload);
        ctx.spawn(
            putting
                .into_actor(self)
                .map(move |outcome, models, _| models.loaded(opened, outcome, started.elapsed())),
        );
    }

    fn loaded(
        &mut self,
        opened: Opened,
        outcome: Result<Vec<(ReplicaId, Facts)>, LoadFailure>,
        took: Duration,
    ) {
        let id = opened.id.clone();
        self.parents.metrics.model_load(outcome.is_ok(), took);
        let outcome = outcome
            .and_then(|replicas| self.serve(opened, replicas))
            .map_err(|error| {
                tracing::error!(model = %id, %error, "loading failed");
                failed(id.as_str(), error.to_string())
            });
        match outcome {
            Ok(model) => {
                let (bytes, ms) = (model.weight_bytes, took.as_millis() as u64);
                let replicas = model.replicas.len();
                tracing::info!(model = %id, weight_bytes = bytes, replicas, ms, "loaded");
                self.publish(model);
            }
            Err(error) => {
                let before = self.put(&id, Slot::Failed(error.clone()));
                answer(before, |_| Err(error.clone()));
            }
        }
    }

    /// A model is on the device and serves.
    fn publish(&mut self, model: Arc<ServedModel>) {
        let metrics = &self.parents.metrics;
        metrics.set_model(
            model.id.as_str(),
            model.weight_bytes as u64,
            model.replicas.len(),
        );
        self.parents.routes.publish(Arc::clone(&model));
        let before = self.put(&model.id, Slot::Loaded(Arc::clone(&model)));
        answer(before, |_| Ok(Held::new(&model)));
    }

    /// Starts the engines of a model that is on the device.
    fn serve(
        &self,
        opened: Opened,
        replicas: Vec<(ReplicaId, Facts)>,
    ) -> Result<Arc<ServedModel>, LoadFailure> {
        let Some(&(_, facts)) = replicas.first() else {
            return Err(LoadFailure::Lost("it has no replica".to_owned()));
        };
        let start = |(id, facts): (ReplicaId, Facts)| {
            let status = Arc::new(EngineStatus::default());
            let parts = Parts {
                model: id.clone(),
                build: Arc::clone(&opened.build),
                scheduler: self.parents.scheduler.clone(),
                kv: self.parents.kv.clone(),
                worker: self.parents.worker.clone(),
                cache: self.parents.cache.clone(),
                status: Arc::clone(&status),
                metrics: self.parents.metrics.clone(),
                steps: self.parents.steps.clone(),
                sessions: self.parents.sessions.clone(),
            };
            Replica {
                id,
                status,
                engine: Supervisor::start(move |_| Engine::new(parts, facts)),
            }
        };
        let replicas = replicas.into_iter().map(start).collect();
        let keeping = self.parents.config.keeping(&opened.id);
        Ok(Arc::new(ServedModel {
            id: opened.id,
            grammars: Grammars::new(opened.tokenizer.clone(), opened.eos.clone()),
            tokenizer: opened.tokenizer,
            template: opened.template,
            context: opened.context,
            eos: opened.eos,
            shape: facts.shape,
            kv: self.parents.kv.clone(),
            weight_bytes: facts.weight_bytes,
            about: opened.about,
            loaded_at: SystemTime::now(),
            keeping,
            build: opened.build,
            replicas,
            router: Mutex::new(keeping.router.router()),
            usage: Usage::default(),
        }))
    }

    /// Puts the weights of a sleeping model on the device again.
    fn wake(&mut self, model: Arc<ServedModel>, waiter: Waiter, ctx: &mut Context<Self>) {
        let closed = match self.make_room(model.weight_bytes) {
            Ok(closed) => closed,
            Err(free) => {
                let _ = waiter.send(Err(no_memory(&model.id, model.weight_bytes, free)));
                return;
            }
        };
        tracing::info!(model = %model.id, "waking");
        let replicas: Vec<ReplicaId> = model.replicas.iter().map(|r| r.id.clone()).collect();
        let slot = Slot::Loading(Loading {
            waiters: vec![waiter],
            bytes: model.weight_bytes,
            fraction: None,
            replicas: replicas.clone(),
            asleep: Some(Arc::clone(&model)),
        });
        self.put(&model.id, slot);
        let started = Instant::now();
        let worker = self.parents.worker.clone();
        let build = Arc::clone(&model.build);
        let putting = put_all(worker, closed, replicas, build, How::Sleep);
        ctx.spawn(
            putting
                .into_actor(self)
                .map(move |outcome, models, _| models.woken(model, outcome, started.elapsed())),
        );
    }

    fn woken(
        &mut self,
        model: Arc<ServedModel>,
        outcome: Result<Vec<(ReplicaId, Facts)>, LoadFailure>,
        took: Duration,
    ) {
        self.parents.metrics.model_woken(outcome.is_ok(), took);
        match outcome {
            Ok(replicas) => {
                let lost = replicas.iter().filter(|(_, facts)| !facts.resumed);
                for (replica, _) in lost {
                    tracing::warn!(model = %replica, "its sessions were lost while it slept");
                    self.parents.sessions.lost(replica);
                }
                let ms = took.as_millis() as u64;
                tracing::info!(model = %model.id, ms, "awake");
                self.publish(model);
            }
            Err(error) => {
                tracing::error!(model = %model.id, %error, "waking failed: it sleeps on");
                let error = failed(model.id.as_str(), error.to_string());
                let before = self.put(&model.id.clone(), Slot::Sleeping(model));
                answer(before, |_| Err(error.clone()));
            }
        }
    }

    /// Has the worker drop a model's weights and keep the rest.
    fn rest(&self, model: &ServedModel) {
        for replica in &model.replicas {
            self.parents.worker.do_send(Sleep {
                model: replica.id.clone(),
            });
        }
    }

    /// Lets go of idle models, the longest idle first, until `needed` bytes fit. Returns engines that are to be closed
    /// before anything is loaded, or else how many bytes are free.
    fn make_room(&mut self, needed: usize) -> Result<Vec<Addr<Engine>>, usize> {
        let Some(budget) = self.parents.config.memory else {
            return Ok(Vec::new());
        };
        let budget = usize::try_from(budget.bytes()).unwrap_or(usize::MAX);
        let budget = budget.saturating_sub(self.reserved);
        let mut closed = Vec::new();
        loop {
            let going = match make_room(needed, budget, &self.tenants()) {
                Ok(going) => going,
                Err(free) => {
                    // One was taken up meanwhile; those that went are in no table any more.
                    close(closed);
                    return Err(free);
                }
            };
            if going.is_empty() {
                return Ok(closed);
            }
            for id in going {
                // One that was taken up meanwhile is in use by the next look.
                closed.extend(self.evict(&id));
            }
        }
    }

    fn tenants(&self) -> Vec<Tenant> {
        let tenant = |(id, slot): (&ModelId, &Slot)| {
            let (bytes, idle) = match slot {
                Slot::Loading(loading) => (loading.bytes, None),
                Slot::Loaded(model) => (model.weight_bytes, model.idle_for()),
                Slot::Sleeping(_) | Slot::Failed(_) => return None,
            };
            Some(Tenant {
                id: id.clone(),
                bytes,
                idle,
            })
        };
        self.slots.iter().filter_map(tenant).collect()
    }

    /// Takes an idle model from memory, in the way that it is kept.
    fn evict(&mut self, id: &ModelId) -> Vec<Addr<Engine>> {
        let reason = Reason::Memory;
        let sleeps = matches!(self.slots.get(id), Some(Slot::Loaded(model))
            if model.keeping.sleep_after != super::KeepAlive::Forever);
        if sleeps {
            self.sleep(id, reason);
            return Vec::new();
        }
        self.take_out(id, reason)
    }

    /// Drops the weights of a model that nobody uses. Returns whether it sleeps.
    fn sleep(&mut self, id: &ModelId, reason: Reason) -> bool {
        let Some(Slot::Loaded(model)) = self.slots.get(id) else {
            return false;
        };
        let model = Arc::clone(model);
        if !self.parents.routes.withdraw(&model) {
            return false;
        }
        tracing::info!(model = %id, reason = reason.text(), "put to sleep");
        self.rest(&model);
        let metrics = &self.parents.metrics;
        metrics.model_slept(id.as_str(), reason.name());
        self.put(id, Slot::Sleeping(model));
        true
    }

    /// Forgets a model that nobody uses. Returns its engines, which hold its memory until they are closed.
    fn take_out(&mut self, id: &ModelId, reason: Reason) -> Vec<Addr<Engine>> {
        let model = match self.slots.get(id) {
            Some(Slot::Loaded(model)) if self.parents.routes.withdraw(model) => Arc::clone(model),
            Some(Slot::Sleeping(model)) => Arc::clone(model),
            _ => return Vec::new(),
        };
        tracing::info!(model = %id, reason = reason.text(), "unloading");
        self.slots.remove(id);
        self.parents
            .metrics
            .model_unloaded(id.as_str(), reason.name());
        self.tell(ModelState::new(id.as_str(), LoadState::Unloaded));
        model.replicas.iter().map(|r| r.engine.clone()).collect()
    }

    fn unload(&mut self, id: &ModelId, reason: Reason) -> bool {
        let engines = self.take_out(id, reason);
        let taken = !engines.is_empty();
        close(engines);
        taken
    }

    /// Lets go of what was idle for long enough, and tells how far loads are.
    fn look(&mut self) {
        let mut ends = Vec::new();
        for (id, slot) in &self.slots {
            let (Slot::Loaded(model) | Slot::Sleeping(model)) = slot else {
                continue;
            };
            let Some(idle) = model.idle_for() else {
                continue;
            };
            let awake = matches!(slot, Slot::Loaded(_));
            if model.keep_alive().is_over(idle) {
                ends.push((id.clone(), How::Unload));
            } else if awake && model.keeping.sleep_after.is_over(idle) {
                ends.push((id.clone(), How::Sleep));
            }
        }
        for (id, how) in ends {
            match how {
                How::Unload => self.unload(&id, Reason::Idle),
                How::Sleep => self.sleep(&id, Reason::Idle),
            };
        }
        self.tell_progress();
    }

    fn tell_progress(&mut self) {
        let mut told = Vec::new();
        for (id, slot) in &mut self.slots {
            let Slot::Loading(loading) = slot else {
                continue;
            };
            let Some(read) = self.parents.source.progress(id) else {
                continue;
            };
            if loading.fraction.is_none_or(|before| read - before >= STEP) {
                loading.fraction = Some(read);
                told.push(line(id, slot));
            }
        }
        for state in told {
            self.tell(state);
        }
    }

    /// Moves a model to another state, and tells it. Returns what it was.
    fn put(&mut self, id: &ModelId, slot: Slot) -> Option<Slot> {
        let state = line(id, &slot);
        let before = self.slots.insert(id.clone(), slot);
        self.tell(state);
        before
    }

    fn tell(&self, state: ModelState) {
        // Fails only when nobody watches.
        let _ = self
            .parents
            .watchers
            .send(ModelEvent::State(Box::new(state)));
    }

    fn state(&self, id: &ModelId) -> ModelState {
        match self.slots.get(id) {
            Some(slot) => line(id, slot),
            None => ModelState::new(id.as_str(), LoadState::Unloaded),
        }
    }
}

/// Why a model is let go of.
#[derive(Debug, Clone, Copy)]
enum Reason {
    Asked,
    Idle,
    Memory,
}

impl Reason {
    /// For metrics.
    fn name(self) -> &'static str {
        match self {
            Reason::Asked => "asked",
            Reason::Idle => "idle",
            Reason::Memory => "memory",
        }
    }

    /// For the log.
    fn text(self) -> &'static str {
        match self {
            Reason::Asked => "it was asked for",
            Reason::Idle => "nobody used it for as long as it is kept",
            Reason::Memory => "memory was needed",
        }
    }
}

/// Puts replicas on the device, once the engines of others are closed: two models may be more than fits. All of them,
/// or none: then those that were put there are unloaded or put to sleep again.
async fn put_all(
    worker: Device,
    closed: Vec<Addr<Engine>>,
    replicas: Vec<ReplicaId>,
    build: Builder,
    undo: How,
) -> Result<Vec<(ReplicaId, Facts)>, LoadFailure> {
    for engine in closed {
        // An engine that is gone has nothing to close.
        let _ = engine.send(Close).await;
    }
    let mut done: Vec<(ReplicaId, Facts)> = Vec::new();
    for replica in replicas {
        let load = super::worker::Load {
            model: replica.clone(),
            build: Arc::clone(&build),
        };
        let sent = worker.send(load).await;
        match sent.unwrap_or_else(|gone| Err(LoadFailure::Lost(gone.to_string()))) {
            Ok(facts) => done.push((replica, facts)),
            Err(error) => {
                for (model, _) in done {
                    match undo {
                        How::Unload => worker.do_send(Unload { model }),
                        How::Sleep => worker.do_send(Sleep { model }),
                    }
                }
                return Err(error);
            }
        }
    }
    Ok(done)
}

fn close(engines: Vec<Addr<Engine>>) {
    for engine in engines {
        engine.do_send(Close);
    }
}

fn answer(before: Option<Slot>, reply: impl Fn(&Waiter) -> Result<Held, ModelError>) {
    if let Some(Slot::Loading(loading)) = before {
        for waiter in loading.waiters {
            let told = reply(&waiter);
            let _ = waiter.send(told);
        }
    }
}

fn no_memory(model: &ModelId, needed: usize, free: usize) -> ModelError {
    ModelError::NoMemory {
        model: model.to_string(),
        needed,
        free,
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
        ctx.run_interval(TICK, |models, _| models.look());
    }
}

impl Supervised for Models {
    fn restarting(&mut self, _: &mut Self::Context) {
        tracing::warn!("the models actor was stopped and starts again; loaded models are kept");
        // Replies to loads in flight are lost with the old life: those who wait are told by the dropped channel.
        for (id, slot) in std::mem::take(&mut self.slots) {
            match slot {
                Slot::Loading(loading) => match loading.asleep {
                    Some(model) => {
                        self.rest(&model);
                        self.put(&id, Slot::Sleeping(model));
                    }
                    None => {
                        for model in loading.replicas {
                            self.parents.worker.do_send(Unload { model });
                        }
                        self.tell(ModelState::new(id.as_str(), LoadState::Unloaded));
                    }
                },
                other => {
                    self.slots.insert(id, other);
                }
            }
        }
    }
}

impl Handler<Load> for Models {
    type Result = ();

    fn handle(&mut self, load: Load, ctx: &mut Self::Context) {
        let Load { name, reply } = load;
        let reply = match name.parse() {
            Ok(id) => match self.known(&id, reply, ctx) {
                Some(reply) => reply,
                None => return,
            },
            Err(_) => reply,
        };
        let source = Arc::clone(&self.parents.source);
        let wanted = name.clone();
        // Opening reads files and builds a tokenizer: not on this thread.
        let opening = tokio::task::spawn_blocking(move || source.open(&wanted)).into_actor(self);
        ctx.spawn(opening.map(move |outcome, models, ctx| {
            let outcome = outcome.unwrap_or_else(|panic| {
                Err(SourceError::Unusable(format!("reading it failed: {panic}")))
            });
            models.opened(outcome, &name, reply, ctx);
        }));
    }
}

impl Handler<LetGo> for Models {
    type Result = Result<ModelState, ModelError>;

    fn handle(&mut self, order: LetGo, _: &mut Self::Context) -> Self::Result {
        let LetGo { id, how } = order;
        let busy = || Err(ModelError::Busy(id.to_string()));
        let wrong = |state| {
            let model = id.to_string();
            let wanted = LoadState::Loaded.name();
            Err(ModelError::WrongState {
                model,
                state,
                wanted,
            })
        };
        let done = match (self.slots.get(&id), how) {
            (Some(Slot::Loading(_)), _) => return busy(),
            (Some(Slot::Loaded(_)), How::Sleep) => self.sleep(&id, Reason::Asked),
            (Some(Slot::Sleeping(_)), How::Sleep) => true,
            (Some(Slot::Loaded(_) | Slot::Sleeping(_)), How::Unload) => {
                self.unload(&id, Reason::Asked)
            }
            (Some(Slot::Failed(_)), How::Sleep) => return wrong(LoadState::Failed.name()),
            (None, How::Sleep) => return wrong(LoadState::Unloaded.name()),
            (None | Some(Slot::Failed(_)), How::Unload) => {
                let text = format!("model {id} is not loaded");
                return Err(ModelError::NotFound(text));
            }
        };
        match done {
            true => Ok(self.state(&id)),
            false => busy(),
        }
    }
}

impl Handler<States> for Models {
    type Result = Vec<ModelState>;

    fn handle(&mut self, _: States, _: &mut Self::Context) -> Self::Result {
        self.slots.iter().map(|(id, slot)| line(id, slot)).collect()
    }
}

impl Handler<DrainAll> for Models {
    type Result = ResponseFuture<bool>;

    fn handle(&mut self, drain: DrainAll, _: &mut Self::Context) -> Self::Result {
        self.draining = true;
        let _ = self.parents.watchers.send(ModelEvent::Closing);
        for slot in self.slots.values_mut() {
            if let Slot::Loading(loading) = slot {
                for waiter in loading.waiters.drain(..) {
                    let _ = waiter.send(Err(ModelError::ShuttingDown));
                }
            }
        }
        let all = self.slots.values().filter_map(|slot| match slot {
            Slot::Loaded(model) | Slot::Sleeping(model) => Some(model),
            Slot::Loading(loading) => loading.asleep.as_ref(),
            Slot::Failed(_) => None,
        });
        let engines: Vec<_> = all
            .flat_map(|model| model.replicas.iter().map(|r| r.engine.clone()))
            .collect();
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
