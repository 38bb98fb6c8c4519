//! The way to the compute thread: an address that stays the same when the thread is replaced.
//!
//! A thread that hangs cannot be killed. [`Device::abandon`] lets go of it and starts a fresh one; whoever waits for an
//! answer of the old one is told at once that there will be none.

use std::sync::{Arc, PoisonError, RwLock};

use actix::dev::ToEnvelope;
use actix::{Addr, Handler, Message, SyncArbiter, SyncContext};
use tokio::sync::watch;

use super::pulse::Pulse;
use super::worker::Worker;
use crate::telemetry::{Lost, Metrics};

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Gone {
    /// The process stops.
    #[error("the worker's thread is gone")]
    Closed,
    /// It was given up.
    #[error("one step took twice runtime.stall_timeout, and its thread was given up")]
    Stalled,
}

/// The thread of now.
struct Current {
    worker: Addr<Worker>,
    pulse: Arc<Pulse>,
    /// Dropped with the thread: receivers learn that it was given up.
    alive: watch::Sender<()>,
}

impl Current {
    fn start(metrics: Metrics) -> Self {
        let pulse = Arc::new(Pulse::default());
        let beating = Arc::clone(&pulse);
        let worker = SyncArbiter::start(1, move || {
            Worker::new(metrics.clone(), Arc::clone(&beating))
        });
        Current {
            worker,
            pulse,
            alive: watch::Sender::new(()),
        }
    }
}

/// One compute thread, whichever it is now. Clones share it.
#[derive(Clone)]
pub(super) struct Device {
    current: Arc<RwLock<Current>>,
    metrics: Metrics,
}

impl Device {
    /// Starts a thread. Must run inside of an actix system.
    pub(super) fn start(metrics: Metrics) -> Self {
        Device {
            current: Arc::new(RwLock::new(Current::start(metrics.clone()))),
            metrics,
        }
    }

    /// Sends a message and waits for the answer.
    ///
    /// # Errors
    /// [`Gone`] when the thread is gone, or was given up meanwhile.
    pub(super) fn send<M>(
        &self,
        message: M,
    ) -> impl Future<Output = Result<M::Result, Gone>> + use<M>
    where
        M: Message + Send + Unpin + 'static,
        M::Result: Send,
        Worker: Handler<M>,
        SyncContext<Worker>: ToEnvelope<Worker, M>,
    {
        let (worker, mut alive) = self.read(|now| (now.worker.clone(), now.alive.subscribe()));
        // Sent now and not when it is first awaited: the order of messages is that of the calls.
        let answer = worker.send(message);
        async move {
            tokio::select! {
                biased;
                answer = answer => answer.map_err(|_| Gone::Closed),
                // The sender never sends: a change is its end.
                _ = alive.changed() => Err(Gone::Stalled),
            }
        }
    }

    /// Sends a message that nobody waits for.
    pub(super) fn do_send<M>(&self, message: M)
    where
        M: Message + Send + 'static,
        M::Result: Send,
        Worker: Handler<M>,
        SyncContext<Worker>: ToEnvelope<Worker, M>,
    {
        self.read(|now| now.worker.clone()).do_send(message);
    }

    /// The heartbeat of the thread of now.
    pub(super) fn pulse(&self) -> Arc<Pulse> {
        self.read(|now| Arc::clone(&now.pulse))
    }

    /// Lets go of the thread and starts a fresh, empty one. What the old one holds is freed when it comes back to
    /// itself, if ever. Must run inside of an actix system.
    pub(super) fn abandon(&self) {
        let fresh = Current::start(self.metrics.clone());
        self.metrics.worker_restarted(Lost::Stalled);
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        *current = fresh;
    }

    fn read<T>(&self, look: impl FnOnce(&Current) -> T) -> T {
        look(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}
