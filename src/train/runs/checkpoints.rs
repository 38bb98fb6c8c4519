//! The checkpoints of a run: folders that are whole under their own name, or not there.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{RunError, RunId, durable};
use crate::store::disk;
use crate::train::early_stop::Better;

/// Before the name of a folder that is being written.
const WRITING: &str = "writing-";
/// Before the name of a folder that is being removed.
const REMOVING: &str = "removing-";
/// Says what a checkpoint is of, in its folder.
const ENTRY: &str = "checkpoint.json";

/// A checkpoint that is whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Saved {
    /// The step after which it was written.
    pub step: u64,
    /// The value that the best is told by, if the step had an evaluation.
    pub metric: Option<f64>,
    /// Its folder.
    #[serde(skip)]
    pub path: PathBuf,
    /// Whether what it says of itself could not be read: it is then never the best.
    #[serde(skip)]
    pub damaged: bool,
}

/// Which checkpoints stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// So many of the newest.
    pub last: usize,
    /// And the best, by this order of its metric.
    pub best: Option<Better>,
}

/// The folder of all checkpoints of a run.
#[derive(Debug, Clone)]
pub struct Checkpoints {
    id: RunId,
    folder: PathBuf,
}

/// A checkpoint that is being written into [`Pending::path`]. Dropped without a commit, it is removed.
#[derive(Debug)]
pub struct Pending<'a> {
    all: &'a Checkpoints,
    step: u64,
    path: PathBuf,
    done: bool,
}

impl Checkpoints {
    pub(super) fn at(id: RunId, folder: PathBuf) -> Checkpoints {
        Checkpoints { id, folder }
    }

    /// All that are whole, oldest first.
    ///
    /// # Errors
    /// The folder cannot be listed.
    pub fn all(&self) -> Result<Vec<Saved>, RunError> {
        let mut found = Vec::new();
        for (name, path) in self.entries()? {
            let step = name
                .strip_prefix("step-")
                .and_then(|step| step.parse().ok());
            let Some(step) = step else { continue };
            let text = fs::read(path.join(ENTRY)).ok();
            let entry = text.and_then(|text| serde_json::from_slice::<Saved>(&text).ok());
            found.push(Saved {
                step,
                metric: entry.as_ref().and_then(|entry| entry.metric),
                path,
                damaged: entry.is_none(),
            });
        }
        found.sort_by_key(|saved| saved.step);
        Ok(found)
    }

    /// The newest.
    ///
    /// # Errors
    /// As [`Checkpoints::all`].
    pub fn last(&self) -> Result<Option<Saved>, RunError> {
        Ok(self.all()?.pop())
    }

    /// The best of those that have a metric; of equal ones the oldest.
    ///
    /// # Errors
    /// As [`Checkpoints::all`].
    pub fn best(&self, better: Better) -> Result<Option<Saved>, RunError> {
        Ok(best(&self.all()?, better).cloned())
    }

    /// The checkpoint of a step.
    ///
    /// # Errors
    /// There is none; the error says which there are.
    pub fn of_step(&self, step: u64) -> Result<Saved, RunError> {
        let all = self.all()?;
        let there = all.iter().map(|saved| saved.step).collect();
        let found = all.into_iter().find(|saved| saved.step == step);
        found.ok_or_else(|| RunError::NoCheckpoint {
            id: self.id.clone(),
            wanted: format!("of step {step}"),
            there,
        })
    }

    /// Makes a folder to write the checkpoint of `step` into, of about `bytes` bytes.
    ///
    /// # Errors
    /// The disk has no room; the error says how much is needed and free.
    pub fn begin(&self, step: u64, bytes: u64) -> Result<Pending<'_>, RunError> {
        fs::create_dir_all(&self.folder).map_err(RunError::io("make the folder", &self.folder))?;
        disk::check_room(&self.folder, bytes)?;
        let path = self.folder.join(format!("{WRITING}{}", folder_name(step)));
        remove(&path)?;
        fs::create_dir(&path).map_err(RunError::io("make the folder", &path))?;
        Ok(Pending {
            all: self,
            step,
            path,
            done: false,
        })
    }

    /// Removes what a process that was killed left half written or half removed; returns the names.
    ///
    /// # Errors
    /// Something cannot be removed.
    pub fn clean(&self) -> Result<Vec<String>, RunError> {
        let mut cleaned = Vec::new();
        for (name, path) in self.entries()? {
            if name.starts_with(WRITING) || name.starts_with(REMOVING) {
                remove(&path)?;
                cleaned.push(name);
            }
        }
        cleaned.sort();
        Ok(cleaned)
    }

    /// Removes all but the newest and the best; returns the steps of the removed.
    fn prune(&self, keep: Keep) -> Result<Vec<u64>, RunError> {
        let all = self.all()?;
        let best = keep
            .best
            .and_then(|better| best(&all, better))
            .map(|saved| saved.step);
        let old = all.len().saturating_sub(keep.last.max(1));
        let mut removed = Vec::new();
        for saved in all
            .iter()
            .take(old)
            .filter(|saved| Some(saved.step) != best)
        {
            // Under another name first, so that half of a checkpoint is never taken for one.
            let aside = self
                .folder
                .join(format!("{REMOVING}{}", folder_name(saved.step)));
            remove(&aside)?;
            fs::rename(&saved.path, &aside).map_err(RunError::io("rename", &saved.path))?;
            remove(&aside)?;
            removed.push(saved.step);
        }
        Ok(removed)
    }

    fn entries(&self) -> Result<Vec<(String, PathBuf)>, RunError> {
        let list = match fs::read_dir(&self.folder) {
            Ok(list) => list,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(RunError::io("list", &self.folder)(error)),
        };
        let mut found = Vec::new();
        for entry in list {
            let entry = entry.map_err(RunError::io("list", &self.folder))?;
            if let Ok(name) = entry.file_name().into_string() {
                found.push((name, entry.path()));
            }
        }
        Ok(found)
    }
}

impl Pending<'_> {
    /// The folder to write into.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits for the disk, gives the folder its name, and removes what is not to be kept. A checkpoint of the same step
    /// is replaced.
    ///
    /// # Errors
    /// Something could not be written; what was there before is still there.
    pub fn commit(mut self, metric: Option<f64>, keep: Keep) -> Result<Saved, RunError> {
        let saved = Saved {
            step: self.step,
            metric: metric.filter(|metric| metric.is_finite()),
            path: self.all.folder.join(folder_name(self.step)),
            damaged: false,
        };
        let entry = serde_json::to_vec(&saved).map_err(|error| RunError::Damaged {
            path: self.path.clone(),
            reason: error.to_string(),
        })?;
        durable::write(&self.path.join(ENTRY), &entry)?;
        durable::sync_tree(&self.path)?;
        if saved.path.exists() {
            let aside = self
                .all
                .folder
                .join(format!("{REMOVING}{}", folder_name(self.step)));
            remove(&aside)?;
            fs::rename(&saved.path, &aside).map_err(RunError::io("rename", &saved.path))?;
        }
        fs::rename(&self.path, &saved.path)
            .map_err(RunError::io("put in its place", &saved.path))?;
        self.done = true;
        durable::sync_parent(&saved.path)?;
        self.all.clean()?;
        self.all.prune(keep)?;
        Ok(saved)
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if !self.done
            && let Err(error) = remove(&self.path)
        {
            tracing::warn!(%error, "a half-written checkpoint is left behind");
        }
    }
}

fn folder_name(step: u64) -> String {
    format!("step-{step:08}")
}

fn best(all: &[Saved], better: Better) -> Option<&Saved> {
    all.iter()
        .filter_map(|saved| Some((saved, saved.metric?)))
        .reduce(|best, next| match better.gain(next.1, best.1) > 0.0 {
            true => next,
            false => best,
        })
        .map(|(saved, _)| saved)
}

/// Removes a folder; one that is not there is removed already.
fn remove(path: &Path) -> Result<(), RunError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(RunError::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}
