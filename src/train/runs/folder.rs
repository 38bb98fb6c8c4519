//! The folder of one run.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::checkpoints::Checkpoints;
use super::requests::{self, Request};
use super::state::{RunState, Status};
use super::{RunError, RunId, durable};
use crate::train::recipe::{self, Loaded, Recipe};

/// The folder of one run: its recipe, state, log, requests and checkpoints.
#[derive(Debug, Clone)]
pub struct RunFolder {
    id: RunId,
    path: PathBuf,
}

/// Held by the process that is at a run. The system takes it back when the process ends, however it ends.
#[derive(Debug)]
pub struct RunLock {
    _file: File,
}

impl RunFolder {
    /// Makes the folder of a new run below `runs`, with the recipe and a queued state. Its number is the first that is
    /// free, also when other processes make runs of the same name.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn create(runs: &Path, recipe: &Recipe, now: u64) -> Result<RunFolder, RunError> {
        fs::create_dir_all(runs).map_err(RunError::io("make the folder", runs))?;
        let mut number = 1;
        let folder = loop {
            let id = RunId::numbered(recipe.run_name(), number);
            let path = runs.join(id.as_str());
            match fs::create_dir(&path) {
                Ok(()) => break RunFolder { id, path },
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(RunError::io("make the folder", &path)(error)),
            }
        };
        folder.write_recipe(recipe)?;
        folder.write_state(&RunState::queued(folder.id.clone(), recipe.stage, now))?;
        Ok(folder)
    }

    /// The folder of a run that is there.
    ///
    /// # Errors
    /// There is no such run; the error names the nearest.
    pub fn open(runs: &Path, id: &str) -> Result<RunFolder, RunError> {
        let unknown = || {
            let known = super::list::ids(runs).unwrap_or_default();
            let near = |known: &RunId| {
                (
                    strsim::damerau_levenshtein(id, known.as_str()),
                    known.clone(),
                )
            };
            let closest = known
                .iter()
                .map(near)
                .min()
                .filter(|(distance, _)| *distance * 2 <= id.len());
            RunError::Unknown {
                id: id.to_owned(),
                folder: runs.to_owned(),
                closest: closest.map(|(_, id)| id.to_string()),
            }
        };
        let id: RunId = id.parse().map_err(|_| unknown())?;
        let path = runs.join(id.as_str());
        match path.join("state.json").is_file() {
            true => Ok(RunFolder { id, path }),
            false => Err(unknown()),
        }
    }

    /// The run.
    pub fn id(&self) -> &RunId {
        &self.id
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The log: a JSON object a line.
    pub fn log(&self) -> PathBuf {
        self.path.join("log.jsonl")
    }

    /// The folder of TensorBoard's event files.
    pub fn events(&self) -> PathBuf {
        self.path.join("events")
    }

    /// The lists of losses and perplexities, written at the end.
    pub fn metrics(&self) -> PathBuf {
        self.path.join("metrics.json")
    }

    /// The tokenizer of a new model.
    pub fn tokenizer(&self) -> PathBuf {
        self.path.join("tokenizer")
    }

    /// The page that shows the run.
    pub fn report(&self) -> PathBuf {
        self.path.join("report.html")
    }

    /// The checkpoints.
    pub fn checkpoints(&self) -> Checkpoints {
        Checkpoints::at(self.id.clone(), self.path.join("checkpoints"))
    }

    /// Takes the run for this process.
    ///
    /// # Errors
    /// Another process has it.
    pub fn lock(&self) -> Result<RunLock, RunError> {
        let path = self.path.join("lock");
        let file = File::create(&path).map_err(RunError::io("open", &path))?;
        // A list of runs holds the lock for a moment, to see whether it is free.
        for _ in 0..5 {
            match file.try_lock() {
                Ok(()) => return Ok(RunLock { _file: file }),
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(20)),
                Err(TryLockError::Error(error)) => return Err(RunError::io("lock", &path)(error)),
            }
        }
        Err(RunError::Locked {
            id: self.id.clone(),
            pid: self.state().ok().and_then(|state| state.pid),
        })
    }

    /// Whether a process has the run.
    ///
    /// # Errors
    /// The lock cannot be opened.
    pub fn is_locked(&self) -> Result<bool, RunError> {
        let path = self.path.join("lock");
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(RunError::io("open", &path)(error)),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(RunError::io("lock", &path)(error)),
        }
    }

    /// Writes the recipe, resolved, as `recipe.toml`.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write_recipe(&self, recipe: &Recipe) -> Result<(), RunError> {
        let path = self.path.join("recipe.toml");
        let text = recipe.to_toml().map_err(|error| RunError::Damaged {
            path: path.clone(),
            reason: error.to_string(),
        })?;
        durable::write(&path, text.as_bytes())
    }

    /// Reads `recipe.toml` with overrides on top.
    ///
    /// # Errors
    /// As [`recipe::load`].
    pub fn recipe(&self, overrides: &[String]) -> Result<Loaded, recipe::RecipeError> {
        recipe::load(&self.path.join("recipe.toml"), overrides)
    }

    /// Writes `state.json`; a reader sees the old one or the new one.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write_state(&self, state: &RunState) -> Result<(), RunError> {
        let path = self.path.join("state.json");
        let text = serde_json::to_vec_pretty(state).map_err(|error| RunError::Damaged {
            path: path.clone(),
            reason: error.to_string(),
        })?;
        durable::write(&path, &text)
    }

    /// Changes the status of a run that no process is at.
    ///
    /// # Errors
    /// The state cannot be read or written.
    pub fn mark(&self, status: Status, reason: Option<String>) -> Result<(), RunError> {
        let mut state = self.state()?;
        (state.status, state.reason) = (status, reason);
        self.write_state(&state)
    }

    /// Reads `state.json`.
    ///
    /// # Errors
    /// It cannot be read, or is damaged.
    pub fn state(&self) -> Result<RunState, RunError> {
        let path = self.path.join("state.json");
        let text = fs::read(&path).map_err(RunError::io("read", &path))?;
        serde_json::from_slice(&text).map_err(|error| RunError::Damaged {
            path,
            reason: error.to_string(),
        })
    }

    /// Asks something of the run.
    ///
    /// # Errors
    /// The request cannot be written.
    pub fn post(&self, request: Request) -> Result<(), RunError> {
        requests::post(&self.path.join("requests"), request)
    }

    /// Takes what was asked since the last call. To be called between steps.
    ///
    /// # Errors
    /// A request cannot be removed, so that it would be obeyed twice.
    pub fn requests(&self) -> Result<Vec<Request>, RunError> {
        requests::take(&self.path.join("requests"))
    }
}
