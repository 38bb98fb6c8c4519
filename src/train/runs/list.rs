//! All runs, for people and for programs.

use std::fs;
use std::path::Path;

use serde::Serialize;

use super::state::{RunState, Status};
use super::{RunError, RunFolder, RunId};

/// A run in a list.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Listed {
    /// Its state, as it was last written.
    #[serde(flatten)]
    pub state: RunState,
    /// Whether its process ended without a word, as after `kill -9`: it can be resumed.
    pub interrupted: bool,
}

impl Listed {
    /// How the run is going, for people.
    pub fn status(&self) -> String {
        match self.interrupted {
            true => "interrupted".to_owned(),
            false => self.state.status.to_string(),
        }
    }
}

/// What [`list`] found.
#[derive(Debug, Default)]
pub struct List {
    /// The runs, newest first.
    pub runs: Vec<Listed>,
    /// Folders that are no whole run, and why. To be shown to the user.
    pub unreadable: Vec<(RunId, RunError)>,
}

/// The names of the folders below `runs` that may be runs.
pub(super) fn ids(runs: &Path) -> Result<Vec<RunId>, RunError> {
    let entries = match fs::read_dir(runs) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(RunError::io("list", runs)(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(RunError::io("list", runs))?;
        let id = entry
            .file_name()
            .into_string()
            .ok()
            .and_then(|name| name.parse().ok());
        found.extend(id.filter(|_| entry.path().is_dir()));
    }
    found.sort();
    Ok(found)
}

/// All runs below the folder `runs`.
///
/// # Errors
/// The folder cannot be listed.
pub fn list(runs: &Path) -> Result<List, RunError> {
    let mut all = List::default();
    for id in ids(runs)? {
        let folder = RunFolder::open(runs, id.as_str());
        match folder.and_then(|folder| listed(&folder)) {
            Ok(run) => all.runs.push(run),
            Err(error) => all.unreadable.push((id, error)),
        }
    }
    all.runs.sort_by(|a, b| {
        let key = |run: &Listed| (std::cmp::Reverse(run.state.created), run.state.id.clone());
        key(a).cmp(&key(b))
    });
    Ok(all)
}

/// One run as it is listed.
///
/// # Errors
/// Its state cannot be read.
pub fn listed(folder: &RunFolder) -> Result<Listed, RunError> {
    let state = folder.state()?;
    // A queued run has no process yet.
    let at_work = matches!(state.status, Status::Running | Status::Paused);
    let interrupted = at_work && !folder.is_locked()?;
    Ok(Listed { state, interrupted })
}

/// The runs as a table for a terminal; `now` is seconds since 1970.
pub fn table(runs: &[Listed], now: u64) -> String {
    let mut lines = vec![["RUN", "STAGE", "STATUS", "STEP", "LOSS", "CHANGED"].map(str::to_owned)];
    lines.extend(runs.iter().map(|run| {
        let state = &run.state;
        let steps = state
            .steps
            .map_or_else(|| "?".to_owned(), |steps| steps.to_string());
        [
            state.id.to_string(),
            state.stage.to_string(),
            run.status(),
            format!("{}/{steps}", state.step),
            state
                .loss
                .map_or_else(|| "-".to_owned(), |loss| format!("{loss:.4}")),
            ago(now.saturating_sub(state.updated)),
        ]
    }));
    let widths: Vec<usize> = (0..6)
        .map(|at| {
            lines
                .iter()
                .filter_map(|line| line.get(at))
                .map(String::len)
                .max()
                .unwrap_or(0)
        })
        .collect();
    let line = |cells: &[String; 6]| {
        let cells = cells
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    lines.iter().map(line).collect()
}

fn ago(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s ago"),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..86_400 => format!("{} h ago", seconds / 3600),
        _ => format!("{} d ago", seconds / 86_400),
    }
}
