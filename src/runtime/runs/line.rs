//! Runs as they are shown.

use serde::Serialize;

use crate::train::recipe::{Recipe, Stage};
use crate::train::record::{Entry, Evaluated, Log, Step};
use crate::train::runs::{Listed, RunId};

/// A run in a list. Times are seconds since 1970.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunLine {
    /// The run.
    pub id: RunId,
    /// `run`.
    pub object: &'static str,
    /// The name that it has from its recipe.
    pub name: String,
    /// What it does.
    pub stage: Stage,
    /// `queued`, `running`, `paused`, `stopped`, `failed`, `finished`, or `interrupted` when its process ended without a
    /// word.
    pub status: String,
    /// Whether the process that tells this is at it.
    pub here: bool,
    /// Steps taken.
    pub step: u64,
    /// Steps in all, once they are known.
    pub steps: Option<u64>,
    /// The last training loss in nats a token.
    pub loss: Option<f64>,
    /// The best evaluation so far: a loss, or a reward in the stage rl.
    pub best: Option<f64>,
    /// Tokens a second of the last step that was logged, while it runs.
    pub tokens_per_s: Option<f64>,
    /// Seconds to the last step at that pace, while it runs.
    pub eta_s: Option<f64>,
    /// When it was made.
    pub created: u64,
    /// When its state was last written.
    pub updated: u64,
    /// What ended it, of a failed run; why it stopped, of a stopped one.
    pub reason: Option<String>,
    /// The name of the model it left.
    pub exported: Option<String>,
}

impl RunLine {
    /// A run as its folder has it.
    pub(super) fn of(listed: Listed, log: &Log) -> RunLine {
        let status = listed.status();
        let (state, interrupted) = (listed.state, listed.interrupted);
        let runs = state.status.is_live() && !interrupted;
        let last = log.steps().last().filter(|_| runs);
        let best = log.evaluations().filter(|evaluated| evaluated.best).last();
        let (name, _) = state.id.as_str().rsplit_once('-').unwrap_or_default();
        RunLine {
            name: name.to_owned(),
            object: "run",
            stage: state.stage,
            status,
            here: runs && state.pid == Some(std::process::id()),
            step: state.step,
            steps: state.steps,
            loss: state.loss,
            best: best.and_then(|best| best.reward.or(best.loss)),
            tokens_per_s: last.map(|step| step.tokens_per_s),
            eta_s: last.and_then(|step| step.eta_s),
            created: state.created,
            updated: state.updated,
            reason: state.reason,
            exported: state.exported,
            id: state.id,
        }
    }
}

/// All that there are.
#[derive(Debug, Default)]
pub struct RunList {
    /// The runs, newest first.
    pub runs: Vec<RunLine>,
    /// Folders that are no whole run, and why.
    pub unreadable: Vec<(RunId, String)>,
}

/// A run in full.
#[derive(Debug, Clone, Serialize)]
pub struct RunShown {
    /// The run.
    #[serde(flatten)]
    pub line: RunLine,
    /// Its recipe; what it left open is filled in once the run has begun.
    pub recipe: Recipe,
    /// The last step that was logged.
    pub last_step: Option<Step>,
    /// The evaluations.
    pub evaluations: Vec<Evaluated>,
    /// The steps of its checkpoints.
    pub checkpoints: Vec<u64>,
}

/// Part of a log.
#[derive(Debug, Clone, Serialize)]
pub struct RunLog {
    /// `list`.
    pub object: &'static str,
    /// The entries, in the order in which they were written.
    pub data: Vec<Entry>,
    /// Whether there are more.
    pub has_more: bool,
    /// Lines of the whole log that cannot be read.
    pub broken: usize,
}

impl RunLog {
    /// The first `limit` entries of steps after `after`, and all others of the last one's step: who goes on after that step
    /// misses none.
    pub(super) fn part(log: Log, after: Option<u64>, limit: usize) -> RunLog {
        let follows = |entry: &Entry| after.is_none_or(|after| entry.step() > after);
        let mut left = log.entries.into_iter().filter(follows).peekable();
        let mut data: Vec<Entry> = left.by_ref().take(limit).collect();
        let last = data.last().map(Entry::step);
        while let Some(entry) = left.next_if(|entry| Some(entry.step()) == last) {
            data.push(entry);
        }
        RunLog {
            object: "list",
            has_more: left.peek().is_some(),
            data,
            broken: log.broken,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_log_never_tear_a_step_apart() {
        let step = |step| {
            Entry::Step(Step {
                step,
                ..Step::default()
            })
        };
        let judged = |step| {
            Entry::Evaluation(Evaluated {
                step,
                ..Evaluated::default()
            })
        };
        let log = Log {
            entries: vec![judged(0), step(1), step(2), judged(2), step(3)],
            broken: 1,
        };
        for (after, limit, steps, more) in [
            (None, 9, &[0, 1, 2, 2, 3][..], false),
            (None, 3, &[0, 1, 2, 2], true),
            (Some(0), 1, &[1], true),
            (Some(2), 1, &[3], false),
            (Some(3), 1, &[], false),
        ] {
            let part = RunLog::part(log.clone(), after, limit);
            let told: Vec<u64> = part.data.iter().map(Entry::step).collect();
            assert_eq!((&told[..], part.has_more, part.broken), (steps, more, 1));
        }
    }
}
