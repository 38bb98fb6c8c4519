//! How the process ends: its code, and what it says when something failed.

use std::io::Write;

use super::output::Closed;

/// How a command ended without an error to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    /// All is done.
    Done,
    /// What was checked is not well; the report was printed.
    Failed,
    /// A signal ended it.
    By(Signal),
}

/// A signal that ends a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    /// SIGINT, as from Ctrl-C.
    Interrupt,
    /// SIGTERM.
    Terminate,
}

impl Signal {
    /// The code that shells give a process which this signal ended.
    pub(super) fn code(self) -> u8 {
        match self {
            Signal::Interrupt => 130,
            Signal::Terminate => 143,
        }
    }
}

/// The command line is wrong in a way that the parser cannot see.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Usage(pub(super) String);

/// Prints an error, if there is one, and gives the code of the process.
pub(super) fn report(result: anyhow::Result<Exit>) -> u8 {
    match result {
        Ok(Exit::Done) => 0,
        Ok(Exit::Failed) => 1,
        Ok(Exit::By(signal)) => signal.code(),
        // Whoever read the output has had enough of it.
        Err(error) if error.is::<Closed>() => 0,
        Err(error) => {
            eprintln!("{}", describe(&error));
            if error.is::<Usage>() { 2 } else { 1 }
        }
    }
}

/// `error: …`, then each cause on its own line unless the line above it has said as much.
pub(super) fn describe(error: &anyhow::Error) -> String {
    let mut said = error.to_string();
    let mut text = format!("error: {said}");
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        if !said.contains(&cause) {
            text.push_str(&format!("\n  because: {cause}"));
        }
        said = cause;
    }
    text
}

/// Ends the process without the destructors of libraries: libtorch's crash while a worker still computes, as one does
/// whose answer was stopped in the middle of a step.
#[allow(
    unsafe_code,
    reason = "there is no safe call that ends a process without running its destructors"
)]
pub(super) fn at_once(code: u8) -> ! {
    // Fails only when nobody reads it.
    let _ = std::io::stdout().flush();
    // SAFETY: `_exit` takes no pointer and does not return; all that is ours has been written and dropped.
    unsafe { libc::_exit(i32::from(code)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::{Context, anyhow};

    #[test]
    fn each_cause_is_told_once() {
        let error = anyhow!("disk is full").context("cannot write a: disk is full");
        assert_eq!(describe(&error), "error: cannot write a: disk is full");
        let error = Err::<(), _>(anyhow!("no room"))
            .context("cannot save")
            .unwrap_err();
        assert_eq!(describe(&error), "error: cannot save\n  because: no room");
    }

    #[test]
    fn codes_are_those_of_the_documentation() {
        let codes = [
            (Ok(Exit::Done), 0),
            (Ok(Exit::Failed), 1),
            (Ok(Exit::By(Signal::Interrupt)), 130),
            (Ok(Exit::By(Signal::Terminate)), 143),
            (Err(anyhow!("x")), 1),
            (Err(Usage("x".into()).into()), 2),
            (Err(Closed.into()), 0),
        ];
        for (result, code) in codes {
            let shown = format!("{result:?}");
            assert_eq!(report(result), code, "{shown}");
        }
    }
}
