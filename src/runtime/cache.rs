//! The owner of the byte budget of all KV cache: grants leases to engines, and makes one give back when another needs.
//!
//! Obeys [`Lease`], [`Return`] and [`Pressure`]; tells engines [`Shrink`]. A lease is bytes: which slots they become is
//! the engine's affair. State survives a restart, since the leases do.

use std::collections::{BTreeMap, VecDeque};

use actix::{Actor, ActorContext, AsyncContext, Context, Handler, Message, Recipient, Supervised};
use tokio::sync::oneshot;

use super::replica::ReplicaId;
use super::restart::Restart;

/// An engine asks for a lease of `bytes` in all. Answered once it can be had. All and not what is missing: what it gives
/// back while it waits is made up for.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Lease {
    pub(super) owner: ReplicaId,
    pub(super) bytes: usize,
    /// Told the bytes that are added when they are granted; dropped unanswered when the owner is gone.
    pub(super) reply: oneshot::Sender<usize>,
}

/// An engine gives `bytes` back; all of its lease, and itself, when it ends.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Return {
    pub(super) owner: ReplicaId,
    pub(super) bytes: usize,
}

/// An engine is here and may be asked to shrink, or is gone (`None`).
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Register {
    pub(super) owner: ReplicaId,
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
    /// Whether the rest is to follow as sequences end, since another engine waits for it.
    pub(super) rest: bool,
}

/// See the module.
pub(super) struct Cache {
    total: usize,
    leases: BTreeMap<ReplicaId, usize>,
    engines: BTreeMap<ReplicaId, Recipient<Shrink>>,
    waiting: VecDeque<Lease>,
    /// Others were asked for what the first of them lacks.
    asked: bool,
}

impl Cache {
    pub(super) fn new(total: usize) -> Self {
        Cache {
            total,
            leases: BTreeMap::new(),
            engines: BTreeMap::new(),
            waiting: VecDeque::new(),
            asked: false,
        }
    }

    fn free(&self) -> usize {
        self.total.saturating_sub(self.leases.values().sum())
    }

    /// What a lease lacks beyond what its owner has.
    fn lacking(&self, lease: &Lease) -> usize {
        let held = self.leases.get(&lease.owner).copied().unwrap_or(0);
        lease.bytes.saturating_sub(held)
    }

    /// Grants in order of asking: a large lease is not overtaken for ever by small ones. Only the first has others
    /// asked to give back: two that each wait for what the other has would else take it from each other for ever.
    fn serve(&mut self, ctx: &mut Context<Self>) {
        while let Some(first) = self.waiting.front() {
            let missing = self.lacking(first).saturating_sub(self.free());
            if missing > 0 && !first.reply.is_closed() {
                if !self.asked {
                    self.reclaim(Some(&first.owner), missing, ctx);
                    self.asked = true;
                }
                break;
            }
            let Some(lease) = self.waiting.pop_front() else {
                break;
            };
            self.asked = false;
            let bytes = self.lacking(&lease);
            if lease.reply.send(bytes).is_ok() {
                *self.leases.entry(lease.owner).or_default() += bytes;
            }
        }
    }

    /// Asks every engine but `asker` for its unused bytes, and for the rest as its sequences end when somebody asks.
    fn reclaim(&self, asker: Option<&ReplicaId>, bytes: usize, ctx: &mut Context<Self>) {
        let rest = asker.is_some();
        for (owner, engine) in &self.engines {
            if Some(owner) == asker {
                continue;
            }
            let (owner, engine, address) = (owner.clone(), engine.clone(), ctx.address());
            actix::spawn(async move {
                if let Ok(freed @ 1..) = engine.send(Shrink { bytes, rest }).await {
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
        self.waiting.push_back(lease);
        self.serve(ctx);
    }
}

impl Handler<Return> for Cache {
    type Result = ();

    fn handle(&mut self, back: Return, ctx: &mut Self::Context) {
        if let Some(lease) = self.leases.get_mut(&back.owner) {
            *lease = lease.saturating_sub(back.bytes);
        }
        self.serve(ctx);
    }
}

impl Handler<Register> for Cache {
    type Result = ();

    fn handle(&mut self, register: Register, ctx: &mut Self::Context) {
        match register.shrink {
            Some(engine) => {
                self.engines.insert(register.owner, engine);
            }
            None => {
                self.engines.remove(&register.owner);
                self.leases.remove(&register.owner);
                self.waiting.retain(|lease| lease.owner != register.owner);
                self.asked = false;
                self.serve(ctx);
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

    fn replica(model: &str) -> ReplicaId {
        ReplicaId {
            model: model.parse().unwrap(),
            load: 0,
            place: 0,
        }
    }

    async fn lease(
        cache: &actix::Addr<Cache>,
        owner: &str,
        bytes: usize,
    ) -> oneshot::Receiver<usize> {
        let (reply, granted) = oneshot::channel();
        let owner = replica(owner);
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
        let cache = Cache::new(100).start();
        let shrink = Some(Spare(40).start().recipient());
        let owner = replica("a");
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
        let cache = actix::Supervisor::start(|_| Cache::new(100));
        assert_eq!(lease(&cache, "a", 80).await.await, Ok(80));
        cache.send(Restart).await.unwrap();
        let mut more = lease(&cache, "b", 30).await;
        tokio::task::yield_now().await;
        assert!(more.try_recv().is_err(), "the first lease was forgotten");
        let owner = replica("a");
        cache
            .send(Register {
                owner,
                shrink: None,
            })
            .await
            .unwrap();
        assert_eq!(more.await, Ok(30));
    }

    /// Notes what it is asked for.
    struct Busy(std::sync::Arc<std::sync::Mutex<Vec<(usize, bool)>>>);

    impl Actor for Busy {
        type Context = Context<Self>;
    }

    impl Handler<Shrink> for Busy {
        type Result = usize;

        fn handle(&mut self, shrink: Shrink, _: &mut Self::Context) -> usize {
            self.0.lock().unwrap().push((shrink.bytes, shrink.rest));
            0
        }
    }

    #[actix::test]
    async fn only_the_first_that_waits_takes_from_others() {
        let cache = Cache::new(100).start();
        let mut notes = Vec::new();
        for name in ["a", "b"] {
            let asked = std::sync::Arc::default();
            notes.push(std::sync::Arc::clone(&asked));
            let shrink = Some(Busy(asked).start().recipient());
            let owner = replica(name);
            cache.send(Register { owner, shrink }).await.unwrap();
        }
        let asked = |of: usize| notes[of].lock().unwrap().clone();
        assert_eq!(lease(&cache, "a", 60).await.await, Ok(60));
        assert_eq!(lease(&cache, "b", 40).await.await, Ok(40));
        let first = lease(&cache, "a", 80).await;
        let mut second = lease(&cache, "b", 70).await;
        let give = async |name, bytes| {
            let owner = replica(name);
            cache.send(Return { owner, bytes }).await.unwrap();
            // What others are asked for is on its way when the cache answers the next message.
            let owner = replica(name);
            cache.send(Return { owner, bytes: 0 }).await.unwrap();
        };
        give("b", 15).await;
        assert_eq!((asked(0), asked(1)), (vec![], vec![(20, true)]));
        give("b", 10).await;
        assert_eq!(first.await, Ok(20));
        assert!(second.try_recv().is_err());
        // 5 are free, and the second is the first now: what it gave is made up for.
        give("a", 25).await;
        assert_eq!((asked(0), asked(1)), (vec![(50, true)], vec![(20, true)]));
        assert!(second.try_recv().is_err());
        give("a", 25).await;
        assert_eq!(second.await, Ok(55));
        // Under pressure what is unused goes, and nothing is owed.
        cache.send(Pressure).await.unwrap();
        give("a", 0).await;
        assert_eq!(asked(0).last(), Some(&(usize::MAX, false)));
    }
}
