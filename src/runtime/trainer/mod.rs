//! The owner of the training run of this process: at most one, one step a message.
//!
//! Obeys [`Start`], [`Steer`], [`Own`] and [`Leave`]. A run's tensors are on a thread of its own ([`hand`]), which does what
//! was asked and takes one step for each order, and has a single order at a time. Runs of other processes are seen and
//! steered through their folders ([`crate::train::runs`]), and so is this one by other processes. Its memory is leased from
//! the budget of models before it begins. State survives a restart, since the thread does.

mod hand;
mod orders;
mod room;

use std::sync::mpsc;
use std::time::Duration;

use actix::{
    Actor, ActorContext, ActorFutureExt, Addr, AsyncContext, Context, Handler, ResponseActFuture,
    ResponseFuture, SpawnHandle, Supervised, WrapFuture,
};
use tokio::sync::{oneshot, watch};

pub(super) use orders::{Leave, Own, Start, Steer, What};

use super::models::Models;
use super::restart::Restart;
use super::runs::RunsError;
use crate::store::Library;
use crate::train::runs::{Request, RunFolder, RunId, Status};
use hand::{Hand, Order};
use orders::{Report, Told};

/// How often a paused run looks what other processes ask of it.
const LOOK: Duration = Duration::from_millis(200);

/// What runs are made with.
#[derive(Clone)]
pub(super) struct Parts {
    pub(super) library: Library,
    pub(super) models: Addr<Models>,
    /// Compute threads; 0 takes all cores.
    pub(super) threads: usize,
}

/// The run that is under way.
struct Run {
    id: RunId,
    orders: mpsc::Sender<Order>,
    /// What was asked and not ordered yet.
    asked: Vec<Request>,
    /// Whether the thread waits for an order.
    idle: bool,
    /// Who waits for its end.
    ended: Vec<oneshot::Sender<()>>,
}

enum Slot {
    Free,
    /// A run of this name is looked at.
    Preparing(String),
    Running(Run),
}

/// See the module.
pub(super) struct Trainer {
    parts: Parts,
    slot: Slot,
    draining: bool,
    /// The next look of a paused run.
    look: Option<SpawnHandle>,
    /// Counts what happened, for those who watch runs.
    changes: watch::Sender<u64>,
}

impl Trainer {
    pub(super) fn new(parts: Parts, changes: watch::Sender<u64>) -> Self {
        Trainer {
            parts,
            slot: Slot::Free,
            draining: false,
            look: None,
            changes,
        }
    }

    fn prepared(
        &mut self,
        outcome: Result<RunFolder, RunsError>,
        ctx: &mut Context<Self>,
    ) -> Result<RunId, RunsError> {
        self.slot = Slot::Free;
        let folder = outcome?;
        let id = folder.id().clone();
        if self.draining {
            self.withdraw(&folder, "the process stopped before the run began");
            return Err(RunsError::ShuttingDown);
        }
        let hand = Hand {
            parts: self.parts.clone(),
            folder: folder.clone(),
            owner: ctx.address(),
        };
        let orders = hand.start().map_err(|error| {
            let reason = format!("there is no thread for the run: {error}");
            self.withdraw(&folder, &reason);
            RunsError::Failed(reason)
        })?;
        self.slot = Slot::Running(Run {
            id: id.clone(),
            orders,
            asked: Vec::new(),
            idle: false,
            ended: Vec::new(),
        });
        self.changed();
        Ok(id)
    }

    /// Marks a run that did not begin.
    fn withdraw(&mut self, folder: &RunFolder, reason: &str) {
        room::give_back(&self.parts.models);
        let marked = folder.mark(Status::Stopped, Some(reason.to_owned()));
        if let Err(error) = marked {
            tracing::error!(run = %folder.id(), %error, "the state of the run cannot be written");
        }
    }

    /// Orders the next step, with what was asked since the last, if the thread waits for an order.
    fn turn(&mut self) {
        let Slot::Running(run) = &mut self.slot else {
            return;
        };
        if !run.idle {
            return;
        }
        run.idle = false;
        let order = match self.draining {
            true => Order::Leave,
            false => Order::Turn(std::mem::take(&mut run.asked)),
        };
        // A thread that is gone tells so itself.
        let _ = run.orders.send(order);
    }

    /// Has a paused run look after a while what other processes ask of it.
    fn look_later(&mut self, ctx: &mut Context<Self>) {
        if let Some(earlier) = self.look.take() {
            ctx.cancel_future(earlier);
        }
        self.look = Some(ctx.run_later(LOOK, |trainer, _| trainer.turn()));
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }
}

impl Actor for Trainer {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        // A paused run may have been left behind by an actor that was stopped.
        self.look_later(ctx);
    }
}

impl Supervised for Trainer {
    fn restarting(&mut self, _: &mut Self::Context) {
        tracing::warn!("the trainer was stopped and starts again; its run goes on");
        // It belongs to the context that ended.
        self.look = None;
        if matches!(self.slot, Slot::Preparing(_)) {
            // Who asked for it is told by the dropped reply.
            room::give_back(&self.parts.models);
            self.slot = Slot::Free;
        }
    }
}

impl Handler<Start> for Trainer {
    type Result = ResponseActFuture<Self, Result<RunId, RunsError>>;

    fn handle(&mut self, Start(what): Start, _: &mut Self::Context) -> Self::Result {
        let busy = match &self.slot {
            _ if self.draining => Some(RunsError::ShuttingDown),
            Slot::Free => None,
            Slot::Preparing(name) => Some(RunsError::Busy(name.clone())),
            Slot::Running(run) => Some(RunsError::Busy(run.id.to_string())),
        };
        if let Some(error) = busy {
            return Box::pin(std::future::ready(Err(error)).into_actor(self));
        }
        self.slot = Slot::Preparing(match &what {
            What::New(loaded) => loaded.recipe.run_name().to_owned(),
            What::Again(folder) => folder.id().to_string(),
        });
        let preparing = room::prepare(self.parts.clone(), what).into_actor(self);
        Box::pin(preparing.map(|outcome, trainer, ctx| trainer.prepared(outcome, ctx)))
    }
}

impl Handler<Steer> for Trainer {
    type Result = bool;

    fn handle(&mut self, steer: Steer, _: &mut Self::Context) -> bool {
        match &mut self.slot {
            Slot::Running(run) if run.id == steer.id => run.asked.push(steer.request),
            _ => return false,
        }
        self.turn();
        true
    }
}

impl Handler<Own> for Trainer {
    type Result = Option<RunId>;

    fn handle(&mut self, _: Own, _: &mut Self::Context) -> Self::Result {
        match &self.slot {
            Slot::Running(run) => Some(run.id.clone()),
            Slot::Free | Slot::Preparing(_) => None,
        }
    }
}

impl Handler<Report> for Trainer {
    type Result = ();

    fn handle(&mut self, report: Report, ctx: &mut Self::Context) {
        let Slot::Running(run) = &mut self.slot else {
            return;
        };
        if run.id != report.id {
            return;
        }
        run.idle = true;
        match report.told {
            Told::Ready => self.turn(),
            Told::Paused if self.draining || !run.asked.is_empty() => self.turn(),
            Told::Paused => self.look_later(ctx),
            Told::Ended => {
                for waiter in run.ended.drain(..) {
                    let _ = waiter.send(());
                }
                self.slot = Slot::Free;
                room::give_back(&self.parts.models);
            }
        }
        self.changed();
    }
}

impl Handler<Leave> for Trainer {
    type Result = ResponseFuture<bool>;

    fn handle(&mut self, leave: Leave, _: &mut Self::Context) -> Self::Result {
        self.draining = true;
        let (done, ended) = oneshot::channel();
        match &mut self.slot {
            Slot::Running(run) => run.ended.push(done),
            Slot::Free | Slot::Preparing(_) => return Box::pin(std::future::ready(true)),
        }
        self.turn();
        Box::pin(async move { tokio::time::timeout(leave.deadline, ended).await.is_ok() })
    }
}

impl Handler<Restart> for Trainer {
    type Result = ();

    fn handle(&mut self, _: Restart, ctx: &mut Self::Context) {
        ctx.stop();
    }
}
