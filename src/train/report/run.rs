//! What a page tells of a run.

use super::ReportError;
use crate::train::record::{self, Entry, Log, Sampled};
use crate::train::runs::{self, Listed, RunFolder};

/// What a page tells of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Its state.
    pub listed: Listed,
    /// Its recipe as it was followed.
    pub recipe: String,
    /// Its log.
    pub log: Log,
    /// Facts about the machine, as name and value, from whoever knows them.
    pub machine: Vec<(String, String)>,
}

impl Run {
    /// Reads a run's folder. A log that is not there yet is an empty one.
    ///
    /// # Errors
    /// Something of it cannot be read.
    pub fn read(folder: &RunFolder, machine: Vec<(String, String)>) -> Result<Run, ReportError> {
        let unreadable = |source| ReportError::Log {
            run: folder.id().to_string(),
            source,
        };
        Ok(Run {
            log: record::read(&folder.log()).map_err(unreadable)?,
            listed: runs::listed(folder)?,
            recipe: folder.recipe(&[])?.recipe.to_toml()?,
            machine,
        })
    }

    /// Its name.
    pub(super) fn name(&self) -> &str {
        self.listed.state.id.as_str()
    }

    /// The samples of the last step that has some.
    pub(super) fn samples(&self) -> Vec<&Sampled> {
        let sampled = self.log.entries.iter().filter_map(|entry| match entry {
            Entry::Sample(sampled) => Some(sampled),
            _ => None,
        });
        let all: Vec<&Sampled> = sampled.collect();
        let last = all.iter().map(|sampled| sampled.step).max();
        all.into_iter()
            .filter(|sampled| Some(sampled.step) == last)
            .collect()
    }

    /// The best value of an evaluation's figure.
    pub(super) fn least(&self, of: impl Fn(&record::Evaluated) -> Option<f64>) -> Option<f64> {
        self.log.evaluations().filter_map(of).reduce(f64::min)
    }

    /// Joules of all steps, when the machine told any.
    pub(super) fn energy(&self) -> Option<f64> {
        let known: Vec<f64> = self.log.steps().filter_map(|step| step.energy_j).collect();
        (!known.is_empty()).then(|| known.iter().sum())
    }
}
