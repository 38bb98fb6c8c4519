//! What the trainer obeys, and what its thread tells it.

use std::time::Duration;

use actix::Message;

use crate::runtime::runs::RunsError;
use crate::train::recipe::Loaded;
use crate::train::runs::{Request, RunFolder, RunId};

/// Which run is to be taken up.
pub(in crate::runtime) enum What {
    /// One that there is not yet.
    New(Box<Loaded>),
    /// One that was stopped, has failed or was interrupted.
    Again(RunFolder),
}

/// Take up a run. Answered when its folder is there and its thread has begun.
#[derive(Message)]
#[rtype(result = "Result<RunId, RunsError>")]
pub(in crate::runtime) struct Start(pub(in crate::runtime) What);

/// Ask something of a run. Answered with whether it is the one that is under way here.
#[derive(Message)]
#[rtype(result = "bool")]
pub(in crate::runtime) struct Steer {
    pub(in crate::runtime) id: RunId,
    pub(in crate::runtime) request: Request,
}

/// Say which run is under way here.
#[derive(Message)]
#[rtype(result = "Option<RunId>")]
pub(in crate::runtime) struct Own;

/// Save and stop what runs, and begin nothing more. Answered with whether that was done in time.
#[derive(Message)]
#[rtype(result = "bool")]
pub(in crate::runtime) struct Leave {
    pub(in crate::runtime) deadline: Duration,
}

/// The thread of a run tells how it goes.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Report {
    pub(super) id: RunId,
    pub(super) told: Told,
}

/// How it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// What was ordered is done, and the next step may come.
    Ready,
    /// The run is paused.
    Paused,
    /// The run has ended, in whatever way; its memory is free.
    Ended,
}
