//! What computes: the instructions and threads that a network and its optimizer share.

use std::sync::Arc;

use super::NetworkError;
use crate::kernels::{Level, Pool};

/// Instructions and threads. A clone shares the threads.
#[derive(Clone)]
pub struct Processor {
    /// The instructions.
    pub level: Level,
    /// The threads.
    pub pool: Arc<Pool>,
}

impl Processor {
    /// The processor's best instructions on `threads` threads, 0 for all that it has.
    ///
    /// # Errors
    /// If the system starts no further thread.
    pub fn new(threads: usize) -> Result<Self, NetworkError> {
        let threads = match threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            given => given,
        };
        Ok(Processor {
            level: Level::best(),
            pool: Arc::new(Pool::new(threads).map_err(NetworkError::Threads)?),
        })
    }

    /// Calls `work` for pieces of `out` of `piece` values each, with the index of the first, on all threads.
    pub(crate) fn for_pieces(
        &self,
        out: &mut [f32],
        piece: usize,
        work: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        use std::sync::{Mutex, PoisonError};
        let pieces: Vec<_> = out.chunks_mut(piece.max(1)).map(Mutex::new).collect();
        self.pool.run(pieces.len(), |index| {
            let mut held = pieces[index].lock().unwrap_or_else(PoisonError::into_inner);
            work(index * piece, &mut held);
        });
    }
}

impl std::fmt::Debug for Processor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Processor")
            .field("level", &self.level)
            .field("threads", &self.pool.threads())
            .finish()
    }
}
