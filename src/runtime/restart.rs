//! Stopping one actor so that its supervisor starts it afresh, at the same address.

use actix::Message;

/// Stop and start again. What the actor had in flight fails with a clear error; what it owns for good it keeps.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Restart;
