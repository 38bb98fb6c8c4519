//! Starting all actors, leaf first, and stopping them, root first.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix::{Addr, Supervisor, SyncArbiter};
use tokio::sync::{mpsc, oneshot, watch};

use super::Config;
use super::answer::Answer;
use super::audit::{Append, Audit};
use super::cache::Cache;
use super::load_state::{ModelError, ModelState};
use super::models::{DrainAll, Load, Models, Parents, States, UnloadModel};
use super::monitor::{Monitor, Snapshot, Watched};
use super::orders::Submit;
use super::restart::Restart;
use super::routes::{Routes, ServedModel};
use super::sessions::Sessions;
use super::source::ModelSource;
use super::worker::Worker;
use crate::ids::ModelId;
use crate::sample::StopMatcher;
use crate::sched::{Busy, Request};
use crate::telemetry::{AuditLog, Metrics, Record};
use crate::{kv, sched};

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
    metrics: Metrics,
    newest: watch::Receiver<Snapshot>,
    draining: AtomicBool,
}

/// Starts the actors. Must run inside of an actix system. `audit` is absent for a one-shot command.
pub fn boot(
    sections: Sections,
    source: Arc<dyn ModelSource>,
    audit: Option<AuditLog>,
    metrics: Metrics,
) -> Runtime {
    let counted = metrics.clone();
    let worker = SyncArbiter::start(1, move || Worker::new(counted.clone()));
    let total = usize::try_from(sections.kv.total_bytes.bytes()).unwrap_or(usize::MAX);
    let counted = metrics.clone();
    let cache = Supervisor::start(move |_| Cache::new(total, counted));
    let audit = audit.map(|log| Supervisor::start(move |_| Audit::new(log)));
    let routes = Routes::default();
    let sessions = Sessions::default();
    let (send, newest) = watch::channel(None);
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
    let monitor = Supervisor::start(move |_| Monitor::new(watched));
    let parents = Parents {
        source: Arc::clone(&source),
        worker,
        cache: cache.clone(),
        routes: routes.clone(),
        metrics: metrics.clone(),
        sessions: sessions.clone(),
        scheduler: sections.scheduler,
        kv: sections.kv,
        memory: sections
            .runtime
            .memory
            .map(|bytes| usize::try_from(bytes.bytes()).unwrap_or(usize::MAX)),
        keep_alive: sections.runtime.keep_alive.get(),
    };
    let models = Supervisor::start(move |_| Models::new(parents));
    Runtime(Arc::new(Inner {
        config: sections.runtime,
        source,
        models,
        cache,
        monitor,
        audit,
        routes,
        sessions,
        metrics,
        newest,
        draining: AtomicBool::new(false),
    }))
}

impl Runtime {
    /// The model of this name, loaded if it is not yet; the default model for `None`.
    pub async fn model(&self, name: Option<&str>) -> Result<Arc<ServedModel>, ModelError> {
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
        // A token each and the end: no event is ever refused for want of room.
        let (reply, events) = mpsc::channel(request.max_tokens + 1);
        let submitted = model.engine.send(Submit { request, reply }).await;
        let seq = submitted.unwrap_or(Err(Busy::Draining))?;
        Ok(Answer::new(
            seq,
            model.engine.clone(),
            events,
            &model.tokenizer,
            stop,
        ))
    }

    /// Conversations whose caches outlive their requests.
    pub fn sessions(&self) -> &Sessions {
        &self.0.sessions
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

    /// All models that are loaded, loading or failed.
    pub async fn states(&self) -> Vec<ModelState> {
        self.0.models.send(States).await.unwrap_or_default()
    }

    /// Unloads an idle model.
    pub async fn unload(&self, id: ModelId) -> Result<(), ModelError> {
        let unloaded = self.0.models.send(UnloadModel { id }).await;
        unloaded.unwrap_or(Err(ModelError::ShuttingDown))
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

    /// The `[runtime]` settings.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// Whether a shutdown has begun.
    pub fn draining(&self) -> bool {
        self.0.draining.load(Ordering::Acquire)
    }

    /// A model whose step has taken longer than the stall timeout, or that could not be reloaded.
    pub fn unhealthy(&self) -> Option<String> {
        let limit = self.0.config.stall_timeout.get();
        self.loaded().iter().find_map(|model| {
            if model.status.failed() {
                return Some(format!("model {} could not be loaded again", model.id));
            }
            let age = model.status.step_age().filter(|&age| age > limit)?;
            Some(format!(
                "model {} has computed one step for {age:?}",
                model.id
            ))
        })
    }

    /// Stops and restarts every supervised actor, as a fault would. For tests of what survives.
    pub async fn restart_all(&self) {
        for model in self.loaded() {
            let _ = model.engine.send(Restart).await;
        }
        let _ = self.0.models.send(Restart).await;
        let _ = self.0.cache.send(Restart).await;
        let _ = self.0.monitor.send(Restart).await;
        if let Some(audit) = &self.0.audit {
            let _ = audit.send(Restart).await;
        }
    }

    /// Finishes what runs, at most until `deadline`, and frees the models. Returns whether all was finished.
    ///
    /// The caller keeps its listener open meanwhile, so that new requests are told that the server stops, closes it
    /// after, and stops the system last.
    pub async fn shutdown(&self, deadline: Duration) -> bool {
        self.0.draining.store(true, Ordering::Release);
        let drained = self.0.models.send(DrainAll { deadline }).await;
        drained.unwrap_or(false)
    }
}
