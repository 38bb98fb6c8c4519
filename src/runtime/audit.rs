//! The one writer of the record of who asked for what.

use actix::{Actor, ActorContext, Context, Handler, Message, Supervised};

use super::restart::Restart;
use crate::telemetry::{AuditLog, Record};

/// Append a record.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Append(pub(super) Record);

/// See the module.
pub(super) struct Audit {
    log: AuditLog,
    /// Failures are told once a streak, not once a request.
    failing: bool,
}

impl Audit {
    pub(super) fn new(log: AuditLog) -> Self {
        Audit {
            log,
            failing: false,
        }
    }
}

impl Actor for Audit {
    type Context = Context<Self>;
}

impl Supervised for Audit {}

impl Handler<Append> for Audit {
    type Result = ();

    fn handle(&mut self, append: Append, _: &mut Self::Context) {
        match self.log.append(&append.0) {
            Ok(()) => self.failing = false,
            Err(error) if !self.failing => {
                self.failing = true;
                tracing::error!(%error, "the audit record cannot be written");
            }
            Err(_) => {}
        }
    }
}

impl Handler<Restart> for Audit {
    type Result = ();

    fn handle(&mut self, _: Restart, ctx: &mut Self::Context) {
        ctx.stop();
    }
}
