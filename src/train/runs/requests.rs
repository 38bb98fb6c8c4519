//! What other processes ask of a run: files that anyone who may write the run's folder can drop.

use std::fs;
use std::path::Path;

use super::RunError;

/// What is asked of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Request {
    /// Take no more steps until `Resume`.
    Pause,
    /// Go on.
    Resume,
    /// Save a checkpoint now.
    Save,
    /// Save a checkpoint and end.
    Stop,
}

impl Request {
    /// All of them, in the order in which they are obeyed.
    pub const ALL: [Request; 4] = [
        Request::Pause,
        Request::Resume,
        Request::Save,
        Request::Stop,
    ];

    /// The name of the request's file in the folder `requests`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Request::Pause => "pause",
            Request::Resume => "resume",
            Request::Save => "save",
            Request::Stop => "stop",
        }
    }
}

/// Drops a request into `folder`. Asking twice is asking once; a pause takes back a resume, and the other way round.
pub(super) fn post(folder: &Path, request: Request) -> Result<(), RunError> {
    fs::create_dir_all(folder).map_err(RunError::io("make the folder", folder))?;
    let opposite = match request {
        Request::Pause => Some(Request::Resume),
        Request::Resume => Some(Request::Pause),
        Request::Save | Request::Stop => None,
    };
    if let Some(opposite) = opposite {
        take_one(folder, opposite)?;
    }
    let path = folder.join(request.as_str());
    fs::write(&path, b"").map_err(RunError::io("write", &path))
}

/// Takes the requests out of `folder`.
pub(super) fn take(folder: &Path) -> Result<Vec<Request>, RunError> {
    let mut found = Vec::new();
    for request in Request::ALL {
        if take_one(folder, request)? {
            found.push(request);
        }
    }
    Ok(found)
}

fn take_one(folder: &Path, request: Request) -> Result<bool, RunError> {
    let path = folder.join(request.as_str());
    match fs::remove_file(&path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(RunError::io("remove", &path)(error)),
    }
}
