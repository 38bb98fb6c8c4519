//! How a guarded program ended.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;

/// Bytes of output that are kept.
const KEPT: u64 = 64 << 10;

/// The end of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It ended by itself, with code 0.
    Success,
    /// It ended by itself, with another code, as an exception makes it.
    Failed {
        /// The code.
        code: i32,
    },
    /// It asked for more memory than its limit.
    OutOfMemory,
    /// It was ended at its limit of time.
    TimedOut,
    /// A signal ended it.
    Killed {
        /// Its number.
        signal: i32,
    },
}

impl Outcome {
    /// From the status, absent where time was up.
    pub(super) fn of(status: Option<ExitStatus>, stderr: &str) -> Self {
        let Some(status) = status else {
            return Outcome::TimedOut;
        };
        match (status.code(), status.signal()) {
            (Some(0), _) => Outcome::Success,
            (Some(_), _) if stderr.trim_end().lines().last().is_some_and(is_memory) => {
                Outcome::OutOfMemory
            }
            (Some(code), _) => Outcome::Failed { code },
            (None, Some(libc::SIGXCPU)) => Outcome::TimedOut,
            (None, signal) => Outcome::Killed {
                signal: signal.unwrap_or_default(),
            },
        }
    }
}

fn is_memory(line: &str) -> bool {
    line == "MemoryError" || line.starts_with("MemoryError:")
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Success => f.write_str("success"),
            Outcome::Failed { code } => write!(f, "code {code}"),
            Outcome::OutOfMemory => f.write_str("out of memory"),
            Outcome::TimedOut => f.write_str("time out"),
            Outcome::Killed { signal } => write!(f, "signal {signal}"),
        }
    }
}

/// A program's end and what it wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Execution {
    /// How it ended.
    pub outcome: Outcome,
    /// Its standard output, the first 64 KiB.
    pub stdout: String,
    /// Its standard error, the first 64 KiB.
    pub stderr: String,
    /// Whether either was longer.
    pub truncated: bool,
}

/// The first bytes of a file as text, and whether there are more.
pub(super) fn read(path: &Path) -> (String, bool) {
    let mut bytes = Vec::new();
    let mut cut = false;
    if let Ok(file) = File::open(path) {
        cut = file.metadata().is_ok_and(|metadata| metadata.len() > KEPT);
        // What could not be read is not shown: the outcome, not the output, is the result.
        let _ = file.take(KEPT).read_to_end(&mut bytes);
    }
    (String::from_utf8_lossy(&bytes).into_owned(), cut)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_told_apart() {
        let exit = |code: i32| Some(ExitStatus::from_raw(code << 8));
        for (status, stderr, outcome, shown) in [
            (exit(0), "MemoryError", Outcome::Success, "success"),
            (
                exit(1),
                "x\nMemoryError\n",
                Outcome::OutOfMemory,
                "out of memory",
            ),
            (exit(1), "ValueError", Outcome::Failed { code: 1 }, "code 1"),
            (None, "", Outcome::TimedOut, "time out"),
            (
                Some(ExitStatus::from_raw(libc::SIGXCPU)),
                "",
                Outcome::TimedOut,
                "time out",
            ),
            (
                Some(ExitStatus::from_raw(libc::SIGSEGV)),
                "",
                Outcome::Killed { signal: 11 },
                "signal 11",
            ),
        ] {
            assert_eq!(Outcome::of(status, stderr), outcome);
            assert_eq!(outcome.to_string(), shown);
        }
    }

    #[test]
    fn long_output_is_cut_and_said_so() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), vec![b'x'; 70_000]).unwrap();
        let (text, cut) = read(file.path());
        assert_eq!((text.len(), cut), (65_536, true));
        assert_eq!(read(Path::new("/nonexistent")), (String::new(), false));
    }
}
