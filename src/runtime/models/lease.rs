//! What a training run takes of the memory that models share.

use actix::{Handler, Message, ResponseFuture};

use super::Models;
use crate::runtime::orders::Close;

/// The training run of this process takes `bytes` in all; 0 gives all back. Idle models go, as for a model that is
/// loaded. Answered once they are gone, or with how many bytes are free when it cannot be had.
#[derive(Message)]
#[rtype(result = "Result<(), usize>")]
pub(in crate::runtime) struct Lend {
    pub(in crate::runtime) bytes: usize,
}

impl Handler<Lend> for Models {
    type Result = ResponseFuture<Result<(), usize>>;

    fn handle(&mut self, lend: Lend, _: &mut Self::Context) -> Self::Result {
        self.reserved = 0;
        let room = match lend.bytes {
            0 => Ok(Vec::new()),
            bytes => self.make_room(bytes),
        };
        if room.is_ok() {
            self.reserved = lend.bytes;
        }
        Box::pin(async move {
            for engine in room? {
                // An engine that is gone has no memory.
                let _ = engine.send(Close).await;
            }
            Ok(())
        })
    }
}
