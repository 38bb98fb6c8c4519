//! Running code that a model wrote: in a process of its own, without network, within time and memory.
//!
//! The guards are Landlock (files), seccomp (no sockets, no processes, no signals to others) and resource limits.
//! They are put up by the child on itself, in [`enter`], before it becomes the interpreter. One that the machine lacks
//! is an error: nothing runs unguarded.

mod enter;
mod execution;
mod guard;
mod interpreter;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use thiserror::Error;

pub use enter::{JOB, enter};
pub use execution::{Execution, Outcome};

use enter::{GUARDED, Job};
use execution::read;
use interpreter::Interpreter;

/// How long the launcher may take until the guards are up; loading this binary from a cold disk is slow.
const START: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(2);

/// What a program may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Time from its start to its end.
    pub time: Duration,
    /// Bytes of its address space.
    pub memory: u64,
    /// Bytes of each file that it writes, standard output and error among them.
    pub file: u64,
}

impl Default for Limits {
    /// 5 seconds and 256 MiB, nanochat's (<https://github.com/karpathy/nanochat>); files of 1 MiB.
    fn default() -> Self {
        Limits {
            time: Duration::from_secs(5),
            memory: 256 << 20,
            file: 1 << 20,
        }
    }
}

/// The program that calls [`enter`], and the arguments with which it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launcher {
    /// This binary, as a rule.
    pub program: PathBuf,
    /// What makes it call [`enter`], before anything else.
    pub arguments: Vec<String>,
}

/// Why a program was not run.
#[derive(Debug, Error)]
pub enum SandboxError {
    /// This machine lacks a guard, or the interpreter.
    #[error(
        "code tasks need {missing}, which this machine does not offer; nothing was run: leave code tasks out or use another machine"
    )]
    Unguarded {
        /// What is missing.
        missing: String,
    },
    /// The launcher ended without saying how far it came.
    #[error("{launcher} ended before its guards were up ({status}): {stderr}")]
    Launcher {
        /// The launcher.
        launcher: PathBuf,
        /// How it ended.
        status: String,
        /// What it wrote.
        stderr: String,
    },
    /// The guards are up, and the interpreter does not start behind them.
    #[error(
        "python3 does not start behind its guards, it ended with {outcome}: {stderr}; raise its limits, or use a python3 of the system"
    )]
    Start {
        /// How it ended.
        outcome: Outcome,
        /// What it wrote.
        stderr: String,
    },
    /// Scratch files or the process could not be made.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
}

/// Something that runs a Python program and tells how it ended.
pub trait Executor {
    /// Runs `program` once.
    ///
    /// # Errors
    /// It was not run; how it ended is no error.
    fn run(&self, program: &str) -> Result<Execution, SandboxError>;
}

/// A guarded Python 3.
#[derive(Debug, Clone)]
pub struct Sandbox {
    launcher: Launcher,
    limits: Limits,
    interpreter: Interpreter,
}

impl Sandbox {
    /// Finds the interpreter, and tries every guard once.
    ///
    /// # Errors
    /// [`SandboxError::Unguarded`] naming what this machine lacks, [`SandboxError::Start`] for limits that Python itself
    /// does not fit in.
    pub fn open(launcher: Launcher, limits: Limits) -> Result<Self, SandboxError> {
        Sandbox::with_interpreter(launcher, limits, Path::new("python3"))
    }

    /// [`open`](Self::open) with the interpreter at `python`.
    ///
    /// # Errors
    /// As there.
    pub fn with_interpreter(
        launcher: Launcher,
        limits: Limits,
        python: &Path,
    ) -> Result<Self, SandboxError> {
        let interpreter = Interpreter::find(python)?;
        let sandbox = Sandbox {
            launcher,
            limits,
            interpreter,
        };
        let tried = sandbox.run("print('ready')\n")?;
        match tried.outcome {
            Outcome::Success => Ok(sandbox),
            outcome => Err(SandboxError::Start {
                outcome,
                stderr: tried.stderr.trim().to_owned(),
            }),
        }
    }

    /// The limits of each program.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    fn start(&self, folder: &Path, job: &Job) -> Result<Child, SandboxError> {
        let text = serde_json::to_string(job).map_err(|e| failed("describe the job", e.into()))?;
        let file = |name: &str| {
            File::create(folder.join(name)).map_err(|e| failed("create a scratch file", e))
        };
        Command::new(&self.launcher.program)
            .args(&self.launcher.arguments)
            .env(JOB, text)
            .current_dir(&job.work)
            .stdin(Stdio::null())
            .stdout(file("stdout")?)
            .stderr(file("stderr")?)
            .spawn()
            .map_err(|e| failed(&format!("start {}", self.launcher.program.display()), e))
    }

    /// Waits until the child says that its guards are up, or why not.
    fn guarded(&self, child: &mut Child, folder: &Path, status: &Path) -> Result<(), SandboxError> {
        let begun = Instant::now();
        loop {
            let ended = child
                .try_wait()
                .map_err(|e| failed("wait for the launcher", e))?;
            let said = fs::read_to_string(status).unwrap_or_default();
            if said == GUARDED {
                return Ok(());
            }
            if let Some(missing) = said.strip_suffix('\n') {
                return Err(SandboxError::Unguarded {
                    missing: missing.to_owned(),
                });
            }
            let status = match ended {
                Some(status) => status.to_string(),
                None if begun.elapsed() > START => format!("no word within {START:?}"),
                None => {
                    thread::sleep(POLL);
                    continue;
                }
            };
            return Err(SandboxError::Launcher {
                launcher: self.launcher.program.clone(),
                status,
                stderr: read(&folder.join("stderr")).0,
            });
        }
    }
}

impl Executor for Sandbox {
    fn run(&self, program: &str) -> Result<Execution, SandboxError> {
        let folder = tempfile::tempdir().map_err(|e| failed("create a scratch folder", e))?;
        // The program may write in `work` alone: the word that the guards are up lies outside of its reach.
        let work = folder.path().join("work");
        let script = work.join("program.py");
        fs::create_dir(&work)
            .and_then(|()| fs::write(&script, program))
            .map_err(|e| failed("write the program", e))?;
        let job = Job {
            program: self.interpreter.program.clone(),
            arguments: vec![
                "-I".to_owned(),
                "-B".to_owned(),
                script.display().to_string(),
            ],
            readable: self.interpreter.readable.clone(),
            work,
            status: folder.path().join("status"),
            seconds: self.limits.time.as_secs() + 2,
            memory: self.limits.memory,
            file: self.limits.file,
        };
        let mut child = Ended(self.start(folder.path(), &job)?);
        self.guarded(&mut child.0, folder.path(), &job.status)?;
        let begun = Instant::now();
        let status = loop {
            match child
                .0
                .try_wait()
                .map_err(|e| failed("wait for the program", e))?
            {
                Some(status) => break Some(status),
                None if begun.elapsed() >= self.limits.time => break None,
                None => thread::sleep(POLL),
            }
        };
        // It starts no other process, so that the end of this one is the end of all.
        drop(child);
        let (stdout, cut) = read(&folder.path().join("stdout"));
        let (stderr, cut_too) = read(&folder.path().join("stderr"));
        Ok(Execution {
            outcome: Outcome::of(status, &stderr),
            stdout,
            stderr,
            truncated: cut || cut_too,
        })
    }
}

/// A child that does not outlive its owner, whichever way that goes.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // Both fail only where the child has ended and been waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn failed(what: &str, source: io::Error) -> SandboxError {
    SandboxError::Io {
        what: what.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests;
