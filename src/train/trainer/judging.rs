//! Evaluations during a run.

use super::{TrainError, Trainer, seconds};
use crate::train::early_stop::Verdict;
use crate::train::recipe::Stage;
use crate::train::record::{Entry, Evaluated};

impl Trainer {
    /// Evaluates a model that the run begins with, before its first step, so that it can be seen what the run has changed;
    /// `None` where that was done, and for a new model.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub fn look(&mut self) -> Result<Option<Evaluated>, TrainError> {
        let known = std::mem::replace(&mut self.looked, true);
        if known || self.recipe.stage == Stage::Pretrain || !self.teacher.judges() {
            return Ok(None);
        }
        Ok(Some(self.judge()?.0))
    }

    /// Measures the model on what is held back, and writes the samples.
    pub(super) fn judge(&mut self) -> Result<(Evaluated, Option<Verdict>), TrainError> {
        let step = self.state.step;
        let judged = self
            .teacher
            .judge(&mut self.network, &self.recipe, &self.plan);
        let (value, figures) = judged?;
        let best = self.judgement.best.observe(Some(value));
        let verdict = self
            .judgement
            .early
            .as_mut()
            .map(|early| early.observe(value));
        self.judged = Some((step, value));
        let evaluated = Evaluated {
            step,
            time: seconds(),
            best,
            ..figures
        };
        self.write(&Entry::Evaluation(evaluated.clone()))?;
        if let Some(events) = &mut self.events {
            events
                .evaluation(&evaluated)
                .map_err(TrainError::io(self.folder.events()))?;
        }
        for sampled in self.samples()? {
            self.write(&Entry::Sample(sampled))?;
        }
        Ok((evaluated, verdict))
    }
}
