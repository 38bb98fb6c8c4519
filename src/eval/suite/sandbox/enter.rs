//! The inside of the sandbox: a process that guards itself and then becomes the program.

use std::env;
use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::{Resource, Rlimit, setrlimit};
use seccompiler::BpfProgram;
use serde::{Deserialize, Serialize};

use super::guard::{apply, files, syscalls};

/// The environment variable that holds the job of a launcher.
pub const JOB: &str = "LLAMAHOME_SANDBOX_JOB";

/// What the status file holds once all guards are up; anything else in it is a line that names what is missing.
pub(super) const GUARDED: &str = "guarded";

/// Bytes that are left free in the heap for starting the program.
const SLACK: usize = 64 << 10;

/// What to become, and within which limits.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Job {
    pub program: PathBuf,
    pub arguments: Vec<String>,
    pub readable: Vec<PathBuf>,
    pub work: PathBuf,
    pub status: PathBuf,
    pub seconds: u64,
    pub memory: u64,
    pub file: u64,
}

/// Puts up the guards around this process and becomes the program of the job in [`JOB`]; it returns only to say why
/// it did not. Whoever launches a sandbox calls this first of all, before it starts a thread, and ends after it.
///
/// The guards belong to the calling thread, and the program keeps them.
pub fn enter() -> String {
    let job: Job = match env::var(JOB).map(|text| serde_json::from_str(&text)) {
        Ok(Ok(job)) => job,
        Ok(Err(error)) => return format!("{JOB} holds no job: {error}"),
        Err(error) => return format!("{JOB}: {error}; this entry is for the sandbox alone"),
    };
    let mut status = match File::create(&job.status) {
        Ok(file) => file,
        Err(error) => return format!("{}: {error}", job.status.display()),
    };
    let mut program = Command::new(&job.program);
    program
        .args(&job.arguments)
        .current_dir(&job.work)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", &job.work)
        .env("TMPDIR", &job.work)
        .env("LANG", "C.UTF-8");
    let guarded = guard(&job).and_then(|filters| {
        // The address space of this binary may be above the limit already, and then nothing more can be mapped: what
        // starting the program needs has to be free in the heap.
        drop(std::hint::black_box(vec![0_u8; SLACK]));
        limit(Resource::As, job.memory).map_err(|error| format!("a limit of memory ({error})"))?;
        // Last, as the filters refuse new limits.
        apply(&filters)
    });
    if let Err(missing) = guarded {
        // The other side sees an empty status where this fails, and refuses too.
        let _ = status.write_all(missing.as_bytes());
        let _ = status.write_all(b"\n");
        return missing;
    }
    if let Err(error) = status.write_all(GUARDED.as_bytes()) {
        return format!("{}: {error}", job.status.display());
    }
    format!("{}: {}", job.program.display(), program.exec())
}

/// The guards that need room: all but the limit of memory, and the filters, still to be applied.
fn guard(job: &Job) -> Result<[BpfProgram; 2], String> {
    let limits = [
        (Resource::Cpu, job.seconds, "of processor time"),
        (Resource::Fsize, job.file, "of file size"),
        (Resource::Core, 0, "of core files"),
        (Resource::Nofile, 64, "of open files"),
    ];
    for (resource, value, what) in limits {
        limit(resource, value).map_err(|error| format!("a limit {what} ({error})"))?;
    }
    files(&job.readable, &job.work)?;
    syscalls()
}

fn limit(resource: Resource, value: u64) -> rustix::io::Result<()> {
    setrlimit(
        resource,
        Rlimit {
            current: Some(value),
            maximum: Some(value),
        },
    )
}
