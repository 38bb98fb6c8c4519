//! A loaded model as requests see it, and the hold that keeps it loaded while one is at work.

use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::keep_alive::KeepAlive;
use super::replica::{Replica, ReplicaId};
use super::router::{Call, Router, route};
use super::routes::Computed;
use super::rule::Keeping;
use super::source::Builder;
use crate::ids::{ModelId, TokenId};
use crate::kv::{self, KvShape};
use crate::sample::Grammars;
use crate::sched::Request;
use crate::text::{ChatTemplate, Tokenizer};

/// A loaded model: all that is needed to turn a request into a submission.
pub struct ServedModel {
    /// Its name.
    pub id: ModelId,
    /// Text to ids and back.
    pub tokenizer: Tokenizer,
    /// How a chat is written.
    pub template: Arc<ChatTemplate>,
    /// What answers are asked to be, compiled for its tokens.
    pub grammars: Grammars,
    /// Positions that there are.
    pub context: usize,
    /// Ids that end a text.
    pub eos: Vec<TokenId>,
    /// What a token costs in KV cache.
    pub shape: KvShape,
    /// The configured bounds of the KV cache.
    pub kv: kv::Config,
    /// Bytes of the weights in memory, which all replicas share.
    pub weight_bytes: usize,
    /// One line for people.
    pub about: String,
    /// When it was loaded.
    pub loaded_at: SystemTime,
    /// How it is kept.
    pub keeping: Keeping,
    pub(super) build: Builder,
    /// Never empty.
    pub(super) replicas: Vec<Replica>,
    pub(super) router: Mutex<Box<dyn Router>>,
    pub(super) usage: Usage,
}

/// Who uses a model, and for how long it is kept after.
#[derive(Debug)]
pub(super) struct Usage {
    holders: AtomicUsize,
    since: Mutex<Since>,
}

#[derive(Debug)]
struct Since {
    /// When the last holder let go.
    used: Instant,
    /// What the last request asked for.
    keep_alive: Option<KeepAlive>,
}

impl Default for Usage {
    fn default() -> Self {
        Usage {
            holders: AtomicUsize::new(0),
            since: Mutex::new(Since {
                used: Instant::now(),
                keep_alive: None,
            }),
        }
    }
}

impl ServedModel {
    /// Requests that wait, in all replicas.
    pub fn waiting(&self) -> usize {
        self.replicas.iter().map(|r| r.status.waiting()).sum()
    }

    /// Sequences in all batches.
    pub fn running(&self) -> usize {
        self.replicas.iter().map(|r| r.status.running()).sum()
    }

    /// KV bytes that running sequences hold.
    pub fn kv_bytes(&self) -> usize {
        self.replicas.iter().map(|r| r.status.kv_bytes()).sum()
    }

    /// The longest that an engine with work has stood still.
    pub(super) fn loop_age(&self) -> Option<Duration> {
        self.replicas
            .iter()
            .filter_map(|r| r.status.loop_age())
            .max()
    }

    /// Whether a replica is being put on its device again after a loss.
    pub fn reloading(&self) -> bool {
        self.replicas.iter().any(|r| r.status.reloading())
    }

    /// Tokens that its engines have computed.
    pub fn tokens(&self) -> Computed {
        self.replicas
            .iter()
            .map(|r| r.status.tokens())
            .fold(Computed::default(), Computed::plus)
    }

    /// Whether a replica could not be put on its device again after a loss.
    pub fn failed(&self) -> bool {
        self.replicas.iter().any(|r| r.status.failed())
    }

    /// How many engines it has.
    pub fn replicas(&self) -> usize {
        self.replicas.len()
    }

    /// How long nobody has used it; `None` while somebody does.
    pub fn idle_for(&self) -> Option<Duration> {
        if self.in_use() {
            return None;
        }
        let engines = self.replicas.iter().map(|r| r.status.idle_for()).min();
        let held = self.since(|since| since.used.elapsed());
        Some(held.min(engines.unwrap_or(held)))
    }

    /// Sets for how long the model is kept after the request that is at work; the configured time for `None`.
    pub fn keep_for(&self, time: Option<KeepAlive>) {
        self.since(|since| since.keep_alive = time);
    }

    /// How long it is kept after its last request.
    pub fn keep_alive(&self) -> KeepAlive {
        let asked = self.since(|since| since.keep_alive);
        asked.unwrap_or(self.keeping.keep_alive)
    }

    /// Whether somebody holds it or an engine has work.
    pub(super) fn in_use(&self) -> bool {
        self.usage.holders.load(Ordering::SeqCst) > 0
            || self.waiting() + self.running() > 0
            || self.replicas.iter().any(|r| r.status.owing())
    }

    /// Which replica a request goes to. `home` has the cache of its session.
    pub(super) fn choose(&self, request: &Request, home: Option<&ReplicaId>) -> Option<&Replica> {
        let loads: Vec<_> = self.replicas.iter().map(Replica::load).collect();
        let call = Call {
            prompt: &request.prompt,
            session: request.session.as_ref().map(|session| &session.session),
            home: home.and_then(|home| self.replicas.iter().position(|r| r.id == *home)),
        };
        // A router holds counts and hashes: one that panicked is as good as before.
        let mut router = self.router.lock().unwrap_or_else(PoisonError::into_inner);
        let place = route(router.as_mut(), &call, &loads)?;
        self.replicas.get(place)
    }

    fn since<T>(&self, change: impl FnOnce(&mut Since) -> T) -> T {
        let mut since = self
            .usage
            .since
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        change(&mut since)
    }
}

/// A loaded model that is in use: nobody unloads it, nor puts it to sleep, while this lives.
pub struct Held(Arc<ServedModel>);

impl Held {
    pub(super) fn new(model: &Arc<ServedModel>) -> Self {
        model.usage.holders.fetch_add(1, Ordering::SeqCst);
        Held(Arc::clone(model))
    }
}

impl Clone for Held {
    fn clone(&self) -> Self {
        Held::new(&self.0)
    }
}

impl Deref for Held {
    type Target = ServedModel;

    fn deref(&self) -> &ServedModel {
        &self.0
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.since(|since| since.used = Instant::now());
        self.0.usage.holders.fetch_sub(1, Ordering::SeqCst);
    }
}
