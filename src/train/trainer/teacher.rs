//! What a run learns from: data, or rewards of what it says.

use std::path::Path;

use serde_json::Value;

use super::lessons::Lessons;
use super::rewards::Rewards;
use super::supply::{Files, Supply};
use super::words::Words;
use super::{TrainError, origin};
use crate::train::early_stop::Better;
use crate::train::network::Network;
use crate::train::plan::{Facts, Plan};
use crate::train::recipe::{Recipe, Stage};
use crate::train::record::{Drawn, Evaluated};

/// What a step computed gradients of.
#[derive(Debug, Default)]
pub(super) struct Lesson {
    /// The sum of weighted losses.
    pub(super) loss: f64,
    /// What it is divided by, and the gradients with it; 0 when there was nothing to learn.
    pub(super) divisor: f64,
    /// Tokens that were learnt from.
    pub(super) tokens: u64,
    /// The mean reward of the answers.
    pub(super) reward: Option<f64>,
    pub(super) drawn: Option<Drawn>,
}

/// Where lessons come from.
pub(super) enum Teacher {
    Data(Box<Lessons>),
    Rewards(Box<Rewards>),
}

impl Teacher {
    /// Reads what there is to learn from.
    pub(super) fn open(
        recipe: &Recipe,
        files: &Files,
        words: &Words,
        network: &Network,
        folder: &Path,
        tell: &mut dyn FnMut(&str),
    ) -> Result<Teacher, TrainError> {
        if recipe.stage == Stage::Rl {
            let rewards = Rewards::open(recipe, words, network, tell)?;
            return Ok(Teacher::Rewards(Box::new(rewards)));
        }
        let context = origin::row_tokens(recipe, network.context())?;
        let supply = Supply::encode(recipe, files, words, context, folder, tell)?;
        Ok(Teacher::Data(Box::new(Lessons::new(supply))))
    }

    /// What the plan of a run follows from.
    pub(super) fn facts(&self, recipe: &Recipe, network: &Network) -> Result<Facts, TrainError> {
        let (rows, validation_rows) = match self {
            Teacher::Data(lessons) => lessons.rows(recipe)?,
            Teacher::Rewards(rewards) => rewards.prompts(),
        };
        Ok(Facts {
            shape: origin::shape_of(network.config(), network.is_tied()),
            row_tokens: u64::from(self.context()),
            rows,
            validation_rows,
        })
    }

    /// Makes ready to go on from `place`, as [`Teacher::place`] gave it, or from the beginning.
    pub(super) fn start(
        &mut self,
        recipe: &Recipe,
        plan: &Plan,
        place: Option<Value>,
    ) -> Result<(), TrainError> {
        match self {
            Teacher::Data(lessons) => lessons.start(recipe, plan, place),
            Teacher::Rewards(rewards) => rewards.start(place),
        }
    }

    /// Where it goes on.
    pub(super) fn place(&self) -> Result<Value, serde_json::Error> {
        match self {
            Teacher::Data(lessons) => lessons.place(),
            Teacher::Rewards(rewards) => rewards.place(),
        }
    }

    /// Most tokens of a row.
    pub(super) fn context(&self) -> u32 {
        match self {
            Teacher::Data(lessons) => lessons.context(),
            Teacher::Rewards(rewards) => rewards.context(),
        }
    }

    /// Whether something was held back to judge by.
    pub(super) fn judges(&self) -> bool {
        match self {
            Teacher::Data(lessons) => lessons.judges(),
            Teacher::Rewards(_) => true,
        }
    }

    /// Which evaluations are better.
    pub(super) fn better(&self) -> Better {
        match self {
            Teacher::Data(_) => Better::Lower,
            Teacher::Rewards(_) => Better::Higher,
        }
    }

    /// Adds the gradients of step `step`, counted from 0, to the network's.
    pub(super) fn learn(
        &mut self,
        network: &mut Network,
        plan: &Plan,
        step: u64,
    ) -> Result<Lesson, TrainError> {
        match self {
            Teacher::Data(lessons) => lessons.learn(network, plan, step),
            Teacher::Rewards(rewards) => rewards.learn(network, plan, step),
        }
    }

    /// Measures the network on what was held back: the value that evaluations are told apart by, and all figures.
    pub(super) fn judge(
        &mut self,
        network: &mut Network,
        recipe: &Recipe,
        plan: &Plan,
    ) -> Result<(f64, Evaluated), TrainError> {
        match self {
            Teacher::Data(lessons) => {
                let (loss, bits_per_byte) = lessons.held(network, recipe, plan)?;
                let figures = Evaluated {
                    loss: Some(loss),
                    bits_per_byte,
                    ..Evaluated::default()
                };
                Ok((loss, figures))
            }
            Teacher::Rewards(rewards) => {
                let (reward, right) = rewards.held_out(network)?;
                let figures = Evaluated {
                    reward: Some(reward),
                    right: Some(right),
                    ..Evaluated::default()
                };
                Ok((reward, figures))
            }
        }
    }
}
