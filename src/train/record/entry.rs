//! The lines of a run's log.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A line of the log, told apart by its field `kind`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Entry {
    /// A step.
    Step(Step),
    /// An evaluation.
    Evaluation(Evaluated),
    /// What the model made of a fixed prompt.
    Sample(Sampled),
    /// Something else that happened, such as a pause, a checkpoint or an alarm.
    Event {
        /// After which step.
        step: u64,
        /// Seconds since 1970.
        time: f64,
        /// What happened.
        message: String,
    },
}

/// A step of the optimiser.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// The step, from 1 on: how many have been taken.
    pub step: u64,
    /// Seconds since 1970.
    pub time: f64,
    /// Mean loss in nats a token that counts; in the stage rl, that weighted by advantages, of either sign. One that is not finite is written as null.
    #[serde(deserialize_with = "or_nan")]
    pub loss: f64,
    /// The learning rate that it was taken with.
    pub lr: f64,
    /// The norm of the gradient before it was clipped.
    #[serde(deserialize_with = "or_nan")]
    pub grad_norm: f64,
    /// Tokens of all steps so far.
    pub tokens: u64,
    /// Tokens a second since the line before.
    pub tokens_per_s: f64,
    /// Bytes of memory that the process has.
    pub memory_bytes: u64,
    /// The share of the machine's arithmetic that the model's own makes, if that was measured.
    pub mfu: Option<f64>,
    /// Seconds to the last step, at the present pace.
    pub eta_s: Option<f64>,
    /// The share of the data gone through, in epochs.
    pub epoch: Option<f64>,
    /// Mean reward of the step's answers, in the stage rl.
    pub reward: Option<f64>,
    /// What was drawn to learn from, in the stage rl.
    #[serde(default)]
    pub drawn: Option<Drawn>,
    /// Joules since the line before, where the machine tells.
    pub energy_j: Option<f64>,
}

/// The answers of a step of the stage rl.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Drawn {
    /// Prompts.
    pub groups: u64,
    /// Prompts whose answers all had the same reward, so that nothing was learnt from them.
    pub skipped: u64,
    /// Answers.
    pub answers: u64,
    /// Of those, answers that the limit of tokens ended.
    pub cut: u64,
    /// Tokens of all answers.
    pub tokens: u64,
    /// Tokens of prompts and answers whose gradients were computed; equal answers to a prompt count once.
    pub learnt: u64,
    /// Seconds that packing the weights for the engine took.
    pub refresh_s: f64,
    /// Seconds that drawing took.
    pub draw_s: f64,
}

/// JSON has no number that is not finite.
fn or_nan<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

/// An evaluation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Evaluated {
    /// After which step.
    pub step: u64,
    /// Seconds since 1970.
    pub time: f64,
    /// Mean loss on the data held back, in nats a token.
    pub loss: Option<f64>,
    /// Bits a byte of the same.
    pub bits_per_byte: Option<f64>,
    /// Mean reward on held-out prompts, in the stage rl.
    pub reward: Option<f64>,
    /// Share of held-out prompts that are answered rightly, in the stage rl.
    #[serde(default)]
    pub right: Option<f64>,
    /// Scores of tasks by name.
    #[serde(default)]
    pub tasks: BTreeMap<String, f64>,
    /// Whether it is the best so far.
    pub best: bool,
}

/// What the model made of a fixed prompt.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sampled {
    /// After which step.
    pub step: u64,
    /// Seconds since 1970.
    pub time: f64,
    /// The prompt.
    pub prompt: String,
    /// The continuation.
    pub text: String,
}

impl Entry {
    /// The step it is of.
    pub fn step(&self) -> u64 {
        match self {
            Entry::Step(step) => step.step,
            Entry::Evaluation(evaluated) => evaluated.step,
            Entry::Sample(sampled) => sampled.step,
            Entry::Event { step, .. } => *step,
        }
    }

    /// When it was written, in seconds since 1970.
    pub fn time(&self) -> f64 {
        match self {
            Entry::Step(step) => step.time,
            Entry::Evaluation(evaluated) => evaluated.time,
            Entry::Sample(sampled) => sampled.time,
            Entry::Event { time, .. } => *time,
        }
    }
}
