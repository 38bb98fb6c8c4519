//! Starting all actors, leaf first, and stopping them, root first.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix::{Addr, Supervisor};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::Config;
use super::answer::Answer;
use super::audit::{Append, Audit};
use super::cache::Cache;
use super::device::Device;
use super::heap::one_arena;
use super::load_state::{LoadState, ModelError, ModelEvent, ModelState};
use super::models::{DrainAll, How, LetGo, Load, Models, Parents, States};
use super::monitor::{Monitor, Snapshot, Watched};
use super::orders::Submit;
use super::restart::Restart;
use super::routes::Routes;
use super::runs::{Runs, Training};
use super::served::{Held, ServedModel};
use super::sessions::Sessions;
use super::source::ModelSource;
use super::trainer::{self, Trainer};
use super::watchdog::{Vitals, Watchdog};
use crate::ids::ModelId;
use crate::sample::StopMatcher;
use crate::sched::{Busy, OfPrompt, Request};
use crate::store::Home;
use crate::store::Library;
use crate::telemetry::{AuditLog, Metrics, Place, Record, Steps, Traces};
use crate::{kv, sched};

/// Changes of models that one who watches may fall behind by.
const WATCHED: usize = 256;

/// The settings that the runtime reads.
#[derive(Debug, Clone, Default)]
pub struct Sections {
    /// `[runtime]`.
    pub runtime: Config,
    /// `[scheduler]`.
    pub scheduler: sched::Config,
    /// `[kv]`.
    pub kv: kv::Config,
    /// Whether resource samples are logged.
    pub log_samples: bool,
    /// A folder on the disk to watch: where the program writes.
    pub folder: PathBuf,
    /// Where traces go.
    pub traces: Traces,
    /// What training runs need; absent in a process that trains nothing.
    pub training: Option<Training>,
}

/// The running actors. Cloning shares them.
#[derive(Clone)]
pub struct Runtime(Arc<Inner>);

struct Inner {
    config: Config,
    source: Arc<dyn ModelSource>,
    models: Addr<Models>,
    cache: Addr<Cache>,
    monitor: Addr<Monitor>,
    audit: Option<Addr<Audit>>,
    routes: Routes,
    sessions: Sessions,
    runs: Runs,
    metrics: Metrics,
    newest: watch::Receiver<Snapshot>,
    watchers: broadcast::Sender<ModelEvent>,
    draining: AtomicBool,
    vitals: Vitals,
    steps: Steps,
    traces: Traces,
    kv_total: u64,
    evaluations: PathBuf,
    _watchdog: Watchdog,
}

/// Starts the actors. Must run inside of an actix system. `audit` is absent for a one-shot command.
pub fn boot(
    sections: Sections,
    source: Arc<dyn ModelSource>,
    audit: Option<AuditLog>,
    metrics: Metrics,
) -> Runtime {
    one_arena();
    let worker = Device::start(metrics.clone());
    let steps = Steps::default();
    let total = usize::try_from(sections.kv.total_bytes.bytes()).unwrap_or(usize::MAX);
    let cache = Supervisor::start(move |_| Cache::new(total));
    let audit = audit.map(|log| Supervisor::start(move |_| Audit::new(log)));
    let routes = Routes::default();
    let sessions = Sessions::default();
    let (send, newest) = watch::channel(None);
    let (watchers, _) = broadcast::channel(WATCHED);
    let evaluations = Home::at(&sections.folder).evaluations();
    let watched = Watched {
        interval: sections.runtime.monitor_interval.get(),
        folder: sections.folder,
        log_samples: sections.log_samples,
        routes: routes.clone(),
        cache: cache.clone(),
        worker: worker.clone(),
        metrics: metrics.clone(),
        newest: send,
        kv_total: total as u64,
    };
    let vitals = Vitals {
        device: worker.clone(),
        routes: routes.clone(),
        limit: sections.runtime.stall_timeout.get(),
    };
    let monitor = Supervisor::start(move |_| Monitor::new(watched));
    let parents = Parents {
        source: Arc::clone(&source),
        worker,
        steps: steps.clone(),
        cache: cache.clone(),
        routes: routes.clone(),
        metrics: metrics.clone(),
        sessions: sessions.clone(),
        scheduler: sections.scheduler,
        kv: sections.kv,
        config: sections.runtime.clone(),
        watchers: watchers.clone(),
    };
    let models = Supervisor::start(move |_| Models::new(parents));
    let runs = match sections.training {
        None => Runs::off(),
        Some(training) => {
            let (send, changes) = watch::channel(0);
            let parts = trainer::Parts {
                library: training.library.clone(),
                models: models.clone(),
                threads: 0,
            };
            let trainer = Supervisor::start(move |_| Trainer::new(parts, send));
            Runs::new(training, trainer, changes)
        }
    };
    Runtime(Arc::new(Inner {
        config: sections.runtime,
        source,
        models,
        cache,
        monitor,
        audit,
        routes,
        sessions,
        runs,
        metrics,
        newest,
        watchers,
        draining: AtomicBool::new(false),
        _watchdog: Watchdog::start(vitals.clone()),
        vitals,
        steps,
        traces: sections.traces,
        kv_total: total as u64,
        evaluations,
    }))
}

impl Runtime {
    /// The model of this name, loaded if it is not yet, woken if it sleeps; the default model for `None`. It is not
    /// unloaded while it is held.
    pub async fn model(&self, name: Option<&str>) -> Result<Held, ModelError> {
        if self.draining() {
            return Err(ModelError::ShuttingDown);
        }
        let name = name.unwrap_or(&self.0.config.default_model);
        if let Some(model) = name
            .parse()
            .ok()
            .and_then(|id: ModelId| self.0.routes.get(&id))
        {
            return Ok(model);
        }
        let (reply, loaded) = oneshot::channel();
        self.0.models.do_send(Load {
            name: name.to_owned(),
            reply,
        });
        loaded.await.unwrap_or_else(|_| {
            Err(ModelError::LoadFailed {
                model: name.to_owned(),
                reason: "the models actor was stopped and starts again: try once more".to_owned(),
            })
        })
    }

    /// Submits a request. The answer is cancelled by dropping it.
    pub async fn generate(
        &self,
        model: &ServedModel,
        request: Request,
        stop: StopMatcher,
    ) -> Result<Answer, Busy> {
        // A token each and the end, and of a prompt at most one a token: no event is ever refused for want of room.
        let told = match request.of_prompt {
            OfPrompt::Nothing => 0,
            OfPrompt::Logprobs | OfPrompt::States => request.prompt.len(),
        };
        let (reply, events) = mpsc::channel(request.max_tokens + told + 1);
        let session = request.session.as_ref().map(|session| &session.session);
        let home = session.and_then(|session| self.0.sessions.home(&model.id, session));
        let Some(replica) = model.choose(&request, home.as_ref()) else {
            return Err(Busy::Draining);
        };
        if let Some(session) = session {
            self.0.sessions.settle(session, &replica.id);
        }
        let policy = model.keeping.router.name();
        self.0.metrics.routed(policy, Place::Local);
        let coming = replica.status.expect(request.prompt.len());
        let submitted = replica.engine.send(Submit { request, reply }).await;
        drop(coming);
        let seq = submitted.unwrap_or(Err(Busy::Draining))?;
        Ok(Answer::new(
            seq,
            replica.engine.clone(),
            events,
            &model.tokenizer,
            stop,
        ))
    }

    /// Conversations whose caches outlive their requests.
    pub fn sessions(&self) -> &Sessions {
        &self.0.sessions
    }

    /// Training runs.
    pub fn runs(&self) -> &Runs {
        &self.0.runs
    }

    /// Loaded models, by name.
    pub fn loaded(&self) -> Vec<Arc<ServedModel>> {
        self.0.routes.all()
    }

    /// The names of all models that could be loaded.
    pub async fn installed(&self) -> Vec<ModelId> {
        let source = Arc::clone(&self.0.source);
        // Listing reads a folder: not on this thread.
        let listing = tokio::task::spawn_blocking(move || source.names());
        listing.await.unwrap_or_default()
    }

    /// The models on disk; `None` when they come from elsewhere.
    pub fn library(&self) -> Option<&Library> {
        self.0.source.library()
    }

    /// All models that are loaded, loading, sleeping or failed.
    pub async fn states(&self) -> Vec<ModelState> {
        self.0.models.send(States).await.unwrap_or_default()
    }

    /// What one model is doing; one that is on disk only is unloaded, and so is one that is not there.
    pub async fn state(&self, id: &ModelId) -> ModelState {
        let states = self.states().await;
        let found = states.into_iter().find(|state| state.name == id.as_str());
        found.unwrap_or_else(|| ModelState::new(id.as_str(), LoadState::Unloaded))
    }

    /// What this process has to do for a model, as routers see it; nothing for one that is not loaded.
    pub fn load_of(&self, id: &ModelId) -> super::router::Load {
        let model = self.0.routes.all().into_iter().find(|m| m.id == *id);
        let idle = super::router::Load::idle();
        model.map_or(idle, |model| super::router::Load {
            waiting_tokens: model.replicas.iter().map(|r| r.load().waiting_tokens).sum(),
            running: model.running(),
            ..idle
        })
    }

    /// Every change of a model's state from now on.
    pub fn watch(&self) -> broadcast::Receiver<ModelEvent> {
        self.0.watchers.subscribe()
    }

    /// Unloads an idle model, loaded or asleep; its sessions end.
    pub async fn unload(&self, id: ModelId) -> Result<ModelState, ModelError> {
        let how = How::Unload;
        let order = LetGo {
            id: id.clone(),
            how,
        };
        let unloaded = self.0.models.send(order).await;
        match unloaded.unwrap_or(Err(ModelError::ShuttingDown)) {
            Err(ModelError::NotFound(_)) if self.installed().await.contains(&id) => {
                Ok(ModelState::new(id.as_str(), LoadState::Unloaded))
            }
            outcome => outcome,
        }
    }

    /// Drops the weights of an idle model and keeps its sessions: the next request wakes it.
    pub async fn sleep(&self, id: ModelId) -> Result<ModelState, ModelError> {
        let how = How::Sleep;
        let slept = self.0.models.send(LetGo { id, how }).await;
        slept.unwrap_or(Err(ModelError::ShuttingDown))
    }

    /// Wakes a model that sleeps.
    pub async fn wake(&self, id: ModelId) -> Result<ModelState, ModelError> {
        let state = self.state(&id).await.state;
        if !matches!(state, LoadState::Sleeping | LoadState::Loaded) {
            return Err(ModelError::WrongState {
                model: id.to_string(),
                state: state.name(),
                wanted: LoadState::Sleeping.name(),
            });
        }
        self.model(Some(id.as_str())).await?;
        Ok(self.state(&id).await)
    }

    /// Appends to the audit record, if there is one.
    pub fn audit(&self, record: Record) {
        if let Some(audit) = &self.0.audit {
            audit.do_send(Append(record));
        }
    }

    /// The counters.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// The newest sample of the machine.
    pub fn newest_sample(&self) -> Snapshot {
        self.0.newest.borrow().clone()
    }

    /// The most bytes of KV cache that there may be.
    pub fn kv_total(&self) -> u64 {
        self.0.kv_total
    }

    /// The folder of kept results of evaluations.
    pub fn evaluations(&self) -> &Path {
        &self.0.evaluations
    }

    /// The `[runtime]` settings.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// Whether a shutdown has begun.
    pub fn draining(&self) -> bool {
        self.0.draining.load(Ordering::Acquire)
    }

    /// What does not move, if anything: a step that takes longer than the stall timeout, an engine whose loop stands
    /// still, a model that could not be loaded again. Asks nobody, and so answers whatever hangs.
    pub fn unhealthy(&self) -> Option<String> {
        self.0.vitals.stuck()
    }

    /// A model that is being put on its device again, after that was lost.
    pub fn reloading(&self) -> Option<ModelId> {
        let models = self.loaded();
        let reloading = models.iter().find(|model| model.reloading());
        reloading.map(|model| model.id.clone())
    }

    /// The counters as text, with the gauges as they are now.
    pub fn scrape(&self) -> String {
        let models = self.loaded();
        let sum =
            |of: fn(&ServedModel) -> usize| -> usize { models.iter().map(|model| of(model)).sum() };
        let kv_bytes = sum(ServedModel::kv_bytes);
        let metrics = &self.0.metrics;
        metrics.set_kv(kv_bytes as u64, self.0.kv_total);
        metrics.set_queue_depth(sum(ServedModel::waiting));
        metrics.set_running(sum(ServedModel::running));
        metrics.set_heartbeat_age(self.0.vitals.age());
        metrics.encode()
    }

    /// What engines tell of their steps, on demand.
    pub fn steps(&self) -> &Steps {
        &self.0.steps
    }

    /// Where traces of requests go.
    pub fn traces(&self) -> &Traces {
        &self.0.traces
    }

    /// Stops and restarts every supervised actor, as a fault would. For tests of what survives.
    pub async fn restart_all(&self) {
        for model in self.loaded() {
            for replica in &model.replicas {
                let _ = replica.engine.send(Restart).await;
            }
        }
        self.0.runs.restart().await;
        let _ = self.0.models.send(Restart).await;
        let _ = self.0.cache.send(Restart).await;
        let _ = self.0.monitor.send(Restart).await;
        if let Some(audit) = &self.0.audit {
            let _ = audit.send(Restart).await;
        }
    }

    /// Finishes what runs, at most until `deadline`, and frees the models; a training run is saved and stopped meanwhile.
    /// Returns whether all was finished.
    ///
    /// The caller keeps its listener open meanwhile, so that new requests are told that the server stops, closes it
    /// after, and stops the system last.
    pub async fn shutdown(&self, deadline: Duration) -> bool {
        self.0.draining.store(true, Ordering::Release);
        let models = self.0.models.send(DrainAll { deadline });
        let (drained, left) = tokio::join!(models, self.0.runs.leave(deadline));
        drained.unwrap_or(false) && left
    }
}
