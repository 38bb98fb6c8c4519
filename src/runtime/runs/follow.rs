//! A run as it goes on, of this process or another.

use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::watch;

use super::{RunLine, RunsError, blocking, line};
use crate::train::record::{Entry, Follow};
use crate::train::runs::{self, RunFolder, Status};

/// How often a run of another process is looked at.
const LOOK: Duration = Duration::from_millis(250);
/// The least time between two looks.
const PAUSE: Duration = Duration::from_millis(20);
/// After how long without an event that is told.
const QUIET: Duration = Duration::from_secs(15);

/// What is told of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum RunEvent {
    /// A line of its log.
    Entry(Entry),
    /// How it is going, at first and when that changes.
    State(StateEvent),
}

/// See [`RunEvent::State`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StateEvent {
    /// `state`.
    pub kind: &'static str,
    /// The run.
    #[serde(flatten)]
    pub run: RunLine,
}

/// One who watches a run.
pub struct Following {
    folder: RunFolder,
    log: Option<Follow>,
    /// Entries up to this step are left out.
    after: Option<u64>,
    /// The status that was told last.
    told: Option<(Status, bool)>,
    changes: watch::Receiver<u64>,
    over: bool,
}

impl Following {
    /// Watches from the log's end on, or from what follows the step `after`.
    pub(super) async fn begin(
        folder: RunFolder,
        after: Option<u64>,
        changes: watch::Receiver<u64>,
    ) -> Result<Following, RunsError> {
        let path = folder.log();
        let log = blocking(move || {
            let mut log = Follow::begin(&path);
            let unreadable = |error| RunsError::Failed(format!("{}: {error}", path.display()));
            while after.is_none() && !log.advance().map_err(unreadable)?.is_empty() {}
            Ok(log)
        })
        .await?;
        Ok(Following {
            folder,
            log: Some(log),
            after,
            told: None,
            changes,
            over: false,
        })
    }

    /// What happened since; none when nothing has for some seconds. `None` when the run has ended and all is told, or
    /// its folder cannot be read any more, or `leaving` says that nobody listens any longer. Not to be dropped half-way
    /// and called again.
    pub async fn next(&mut self, leaving: impl Fn() -> bool) -> Option<Vec<RunEvent>> {
        let begun = Instant::now();
        while !self.over {
            self.changes.borrow_and_update();
            let mut log = self.log.take()?;
            let (folder, told) = (self.folder.clone(), self.told);
            let looked = blocking(move || {
                // First the state: all lines of a run that has ended are written before that says so.
                let listed = runs::listed(&folder)?;
                let now = (listed.state.status, listed.interrupted);
                let entries = log
                    .advance()
                    .map_err(|e| RunsError::Failed(e.to_string()))?;
                let changed = (told != Some(now)).then(|| line(&folder)).transpose()?;
                Ok((log, now, entries, changed))
            });
            let (log, now, entries, changed) = match looked.await {
                Ok(looked) => looked,
                Err(error) => {
                    tracing::warn!(run = %self.folder.id(), %error, "a run cannot be followed any more");
                    self.over = true;
                    break;
                }
            };
            self.log = Some(log);
            let first = self.told.is_none();
            self.told = Some(now);
            let after = self.after.unwrap_or(0);
            let read_all = entries.is_empty();
            let entries = entries.into_iter().filter(|entry| {
                // The evaluation before the first step is of step 0.
                self.after.is_none() || entry.step() > after || after == 0
            });
            let mut events: Vec<RunEvent> = entries.map(RunEvent::Entry).collect();
            if let Some(run) = changed {
                let event = RunEvent::State(StateEvent { kind: "state", run });
                match first {
                    true => events.insert(0, event),
                    false => events.push(event),
                }
            }
            self.over = (!now.0.is_live() || now.1) && read_all;
            if !events.is_empty() {
                return Some(events);
            }
            // The run of a process that ends is watched until it has stopped.
            let elsewhere = self
                .folder
                .state()
                .is_ok_and(|s| s.pid != Some(std::process::id()));
            if self.over || (leaving() && elsewhere) {
                break;
            }
            if begun.elapsed() >= QUIET {
                return Some(Vec::new());
            }
            match tokio::time::timeout(LOOK, self.changes.changed()).await {
                Ok(Ok(())) => tokio::time::sleep(PAUSE).await,
                Ok(Err(_)) => tokio::time::sleep(LOOK).await,
                Err(_) => {}
            }
        }
        None
    }
}
