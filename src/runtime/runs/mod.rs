//! Training runs as others see and steer them: those of this process, and those of any other in the same home.

mod error;
mod follow;
mod line;
mod recipes;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix::Addr;
use tokio::sync::watch;

pub use error::RunsError;
pub use follow::{Following, RunEvent, StateEvent};
pub use line::{RunLine, RunList, RunLog, RunShown};
pub use recipes::RecipeSource;

use super::trainer::{Leave, Own, Start, Steer, Trainer, What};
use crate::store::Library;
use crate::train::record::{self, Log};
use crate::train::runs::{self, Request, RunFolder, RunId, Status};
use crate::train::trainer::TrainError;

/// What training needs.
#[derive(Debug, Clone)]
pub struct Training {
    /// Models that runs begin with, and the home that runs are kept in.
    pub library: Library,
    /// Folders of recipes that can be named.
    pub recipes: Vec<PathBuf>,
}

/// See the module. Clones share it.
#[derive(Clone)]
pub struct Runs(Option<Arc<Inner>>);

struct Inner {
    training: Training,
    trainer: Addr<Trainer>,
    changes: watch::Receiver<u64>,
}

impl Runs {
    /// Of a process that trains nothing.
    pub(super) fn off() -> Runs {
        Runs(None)
    }

    pub(super) fn new(
        training: Training,
        trainer: Addr<Trainer>,
        changes: watch::Receiver<u64>,
    ) -> Runs {
        Runs(Some(Arc::new(Inner {
            training,
            trainer,
            changes,
        })))
    }

    fn inner(&self) -> Result<&Arc<Inner>, RunsError> {
        self.0.as_ref().ok_or(RunsError::Off)
    }

    async fn folder(&self, id: &str) -> Result<RunFolder, RunsError> {
        let (runs, id) = (self.inner()?.training.library.home().runs(), id.to_owned());
        blocking(move || Ok(RunFolder::open(&runs, &id)?)).await
    }

    /// All runs.
    ///
    /// # Errors
    /// Their folder cannot be listed.
    pub async fn list(&self) -> Result<RunList, RunsError> {
        let Ok(inner) = self.inner() else {
            return Ok(RunList::default());
        };
        let runs = inner.training.library.home().runs();
        blocking(move || {
            let found = runs::list(&runs)?;
            let mut list = RunList::default();
            let unreadable = found.unreadable.into_iter();
            list.unreadable = unreadable.map(|(id, e)| (id, e.to_string())).collect();
            for listed in found.runs {
                let folder = RunFolder::open(&runs, listed.state.id.as_str())?;
                list.runs.push(RunLine::of(listed, &log_of(&folder)?));
            }
            Ok(list)
        })
        .await
    }

    /// One run in full.
    ///
    /// # Errors
    /// There is none of this name, or its folder cannot be read.
    pub async fn show(&self, id: &str) -> Result<RunShown, RunsError> {
        let folder = self.folder(id).await?;
        blocking(move || {
            let log = log_of(&folder)?;
            let loaded = folder.recipe(&[]).map_err(TrainError::from)?;
            let checkpoints = folder.checkpoints().all()?;
            Ok(RunShown {
                line: RunLine::of(runs::listed(&folder)?, &log),
                recipe: loaded.recipe,
                last_step: log.steps().last().cloned(),
                evaluations: log.evaluations().cloned().collect(),
                checkpoints: checkpoints.iter().map(|saved| saved.step).collect(),
            })
        })
        .await
    }

    /// The first `limit` entries of a run's log that follow the step `after`, and all others of the last one's step; from
    /// the beginning without one.
    ///
    /// # Errors
    /// There is no such run, or its log cannot be read.
    pub async fn log(
        &self,
        id: &str,
        after: Option<u64>,
        limit: usize,
    ) -> Result<RunLog, RunsError> {
        let folder = self.folder(id).await?;
        blocking(move || Ok(RunLog::part(log_of(&folder)?, after, limit))).await
    }

    /// Watches a run: from now on, or from what follows the step `after`.
    ///
    /// # Errors
    /// There is no such run, or its log cannot be read.
    pub async fn follow(&self, id: &str, after: Option<u64>) -> Result<Following, RunsError> {
        let folder = self.folder(id).await?;
        Following::begin(folder, after, self.inner()?.changes.clone()).await
    }

    /// Begins a run in this process. `set` are keys of the recipe, each `key=value`.
    ///
    /// # Errors
    /// The recipe is of no use, another run is under way here, or this one does not fit into memory.
    pub async fn start(
        &self,
        recipe: RecipeSource,
        set: Vec<String>,
    ) -> Result<RunLine, RunsError> {
        let inner = self.inner()?;
        let folders = inner.training.recipes.clone();
        let loaded = blocking(move || recipe.load(&folders, &set)).await?;
        let id = self.take_up(What::New(Box::new(loaded))).await?;
        self.line(&id).await
    }

    /// Asks something of a run. One that no process is at is resumed here.
    ///
    /// # Errors
    /// There is no such run, or it is not in a state for this.
    pub async fn steer(&self, id: &str, request: Request) -> Result<RunLine, RunsError> {
        let folder = self.folder(id).await?;
        let id = folder.id().clone();
        let own = match live(&folder).await? {
            // What has ended may still be on its way out of the trainer.
            false => false,
            true => {
                let order = Steer {
                    id: id.clone(),
                    request,
                };
                let own = self.inner()?.trainer.send(order).await;
                own.map_err(|_| RunsError::ShuttingDown)?
            }
        };
        if !own {
            let asked = folder.clone();
            let posted = blocking(move || post(&asked, request));
            if !posted.await? {
                self.take_up(What::Again(folder)).await?;
            }
        }
        self.line(&id).await
    }

    /// The run that is under way in this process.
    pub async fn own(&self) -> Option<RunId> {
        self.inner().ok()?.trainer.send(Own).await.ok()?
    }

    /// Saves and stops the run of this process. Returns whether that was done in time.
    pub(super) async fn leave(&self, deadline: Duration) -> bool {
        let Ok(inner) = self.inner() else {
            return true;
        };
        inner.trainer.send(Leave { deadline }).await.unwrap_or(true)
    }

    pub(super) async fn restart(&self) {
        if let Ok(inner) = self.inner() {
            let _ = inner.trainer.send(super::Restart).await;
        }
    }

    async fn take_up(&self, what: What) -> Result<RunId, RunsError> {
        let started = self.inner()?.trainer.send(Start(what)).await;
        started.unwrap_or_else(|_| {
            let text = "the trainer was stopped and starts again: try once more";
            Err(RunsError::Failed(text.to_owned()))
        })
    }

    async fn line(&self, id: &RunId) -> Result<RunLine, RunsError> {
        let folder = self.folder(id.as_str()).await?;
        blocking(move || line(&folder)).await
    }
}

async fn live(folder: &RunFolder) -> Result<bool, RunsError> {
    let folder = folder.clone();
    blocking(move || Ok(folder.state()?.status.is_live())).await
}

/// Asks something of a run that is not of this process. Returns false when nobody is at it and it is to be resumed.
fn post(folder: &RunFolder, request: Request) -> Result<bool, RunsError> {
    let listed = runs::listed(folder)?;
    let live = listed.state.status.is_live();
    if live && folder.is_locked()? {
        folder.post(request)?;
        return Ok(true);
    }
    let hint = match (request, listed.state.status) {
        (Request::Resume, Status::Finished) => "there is nothing left to do",
        (Request::Resume, _) => return Ok(false),
        _ => "no process is at it; resume it first",
    };
    Err(RunsError::WrongState {
        id: folder.id().clone(),
        status: listed.status(),
        hint,
    })
}

fn line(folder: &RunFolder) -> Result<RunLine, RunsError> {
    Ok(RunLine::of(runs::listed(folder)?, &log_of(folder)?))
}

/// The log of a run; empty while there is none.
fn log_of(folder: &RunFolder) -> Result<Log, RunsError> {
    let path = folder.log();
    let unreadable = |error| RunsError::Failed(format!("{}: {error}", path.display()));
    record::read(&path).map_err(unreadable)
}

/// Reads and writes files on a thread that may wait for them.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RunsError> + Send + 'static,
) -> Result<T, RunsError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|panic| Err(RunsError::Failed(format!("it went wrong: {panic}"))))
}
