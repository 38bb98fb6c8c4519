//! The signals that end a command. A signal that nobody listens for keeps its effect of ending the process. A terminal that
//! goes away (SIGHUP) ends it as SIGTERM does; a daemon whose terminal is still there, or that never had one, reads its
//! settings anew.

use tokio::signal::unix::{self, SignalKind};

use super::exit::Signal;

/// Hears SIGINT, SIGTERM and SIGHUP from now on.
pub(super) struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
    hangup: unix::Signal,
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
            hangup: unix::signal(SignalKind::hangup())?,
        })
    }

    /// The next signal, of a process that knows how to read its settings anew.
    pub(super) async fn next_or_reload(&mut self, terminal: Terminal) -> Asked {
        match self.heard().await {
            Some(signal) => Asked::End(signal),
            None if terminal.has_left() => Asked::End(Signal::Terminate),
            None => Asked::Reload,
        }
    }

    /// The next signal.
    pub(super) async fn next(&mut self) -> Signal {
        self.heard().await.unwrap_or(Signal::Terminate)
    }

    /// The next one; `None` for SIGHUP.
    async fn heard(&mut self) -> Option<Signal> {
        tokio::select! {
            _ = self.interrupt.recv() => Some(Signal::Interrupt),
            _ = self.terminate.recv() => Some(Signal::Terminate),
            _ = self.hangup.recv() => None,
        }
    }
}

/// What a signal asks a daemon for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// To end.
    End(Signal),
    /// To read its settings anew.
    Reload,
}

/// Whether the process had a terminal that controls it when it started.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terminal(bool);

impl Terminal {
    /// Looks for it.
    pub(super) fn look() -> Terminal {
        Terminal(Terminal::is_there())
    }

    /// Whether it is gone: the system takes it from all processes before it tells the first of them.
    fn has_left(self) -> bool {
        self.0 && !Terminal::is_there()
    }

    fn is_there() -> bool {
        std::fs::File::open("/dev/tty").is_ok()
    }
}
