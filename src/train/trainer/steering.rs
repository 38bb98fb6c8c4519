//! What is asked of a run between two steps.

use super::{TrainError, Trainer};
use crate::train::runs::{Request, Status};

/// What a run does after it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Its next step.
    Step,
    /// Nothing, until it is resumed.
    Wait,
    /// It ends before its last step.
    Stop,
}

impl Trainer {
    /// Does what was asked, in this order, and says what follows. A stop is left to [`Trainer::stop`].
    ///
    /// # Errors
    /// A checkpoint, the log or the state cannot be written.
    pub fn obey(&mut self, asked: &[Request]) -> Result<Next, TrainError> {
        for request in asked {
            match request {
                Request::Stop => return Ok(Next::Stop),
                Request::Save => {
                    self.save()?;
                    self.note("saved on request")?;
                }
                Request::Pause if !self.is_paused() => {
                    self.note("paused")?;
                    self.mark(Status::Paused, None)?;
                }
                Request::Resume if self.is_paused() => {
                    self.note("resumed")?;
                    self.mark(Status::Running, None)?;
                }
                Request::Pause | Request::Resume => {}
            }
        }
        Ok(match self.is_paused() {
            true => Next::Wait,
            false => Next::Step,
        })
    }

    /// Whether it takes no steps until it is resumed.
    pub fn is_paused(&self) -> bool {
        self.state.status == Status::Paused
    }

    /// Ends the run before its last step; `save` has a checkpoint written first.
    ///
    /// # Errors
    /// The checkpoint, the log or the state cannot be written.
    pub fn stop(&mut self, reason: &str, save: bool) -> Result<(), TrainError> {
        if save {
            self.save()?;
        }
        self.note(reason)?;
        self.mark(Status::Stopped, Some(reason.to_owned()))
    }

    /// Ends the run as failed. Nothing of its present step is kept: the last checkpoint is from before it went wrong.
    ///
    /// # Errors
    /// The log or the state cannot be written.
    pub fn fail(&mut self, error: &TrainError) -> Result<(), TrainError> {
        self.note(&error.to_string())?;
        self.mark(Status::Failed, Some(error.to_string()))
    }
}
