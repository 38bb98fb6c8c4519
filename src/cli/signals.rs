//! The signals that end a command. A signal that nobody listens for keeps its effect of ending the process.

use tokio::signal::unix::{self, SignalKind};

use super::exit::Signal;

/// Hears SIGINT and SIGTERM from now on.
pub(super) struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
}

impl Signals {
    /// Starts to listen.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn listen() -> std::io::Result<Self> {
        Ok(Signals {
            interrupt: unix::signal(SignalKind::interrupt())?,
            terminate: unix::signal(SignalKind::terminate())?,
        })
    }

    /// The next signal.
    pub(super) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::Interrupt,
            _ = self.terminate.recv() => Signal::Terminate,
        }
    }
}
