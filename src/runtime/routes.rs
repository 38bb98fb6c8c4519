//! The table of loaded models that requests are routed by: written by the `models` actor, read by everyone without
//! a message.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use dashmap::DashMap;

use super::served::{Held, ServedModel};
use crate::ids::ModelId;

/// What an engine lets others see, without asking it.
#[derive(Debug)]
pub struct EngineStatus {
    epoch: Instant,
    /// Requests that wait.
    waiting: AtomicUsize,
    /// Their prompt tokens.
    waiting_tokens: AtomicUsize,
    /// Prompt tokens of requests that are on their way to it.
    coming: AtomicUsize,
    /// Sequences in the batch.
    running: AtomicUsize,
    /// KV bytes that they hold.
    kv_bytes: AtomicUsize,
    /// Milliseconds since `epoch` at which the engine's loop last turned.
    turned: AtomicU64,
    /// Prompt tokens that steps have read, how many of them a cache held, and tokens generated.
    read: AtomicU64,
    cached: AtomicU64,
    generated: AtomicU64,
    /// Milliseconds since `epoch` of the last request or token.
    last_used: AtomicU64,
    failed: AtomicBool,
    reloading: AtomicBool,
    /// The device is still to be told of something.
    owing: AtomicBool,
}

/// Tokens that an engine has computed since it was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Computed {
    /// Of prompts.
    pub read: u64,
    /// Of these, what a cache held.
    pub cached: u64,
    /// Of answers.
    pub generated: u64,
}

impl Computed {
    /// Both together.
    pub(super) fn plus(self, other: Computed) -> Computed {
        Computed {
            read: self.read + other.read,
            cached: self.cached + other.cached,
            generated: self.generated + other.generated,
        }
    }
}

impl Default for EngineStatus {
    fn default() -> Self {
        EngineStatus {
            epoch: Instant::now(),
            waiting: AtomicUsize::new(0),
            waiting_tokens: AtomicUsize::new(0),
            coming: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            kv_bytes: AtomicUsize::new(0),
            turned: AtomicU64::new(0),
            read: AtomicU64::new(0),
            cached: AtomicU64::new(0),
            generated: AtomicU64::new(0),
            last_used: AtomicU64::new(0),
            failed: AtomicBool::new(false),
            reloading: AtomicBool::new(false),
            owing: AtomicBool::new(false),
        }
    }
}

impl EngineStatus {
    /// Requests that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Their prompt tokens, with those of requests that are on their way.
    pub fn waiting_tokens(&self) -> usize {
        self.waiting_tokens.load(Ordering::Relaxed) + self.coming.load(Ordering::Relaxed)
    }

    /// Sequences in the batch.
    pub fn running(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }

    /// KV bytes that running sequences hold.
    pub fn kv_bytes(&self) -> usize {
        self.kv_bytes.load(Ordering::Relaxed)
    }

    /// How long ago the engine's loop last turned, while there is work; it turns at each step and several times a
    /// second.
    pub fn loop_age(&self) -> Option<Duration> {
        let busy = self.waiting() + self.running() > 0;
        busy.then(|| self.since(self.turned.load(Ordering::Relaxed)))
    }

    /// How long nothing was asked of the engine; zero while it is busy.
    pub fn idle_for(&self) -> Duration {
        if self.waiting() + self.running() > 0 {
            return Duration::ZERO;
        }
        self.since(self.last_used.load(Ordering::Relaxed))
    }

    /// Whether the model could not be put on its device again after a loss.
    pub fn failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    pub(super) fn set_load(&self, waiting: usize, running: usize, kv_bytes: usize) {
        // Also when the last of them has just ended.
        if waiting + running + self.waiting() + self.running() > 0 {
            self.touch();
        }
        self.waiting.store(waiting, Ordering::Relaxed);
        self.running.store(running, Ordering::Relaxed);
        self.kv_bytes.store(kv_bytes, Ordering::Relaxed);
    }

    pub(super) fn set_waiting_tokens(&self, tokens: usize) {
        self.waiting_tokens.store(tokens, Ordering::Relaxed);
    }

    /// Counts the prompt tokens of a request that was sent and not yet counted by the engine.
    pub(super) fn expect(&self, tokens: usize) -> Coming<'_> {
        self.coming.fetch_add(tokens, Ordering::Relaxed);
        Coming(&self.coming, tokens)
    }

    /// Whether the model is being put on its device again after a loss.
    pub fn reloading(&self) -> bool {
        self.reloading.load(Ordering::Relaxed)
    }

    /// Whether it has nobody's work and still something to tell the device.
    pub(super) fn owing(&self) -> bool {
        self.owing.load(Ordering::Relaxed)
    }

    pub(super) fn set_owing(&self, owing: bool) {
        self.owing.store(owing, Ordering::Relaxed);
    }

    pub(super) fn turned(&self) {
        self.turned.store(self.now(), Ordering::Relaxed);
    }

    pub(super) fn computed(&self, read: usize, cached: usize, generated: usize) {
        self.read.fetch_add(read as u64, Ordering::Relaxed);
        self.cached.fetch_add(cached as u64, Ordering::Relaxed);
        self.generated
            .fetch_add(generated as u64, Ordering::Relaxed);
    }

    pub(super) fn tokens(&self) -> Computed {
        Computed {
            read: self.read.load(Ordering::Relaxed),
            cached: self.cached.load(Ordering::Relaxed),
            generated: self.generated.load(Ordering::Relaxed),
        }
    }

    pub(super) fn set_reloading(&self, reloading: bool) {
        self.reloading.store(reloading, Ordering::Relaxed);
    }

    pub(super) fn set_failed(&self, failed: bool) {
        self.failed.store(failed, Ordering::Relaxed);
    }

    pub(super) fn touch(&self) {
        self.last_used.store(self.now(), Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        self.epoch.elapsed().as_millis() as u64
    }

    fn since(&self, millis: u64) -> Duration {
        Duration::from_millis(self.now().saturating_sub(millis))
    }
}

/// A request on its way to an engine.
pub(super) struct Coming<'a>(&'a AtomicUsize, usize);

impl Drop for Coming<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Ordering::Relaxed);
    }
}

/// Loaded models by name.
#[derive(Clone, Default)]
pub(super) struct Routes(Arc<DashMap<ModelId, Arc<ServedModel>>>);

impl Routes {
    /// The model of a name, held before anybody can take it out.
    pub(super) fn get(&self, id: &ModelId) -> Option<Held> {
        // The guard ends with this line: held across an await it could deadlock with a writer.
        self.0.get(id).map(|entry| Held::new(entry.value()))
    }

    pub(super) fn all(&self) -> Vec<Arc<ServedModel>> {
        let mut all: Vec<_> = self.0.iter().map(|e| Arc::clone(e.value())).collect();
        all.sort_by(|a, b| a.id.cmp(&b.id));
        all
    }

    pub(super) fn publish(&self, model: Arc<ServedModel>) {
        self.0.insert(model.id.clone(), model);
    }

    /// Takes a model out, unless it is in use. After this nobody has it but its owner.
    pub(super) fn withdraw(&self, model: &Arc<ServedModel>) -> bool {
        self.0.remove(&model.id);
        let idle = !model.in_use();
        if !idle {
            self.publish(Arc::clone(model));
        }
        idle
    }
}
