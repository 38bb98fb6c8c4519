//! The owner of the byte budget of all KV cache: grants leases to engines, and makes one give back when another needs.
//!
//! Obeys [`Lease`], [`Return`] and [`Pressure`]; tells engines [`Shrink`]. A lease is bytes: which slots they become is
//! the engine's affair. State survives a restart, since the leases do.

use std::collections::{BTreeMap, VecDeque};

use actix::{Actor, ActorContext, AsyncContext, Context, Handler, Message, Recipient, Supervised};
use tokio::sync::oneshot;

use super::restart::Restart;
use crate::ids::ModelId;
use crate::telemetry::Metrics;

/// An engine asks for `bytes` more. Answered once they can be had.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Lease {
    pub(super) owner: ModelId,
    pub(super) bytes: usize,
    /// Told the bytes when they are granted; dropped unanswered when the owner is gone.
    pub(super) reply: oneshot::Sender<usize>,
}

/// An engine gives `bytes` back; all of its lease, and itself, when it ends.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Return {
    pub(super) owner: ModelId,
    pub(super) bytes: usize,
}

/// An engine is here and may be asked to shrink, or is gone (`None`).
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Register {
    pub(super) owner: ModelId,
    pub(super) shrink: Option<Recipient<Shrink>>,
}

/// The machine runs out of memory: take back what is not in use.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Pressure;

/// Give up to `bytes` back that no sequence has reserved. Answered with how many; they count as returned.
#[derive(Message)]
#[rtype(result = "usize")]
pub(super) struct Shrink {
    pub(super) bytes: usize,
}

/// See the module.
pub(super) struct Cache {
    total: usize,
    leases: BTreeMap<ModelId, usize>,
    engines: BTreeMap<ModelId, Recipient<Shrink>>,
    waiting: VecDeque<Lease>,
    metrics: Metrics,
}

impl Cache {
    pub(super) fn new(total: usize, metrics: Metrics) -> Self {
        metrics.set_kv(0, total as u64);
        Cache {
            total,
            leases: BTreeMap::new(),
            engines: BTreeMap::new(),
            waiting: VecDeque::new(),
            metrics,
        }
    }

    fn free(&self) -> usize {
        self.total.saturating_sub(self.leases.values().sum())
    }

    /// Grants in order of asking: a large lease is not overtaken for ever by small ones.
    fn serve(&mut self) {
        while let Some(first) = self.waiting.front() {
            if first.bytes > self.free() && !first.reply.is_closed() {
                break;
            }
            let Some(lease) = self.waiting.pop_front() else {
                break;
            };
            let Lease {
                owner,
                bytes,
                reply,
            } = lease;
            if reply.send(bytes).is_ok() {
                *self.leases.entry(owner).or_default() += bytes;
            }
        }
    }

    /// Asks every engine but `asker` for its unused bytes.
    fn reclaim(&self, asker: Option<&ModelId>, bytes: usize, ctx: &mut Context<Self>) {
        for (owner, engine) in &self.engines {
            if Some(owner) == asker {
                continue;
            }
            let (owner, engine, address) = (owner.clone(), engine.clone(), ctx.address());
            actix::spawn(async move {
                if let Ok(freed @ 1..) = engine.send(Shrink { bytes }).await {
                    address.do_send(Return {
                        owner,
                        bytes: freed,
                    });
                }
            });
        }
    }
}

impl Actor for Cache {
    type Context = Context<Self>;
}

impl Supervised for Cache {
    fn restarting(&mut self, _: &mut Self::Context) {
        tracing::warn!("the cache actor was stopped and starts again; leases are kept");
    }
}

impl Handler<Lease> for Cache {
    type Result = ();

    fn handle(&mut self, lease: Lease, ctx: &mut Self::Context) {
        let missing = lease.bytes.saturating_sub(self.free());
        if missing > 0 {
            self.reclaim(Some(&lease.owner), missing, ctx);
        }
        self.waiting.push_back(lease);
        self.serve();
    }
}

impl Handler<Return> for Cache {
    type Result = ();

    fn handle(&mut self, back: Return, _: &mut Self::Context) {
        if let Some(lease) = self.leases.get_mut(&back.owner) {
            *lease = lease.saturating_sub(back.bytes);
        }
        self.serve();
    }
}

impl Handler<Register> for Cache {
    type Result = ();

    fn handle(&mut self, register: Register, _: &mut Self::Context) {
        match register.shrink {
            Some(engine) => {
                self.engines.insert(register.owner, engine);
            }
            None => {
                self.engines.remove(&register.owner);
                self.leases.remove(&register.owner);
                self.waiting.retain(|lease| lease.owner != register.owner);
                self.serve();
            }
        }
    }
}

impl Handler<Pressure> for Cache {
    type Result = ();

    fn handle(&mut self, _: Pressure, ctx: &mut Self::Context) {
        self.reclaim(None, usize::MAX, ctx);
    }
}

impl Handler<Restart> for Cache {
    type Result = ();

    fn handle(&mut self, _: Restart, ctx: &mut Self::Context) {
        self.metrics.set_kv(0, self.total as u64);
        ctx.stop();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    struct Spare(usize);

    impl Actor for Spare {
        type Context = Context<Self>;
    }

    impl Handler<Shrink> for Spare {
        type Result = usize;

        fn handle(&mut self, shrink: Shrink, _: &mut Self::Context) -> usize {
            let given = self.0.min(shrink.bytes);
            self.0 -= given;
            given
        }
    }

    async fn lease(
        cache: &actix::Addr<Cache>,
        owner: &str,
        bytes: usize,
    ) -> oneshot::Receiver<usize> {
        let (reply, granted) = oneshot::channel();
        let owner = owner.parse().unwrap();
        cache
            .send(Lease {
                owner,
                bytes,
                reply,
            })
            .await
            .unwrap();
        granted
    }

    #[actix::test]
    async fn a_lease_waits_until_another_engine_gives_back() {
        let cache = Cache::new(100, Metrics::new()).start();
        let shrink = Some(Spare(40).start().recipient());
        let owner: ModelId = "a".parse().unwrap();
        cache
            .send(Register {
                owner: owner.clone(),
                shrink,
            })
            .await
            .unwrap();
        assert_eq!(lease(&cache, "a", 80).await.await, Ok(80));
        // 20 are free, 40 of the leased ones are spare: 70 cannot be had yet, 50 can after a shrink.
        let mut large = lease(&cache, "b", 70).await;
        tokio::task::yield_now().await;
        assert!(large.try_recv().is_err());
        cache.send(Return { owner, bytes: 40 }).await.unwrap();
        assert_eq!(large.await, Ok(70));
    }

    #[actix::test]
    async fn a_restart_keeps_the_leases() {
        let cache = actix::Supervisor::start(|_| Cache::new(100, Metrics::new()));
        assert_eq!(lease(&cache, "a", 80).await.await, Ok(80));
        cache.send(Restart).await.unwrap();
        let mut more = lease(&cache, "b", 30).await;
        tokio::task::yield_now().await;
        assert!(more.try_recv().is_err(), "the first lease was forgotten");
        let owner = "a".parse().unwrap();
        cache
            .send(Register {
                owner,
                shrink: None,
            })
            .await
            .unwrap();
        assert_eq!(more.await, Ok(30));
    }
}
