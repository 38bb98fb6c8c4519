//! The table of loaded models that requests are routed by: written by the `models` actor, read by everyone without
//! a message.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use actix::Addr;
use dashmap::DashMap;

use super::engine::Engine;
use crate::ids::{ModelId, TokenId};
use crate::kv::{self, KvShape};
use crate::text::{ChatTemplate, Tokenizer};

/// A loaded model: all that is needed to turn a request into a submission.
pub struct ServedModel {
    /// Its name.
    pub id: ModelId,
    /// Text to ids and back.
    pub tokenizer: Tokenizer,
    /// How a chat is written.
    pub template: Arc<ChatTemplate>,
    /// Positions that there are.
    pub context: usize,
    /// Ids that end a text.
    pub eos: Vec<TokenId>,
    /// What a token costs in KV cache.
    pub shape: KvShape,
    /// The configured bounds of the KV cache.
    pub kv: kv::Config,
    /// Bytes of the weights in memory.
    pub weight_bytes: usize,
    /// One line for people.
    pub about: String,
    /// When it was loaded.
    pub loaded_at: SystemTime,
    /// What its engine is doing.
    pub status: Arc<EngineStatus>,
    pub(super) engine: Addr<Engine>,
}

/// What an engine lets others see, without asking it.
#[derive(Debug)]
pub struct EngineStatus {
    epoch: Instant,
    /// Requests that wait.
    waiting: AtomicUsize,
    /// Sequences in the batch.
    running: AtomicUsize,
    /// KV bytes that they hold.
    kv_bytes: AtomicUsize,
    /// Milliseconds since `epoch` at which the step in flight was sent, plus one; 0 when there is none.
    step_since: AtomicU64,
    /// Milliseconds since `epoch` of the last request or token.
    last_used: AtomicU64,
    failed: AtomicBool,
}

impl Default for EngineStatus {
    fn default() -> Self {
        EngineStatus {
            epoch: Instant::now(),
            waiting: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            kv_bytes: AtomicUsize::new(0),
            step_since: AtomicU64::new(0),
            last_used: AtomicU64::new(0),
            failed: AtomicBool::new(false),
        }
    }
}

impl EngineStatus {
    /// Requests that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Sequences in the batch.
    pub fn running(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }

    /// KV bytes that running sequences hold.
    pub fn kv_bytes(&self) -> usize {
        self.kv_bytes.load(Ordering::Relaxed)
    }

    /// How long the step in flight has taken, if there is one.
    pub fn step_age(&self) -> Option<Duration> {
        match self.step_since.load(Ordering::Relaxed) {
            0 => None,
            since => Some(self.since(since - 1)),
        }
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
        if waiting + running > 0 {
            self.touch();
        }
        self.waiting.store(waiting, Ordering::Relaxed);
        self.running.store(running, Ordering::Relaxed);
        self.kv_bytes.store(kv_bytes, Ordering::Relaxed);
    }

    pub(super) fn set_step(&self, in_flight: bool) {
        let value = if in_flight { self.now() + 1 } else { 0 };
        self.step_since.store(value, Ordering::Relaxed);
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

/// Loaded models by name.
#[derive(Clone, Default)]
pub(super) struct Routes(Arc<DashMap<ModelId, Arc<ServedModel>>>);

impl Routes {
    pub(super) fn get(&self, id: &ModelId) -> Option<Arc<ServedModel>> {
        // The guard ends with this line: held across an await it could deadlock with a writer.
        self.0.get(id).map(|entry| Arc::clone(entry.value()))
    }

    pub(super) fn all(&self) -> Vec<Arc<ServedModel>> {
        let mut all: Vec<_> = self.0.iter().map(|e| Arc::clone(e.value())).collect();
        all.sort_by(|a, b| a.id.cmp(&b.id));
        all
    }

    pub(super) fn publish(&self, model: Arc<ServedModel>) {
        self.0.insert(model.id.clone(), model);
    }

    pub(super) fn withdraw(&self, id: &ModelId) {
        self.0.remove(id);
    }
}
