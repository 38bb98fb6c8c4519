//! What an engine obeys.

use std::time::Duration;

use actix::Message;
use tokio::sync::{mpsc, oneshot};

use super::worker::StepError;
use crate::ids::SeqId;
use crate::sched::{Busy, Event, Request, SessionOrder, SessionReply};

/// Take in a request. Events go to `reply`, whose room is `max_tokens + 1`, so a slow reader stalls nobody.
#[derive(Message)]
#[rtype(result = "Result<SeqId, Busy>")]
pub(super) struct Submit {
    pub(super) request: Request,
    pub(super) reply: mpsc::Sender<Event>,
}

/// End a sequence as complete: its caller has met a stop string. If it still ran, its events have an end when this is
/// answered.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Finish {
    pub(super) seq: SeqId,
}

/// Do something with parked sessions, once those of all sequences that have ended are parked. Dropped unanswered when
/// the engine is.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Parked {
    pub(super) order: SessionOrder,
    pub(super) reply: oneshot::Sender<Result<SessionReply, StepError>>,
}

/// Take in no more; answered when nothing is left, or with `false` after the deadline, when the rest was failed.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Drain {
    pub(super) deadline: Duration,
    pub(super) done: oneshot::Sender<bool>,
}

/// Free the model and take in nothing more.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Close;
