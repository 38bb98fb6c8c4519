//! One loaded model: decides who runs next, sends the worker one step at a time, and tells callers what came of it.
//!
//! Obeys [`Submit`], [`Finish`], [`Parked`], [`Shrink`], [`Drain`] and [`Close`]. It advances on the worker's reply, never by a
//! message to itself, so at most one step is in flight and nothing queues up in a mailbox.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{
    Actor, ActorContext, ActorFutureExt, Addr, AsyncContext, Context, Handler, SpawnHandle,
    Supervised, WrapFuture,
};
use tokio::sync::{mpsc, oneshot};

use super::cache::{Cache, Lease, Register, Return, Shrink};
use super::device::{Device, Gone};
use super::flight::Flight;
use super::orders::{Close, Drain, Finish, Parked, Submit};
use super::replica::ReplicaId;
use super::restart::Restart;
use super::routes::EngineStatus;
use super::sessions::Sessions;
use super::source::Builder;
use super::worker::{Facts, Load, LoadFailure, SessionCall, Step, StepError, Unload};
use crate::ids::SeqId;
use crate::kv::tree::Miss;
use crate::sched::{
    Busy, Drawn, Event, Failure, FinishReason, Limits, LiveTokens, Scheduler, SessionOrder,
    SessionReply, Stepped, Usage,
};
use crate::telemetry::{Metrics, RequestLine, Stage, Steps};
use crate::{kv, sched};

/// How often what waits is looked through: left callers, timeouts.
const TICK: Duration = Duration::from_millis(100);

/// What is said to who comes after the end.
const UNLOADED: &str = "the model was unloaded";

/// What an engine needs of the rest.
#[derive(Clone)]
pub(super) struct Parts {
    pub(super) model: ReplicaId,
    pub(super) build: Builder,
    pub(super) scheduler: sched::Config,
    pub(super) kv: kv::Config,
    pub(super) worker: Device,
    pub(super) cache: Addr<Cache>,
    pub(super) status: Arc<EngineStatus>,
    pub(super) metrics: Metrics,
    pub(super) steps: Steps,
    pub(super) sessions: Sessions,
}

/// One caller.
struct Client {
    reply: mpsc::Sender<Event>,
    request: crate::ids::RequestId,
    submitted: Instant,
    started: Option<Instant>,
    last_token: Option<Instant>,
    /// It gave way to others since its last token.
    preempted: bool,
    /// Why the prefix cache did not hold more of its prompt.
    missed: Option<String>,
}

impl Client {
    fn stage(&self) -> Stage {
        match (self.started, self.last_token) {
            (None, _) => Stage::Queue,
            (Some(_), None) => Stage::Prefill,
            (Some(_), Some(_)) => Stage::Decode,
        }
    }
}

/// What the device is doing for this engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    /// The model is there, no step is in flight.
    Ready,
    /// A step is in flight.
    Stepping,
    /// The model is being put there again.
    Reloading,
    /// It could not be put there.
    Failed,
}

/// See the module.
pub(super) struct Engine {
    parts: Parts,
    scheduler: Scheduler,
    clients: HashMap<SeqId, Client>,
    device: Doing,
    /// The step in flight.
    flight: Option<Flight>,
    /// What is to be done with sessions, once what has ended is parked.
    parked: VecDeque<Parked>,
    /// A lease was asked for and not yet granted.
    asked: bool,
    /// Bytes that another engine waits for: they go back as sequences end, before others are let in.
    owed: usize,
    /// The lease was just raised: who it was asked for is let in before anything goes back.
    fresh: bool,
    draining: Option<(Instant, oneshot::Sender<bool>)>,
    tick: Option<SpawnHandle>,
    closing: bool,
    /// Counts restarts: a reply to a step that an earlier life sent is not for this one.
    life: u64,
}

impl Engine {
    /// An engine for a model that the worker has loaded.
    pub(super) fn new(parts: Parts, facts: Facts) -> Self {
        Engine {
            scheduler: scheduler(&parts, facts),
            parts,
            clients: HashMap::new(),
            device: Doing::Ready,
            flight: None,
            parked: VecDeque::new(),
            asked: false,
            owed: 0,
            fresh: false,
            draining: None,
            tick: None,
            closing: false,
            life: 0,
        }
    }

    /// Sends the next step, if the device is free and there is one.
    fn advance(&mut self, ctx: &mut Context<Self>) {
        let now = Instant::now();
        self.parts.status.turned();
        self.drop_left(now);
        let stale = self.scheduler.expire(now);
        self.emit(stale, now);
        self.end_drain(now);
        if self.device == Doing::Ready {
            if !self.fresh {
                self.owed -= self.give_back(self.owed);
            }
            self.borrow_memory(now, ctx);
            self.fresh = false;
            if let Some(plan) = self.scheduler.plan(now) {
                self.step(plan, ctx);
            }
            self.order_sessions(ctx);
        }
        if self.scheduler.is_idle() {
            self.give_back(usize::MAX);
            self.owed = 0;
        }
        if cfg!(debug_assertions) {
            self.scheduler.check();
        }
        self.publish();
    }

    fn step(&mut self, plan: sched::Plan, ctx: &mut Context<Self>) {
        self.device = Doing::Stepping;
        self.depart(&plan);
        self.tell_paused(&plan.paused);
        let step = Step {
            model: self.parts.model.clone(),
            plan,
            slice: self.scheduler.slice(),
        };
        let life = self.life;
        let reply = self.parts.worker.send(step).into_actor(self);
        ctx.spawn(reply.map(move |outcome, engine, ctx| {
            if engine.life == life {
                engine.stepped(outcome.unwrap_or_else(|gone| Err(worker_gone(gone))), ctx);
            }
        }));
    }

    /// Nobody is paused in silence.
    fn tell_paused(&mut self, paused: &[SeqId]) {
        for seq in paused {
            self.parts.metrics.preempted();
            if let Some(client) = self.clients.get_mut(seq) {
                client.preempted = true;
                tracing::info!(
                    request = %client.request,
                    model = %self.parts.model,
                    "the request gives way to others and goes on when there is memory"
                );
            }
        }
    }

    /// Hands on what is to be done with sessions. It is behind the step that parks what has ended, in the worker's
    /// mailbox too, so whoever was told of an end finds it parked.
    fn order_sessions(&mut self, ctx: &mut Context<Self>) {
        for Parked { mut order, reply } in std::mem::take(&mut self.parked) {
            let turn = self.turn_of(&mut order);
            let call = SessionCall {
                model: self.parts.model.clone(),
                order,
            };
            let life = self.life;
            let done = self.parts.worker.send(call).into_actor(self);
            ctx.spawn(done.map(move |outcome, engine, ctx| {
                let mut outcome = outcome.unwrap_or_else(|gone| Err(worker_gone(gone)));
                if let Ok(SessionReply::Picture { live, .. }) = &mut outcome {
                    *live = turn;
                }
                let lost = match &outcome {
                    Err(error @ (StepError::Lost(_) | StepError::NotLoaded)) => Some(error.clone()),
                    _ => None,
                };
                // With a step in flight, or a load, the loss comes back with that too.
                let first_told = engine.life == life && engine.device == Doing::Ready;
                if let Some(error) = lost.filter(|_| first_told && !engine.closing) {
                    engine.stepped(Err(error), ctx);
                }
                // Fails only when nobody waits for it.
                let _ = reply.send(outcome);
            }));
        }
    }

    /// Names the sequence that an order to look at a session is about, when a turn of it runs. Returns its tokens.
    fn turn_of(&self, order: &mut SessionOrder) -> Option<LiveTokens> {
        let SessionOrder::Picture { session, open, .. } = order else {
            return None;
        };
        let (seq, live) = self.scheduler.turn_of(session)?;
        *open = Some(seq);
        Some(live)
    }

    /// Notes what a step takes along, before it is sent.
    fn depart(&mut self, plan: &sched::Plan) {
        let now = Instant::now();
        for row in plan.rows.iter().filter(|row| row.open.is_some()) {
            if let Some(client) = self.clients.get_mut(&row.seq)
                && client.started.is_none()
            {
                client.started = Some(now);
                self.parts.metrics.queue_wait(now - client.submitted);
            }
        }
        let counts = (self.scheduler.waiting(), self.scheduler.running());
        self.flight = Some(Flight::new(plan, self.scheduler.reading(), now, counts));
    }

    /// Counts the step that was in flight, and what it drew.
    fn arrive(&mut self, drawn: Option<&[Drawn]>, now: Instant) {
        let Some(flight) = self.flight.take() else {
            return;
        };
        if self.parts.steps.on() {
            let kv_bytes = self.scheduler.kv_bytes();
            let event = flight.event(
                &self.parts.model.to_string(),
                now,
                kv_bytes,
                drawn.is_none(),
            );
            self.parts.steps.tell(event);
        }
        let Some(drawn) = drawn else {
            return;
        };
        let count = flight.count();
        self.parts.metrics.step(count, flight.took(now));
        let cached: usize = drawn.iter().map(|row| row.cached).sum();
        let generated = drawn.iter().map(|row| row.choices.len()).sum();
        self.parts.metrics.prompt(count.prompt_tokens, cached);
        self.parts.metrics.generated(generated);
        let status = &self.parts.status;
        status.computed(count.prompt_tokens, cached, generated);
        for row in drawn {
            let Some(miss) = &row.missed else {
                continue;
            };
            // A prompt of less than a block cannot be held.
            if !matches!(miss, Miss::TooShort { .. }) {
                self.parts.metrics.prefix_missed(miss.name());
            }
            if let Some(client) = self.clients.get_mut(&row.seq) {
                client.missed = Some(miss.to_string());
            }
        }
    }

    fn stepped(&mut self, outcome: Result<Stepped, StepError>, ctx: &mut Context<Self>) {
        self.device = Doing::Ready;
        let now = Instant::now();
        self.arrive(outcome.as_ref().ok().map(|stepped| &stepped.drawn[..]), now);
        match outcome {
            Ok(stepped) => {
                let events = self.scheduler.commit(stepped, now);
                self.emit(events, now);
            }
            Err(StepError::Forward(error)) => {
                // A model that failed in the middle of a step may have written half a cache: load it anew.
                self.parts.sessions.lost(&self.parts.model);
                let failed = self
                    .scheduler
                    .fail_running(&Failure::Forward(error.to_string()));
                self.emit(failed, now);
                self.reload(ctx);
            }
            Err(error @ (StepError::Lost(_) | StepError::NotLoaded)) => {
                // Before anybody is told, so that nobody goes on with what is gone.
                self.parts.sessions.lost(&self.parts.model);
                let failure = Failure::WorkerLost(error.to_string());
                let failed = self.scheduler.fail_running(&failure);
                self.emit(failed, now);
                self.reload(ctx);
            }
        }
        self.advance(ctx);
    }

    /// Puts the model on the (fresh) worker again.
    fn reload(&mut self, ctx: &mut Context<Self>) {
        if self.closing {
            return;
        }
        self.device = Doing::Reloading;
        self.parts.status.set_reloading(true);
        tracing::warn!(model = %self.parts.model, "loading the model again after its device state was lost");
        let load = Load {
            model: self.parts.model.clone(),
            build: Arc::clone(&self.parts.build),
        };
        let life = self.life;
        let reply = self.parts.worker.send(load).into_actor(self);
        ctx.spawn(reply.map(move |outcome, engine, ctx| {
            if engine.life == life {
                let lost = |gone: Gone| Err(LoadFailure::Lost(gone.to_string()));
                engine.reloaded(outcome.unwrap_or_else(lost), ctx);
            }
        }));
    }

    fn reloaded(&mut self, outcome: Result<Facts, LoadFailure>, ctx: &mut Context<Self>) {
        self.parts.status.set_reloading(false);
        match outcome {
            Ok(_) => {
                self.device = Doing::Ready;
                self.parts.status.set_failed(false);
                tracing::info!(model = %self.parts.model, "the model is loaded again");
            }
            Err(error) => {
                tracing::error!(model = %self.parts.model, %error, "the model could not be loaded again");
                self.device = Doing::Failed;
                self.parts.status.set_failed(true);
                let failed = self
                    .scheduler
                    .fail_all(&Failure::Forward(error.to_string()));
                self.emit(failed, Instant::now());
                self.refuse_orders(&error.to_string());
            }
        }
        self.advance(ctx);
    }

    /// Cancels those whose callers have gone.
    fn drop_left(&mut self, now: Instant) {
        let left: Vec<SeqId> = self
            .clients
            .iter()
            .filter(|(_, client)| client.reply.is_closed())
            .map(|(&seq, _)| seq)
            .collect();
        for seq in left {
            let Some(client) = self.clients.remove(&seq) else {
                continue;
            };
            if let Some((_, usage)) = self.scheduler.cancel(seq, now) {
                self.parts.metrics.cancelled(client.stage());
                self.log(&client, &usage, "cancelled");
            }
        }
    }

    /// Tells callers, counts, and logs the line of a request that is over.
    fn emit(&mut self, events: Vec<(SeqId, Event)>, now: Instant) {
        // First: who is told of an end finds that it is no longer counted.
        self.publish();
        for (seq, event) in events {
            let over = matches!(event, Event::Finished { .. } | Event::Failed(_));
            let Some(client) = self.clients.get_mut(&seq) else {
                continue;
            };
            match &event {
                Event::Prompt(_) | Event::States(..) => {}
                Event::Token { .. } => {
                    let metrics = &self.parts.metrics;
                    if let Some(last) = client.last_token.replace(now) {
                        let preempted = std::mem::take(&mut client.preempted);
                        metrics.next_token(now - last, preempted);
                    } else {
                        metrics.first_token(now - client.submitted);
                        metrics.prefill(now - client.started.unwrap_or(client.submitted));
                    }
                }
                Event::Finished { reason, usage, kv } => {
                    let finish = match reason {
                        FinishReason::Stop => "stop",
                        FinishReason::Length => "length",
                    };
                    let metrics = &self.parts.metrics;
                    metrics.guessed(usage.drafted_tokens, usage.accepted_tokens);
                    metrics.kv_evicted(kv.evicted as u64);
                    self.log_of(seq, usage, finish);
                }
                Event::Failed(failure) => {
                    tracing::warn!(request = %client.request, %failure, "request failed");
                    self.log_of(seq, &Usage::default(), "failed");
                }
            }
            // Room for every token and the end was made when the request came; only a closed channel refuses, and
            // then `drop_left` cancels.
            let told = self
                .clients
                .get(&seq)
                .is_some_and(|client| client.reply.try_send(event).is_ok());
            if over {
                self.clients.remove(&seq);
                if !told {
                    self.scheduler.abandon(seq);
                }
            }
        }
    }

    fn log_of(&self, seq: SeqId, usage: &Usage, finish: &'static str) {
        if let Some(client) = self.clients.get(&seq) {
            self.log(client, usage, finish);
        }
    }

    fn log(&self, client: &Client, usage: &Usage, finish: &'static str) {
        let line = RequestLine {
            id: client.request.clone(),
            model: self.parts.model.to_string(),
            prompt_tokens: usage.prompt_tokens,
            cached_tokens: usage.cached_tokens,
            output_tokens: usage.completion_tokens,
            queue_ms: usage.queue.as_millis() as u64,
            first_token_ms: (!usage.first_token.is_zero())
                .then_some(usage.first_token.as_millis() as u64),
            total_ms: usage.total.as_millis() as u64,
            prefix_missed: client.missed.clone(),
            finish,
        };
        line.emit();
    }

    /// Asks for the memory that the next request lacks.
    fn borrow_memory(&mut self, now: Instant, ctx: &mut Context<Self>) {
        let Some(missing) = self.scheduler.shortfall(now).filter(|_| !self.asked) else {
            return;
        };
        self.asked = true;
        let (reply, granted) = oneshot::channel();
        self.parts.cache.do_send(Lease {
            owner: self.parts.model.clone(),
            bytes: self.scheduler.memory().granted() + missing,
            reply,
        });
        let life = self.life;
        ctx.spawn(granted.into_actor(self).map(move |granted, engine, ctx| {
            if engine.life == life {
                engine.asked = false;
                engine.fresh = true;
                engine.scheduler.grant(granted.unwrap_or(0));
                engine.advance(ctx);
            }
        }));
    }

    /// Returns at most `wanted` bytes of the lease, and says how many.
    fn give_back(&mut self, wanted: usize) -> usize {
        let bytes = self.scheduler.release(wanted);
        if bytes > 0 {
            self.parts.cache.do_send(Return {
                owner: self.parts.model.clone(),
                bytes,
            });
        }
        bytes
    }

    /// Ends a drain that is complete or late.
    fn end_drain(&mut self, now: Instant) {
        let Some((deadline, _)) = &self.draining else {
            return;
        };
        let complete = self.clients.is_empty();
        if !complete && now < *deadline {
            return;
        }
        let failed = self.scheduler.fail_all(&Failure::ShutDown);
        self.emit(failed, now);
        if let Some((_, done)) = self.draining.take() {
            let _ = done.send(complete);
        }
    }

    fn refuse_orders(&mut self, reason: &str) {
        for Parked { reply, .. } in self.parked.drain(..) {
            let _ = reply.send(Err(StepError::Lost(reason.to_owned())));
        }
    }

    fn publish(&self) {
        // What is paused waits again, and holds the model as busy as what runs.
        let waiting = self.scheduler.waiting() + self.scheduler.paused();
        let running = self.scheduler.running();
        let bytes = self.scheduler.kv_bytes();
        let tokens = self.scheduler.waiting_tokens();
        self.parts.status.set_waiting_tokens(tokens);
        self.parts.status.set_load(waiting, running, bytes);
        // What has left during a step is told to the device with the next one: it must still be awake then.
        let owing = self.device == Doing::Stepping && !self.scheduler.is_idle();
        self.parts.status.set_owing(owing);
    }
}

fn worker_gone(gone: Gone) -> StepError {
    StepError::Lost(gone.to_string())
}

fn scheduler(parts: &Parts, facts: Facts) -> Scheduler {
    let limits = Limits {
        shape: facts.shape,
        total_bytes: usize::try_from(parts.kv.total_bytes.bytes()).unwrap_or(usize::MAX),
    };
    Scheduler::new(parts.scheduler.clone(), limits).with_slices(facts.slices)
}

impl Actor for Engine {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        if self.closing {
            return;
        }
        self.tick = Some(ctx.run_interval(TICK, |engine, ctx| {
            if !engine.clients.is_empty() || engine.draining.is_some() {
                engine.advance(ctx);
            }
        }));
        self.parts.cache.do_send(Register {
            owner: self.parts.model.clone(),
            shrink: Some(ctx.address().recipient()),
        });
        if self.device == Doing::Reloading {
            self.reload(ctx);
        }
    }
}

impl Supervised for Engine {
    fn restarting(&mut self, _: &mut Self::Context) {
        tracing::warn!(model = %self.parts.model, "the engine was stopped and starts again");
        self.parts.sessions.lost(&self.parts.model);
        let stopped = Failure::WorkerLost("the engine was stopped and starts again".to_owned());
        let failed = self.scheduler.fail_all(&stopped);
        self.emit(failed, Instant::now());
        self.give_back(usize::MAX);
        self.life += 1;
        self.asked = false;
        self.owed = 0;
        self.fresh = false;
        // The worker may still hold caches of sequences that this life does not know.
        self.device = Doing::Reloading;
        self.flight = None;
        self.parts.status.set_reloading(true);
        self.publish();
    }
}

impl Handler<Submit> for Engine {
    type Result = Result<SeqId, Busy>;

    fn handle(&mut self, submit: Submit, ctx: &mut Self::Context) -> Self::Result {
        let request = submit.request.id.clone();
        let submitted = Instant::now();
        if self.device == Doing::Failed {
            // The next try may find the memory or the file that was missing.
            self.reload(ctx);
        }
        let gone = submit.request.session.as_ref().filter(|session| {
            let sessions = &self.parts.sessions;
            session.seen > 0 && sessions.is_lost(&self.parts.model, &session.session)
        });
        let outcome = match gone {
            Some(session) => Err(Busy::SessionLost(session.session.clone())),
            None => self.scheduler.submit(submit.request, submitted),
        };
        match outcome {
            Ok(seq) => {
                self.clients.insert(
                    seq,
                    Client {
                        reply: submit.reply,
                        request,
                        submitted,
                        started: None,
                        last_token: None,
                        preempted: false,
                        missed: None,
                    },
                );
                self.advance(ctx);
                Ok(seq)
            }
            Err(busy) => {
                self.parts.metrics.rejected(match busy {
                    Busy::QueueFull { .. } | Busy::ShareFull { .. } | Busy::TokensFull { .. } => {
                        "queue_full"
                    }
                    Busy::TooLarge { .. } => "too_large",
                    Busy::Draining => "draining",
                    Busy::SessionLost(_) => "session_lost",
                });
                Err(busy)
            }
        }
    }
}

impl Handler<Finish> for Engine {
    type Result = ();

    fn handle(&mut self, finish: Finish, ctx: &mut Self::Context) {
        let now = Instant::now();
        if let Some(end) = self.scheduler.finish(finish.seq, now) {
            self.emit(vec![end], now);
            self.advance(ctx);
        }
    }
}

impl Handler<Parked> for Engine {
    type Result = ();

    fn handle(&mut self, parked: Parked, ctx: &mut Self::Context) {
        self.parts.status.touch();
        self.parked.push_back(parked);
        if self.closing {
            self.refuse_orders(UNLOADED);
            return;
        }
        if self.device == Doing::Failed {
            // The next try may find the memory or the file that was missing.
            self.reload(ctx);
        }
        self.advance(ctx);
    }
}

impl Handler<Shrink> for Engine {
    type Result = usize;

    fn handle(&mut self, shrink: Shrink, _: &mut Self::Context) -> usize {
        let spare = if self.fresh { 0 } else { shrink.bytes };
        let given = self.scheduler.release(spare);
        if shrink.rest {
            self.owed = shrink.bytes - given;
        }
        given
    }
}

impl Handler<Drain> for Engine {
    type Result = ();

    fn handle(&mut self, drain: Drain, ctx: &mut Self::Context) {
        self.scheduler.drain();
        self.draining = Some((Instant::now() + drain.deadline, drain.done));
        self.advance(ctx);
    }
}

impl Handler<Close> for Engine {
    type Result = ();

    fn handle(&mut self, _: Close, ctx: &mut Self::Context) {
        self.closing = true;
        self.parts.sessions.lost(&self.parts.model);
        self.refuse_orders(UNLOADED);
        let failed = self.scheduler.fail_all(&Failure::ShutDown);
        self.emit(failed, Instant::now());
        let owner = self.parts.model.clone();
        self.parts.cache.do_send(Register {
            owner,
            shrink: None,
        });
        self.parts.worker.do_send(Unload {
            model: self.parts.model.clone(),
        });
        // A supervised actor that stops is started again while anybody holds its address. This one refuses all
        // that still comes, and ends when the last address is gone, which a timer would prevent.
        self.scheduler.drain();
        if let Some(tick) = self.tick.take() {
            ctx.cancel_future(tick);
        }
    }
}

impl Handler<Restart> for Engine {
    type Result = ();

    fn handle(&mut self, _: Restart, ctx: &mut Self::Context) {
        ctx.stop();
    }
}
