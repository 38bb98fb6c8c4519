//! Suites of tasks for any model: what a base model predicts, what a chat model answers, what its code does; and the
//! same kind of scoring as a reward.
//!
//! A model is a [`Judge`]; a task is a small file ([`TaskSpec`]) found through a [`Catalogue`]; [`run_suite`] measures,
//! and a [`Comparison`] sets several models side by side.

mod builtin;
mod calculator;
mod catalogue;
mod comparison;
mod error;
mod item;
mod judge;
mod metric;
mod pattern;
mod results;
mod reward;
mod run;
mod sandbox;
mod score;
mod shots;
mod task;

pub use builtin::builtins;
pub use calculator::{
    CalculatorError, CalculatorState, Forced, MAX_EXPRESSION, Markers, calculate,
};
pub use catalogue::Catalogue;
pub use comparison::{Comparison, Difference};
pub use error::SuiteError;
pub use item::{Item, Question};
pub use judge::{GenerateOptions, Judge, JudgeError, Likelihood, Loss, Prompt};
pub use metric::Metric;
pub use pattern::Pattern;
pub use results::{SuiteResults, TaskResult, centred};
pub use reward::{
    Arithmetic, Gsm8k, Mixture, Problem, Reward, RewardError, RewardSpec, RewardTask, Slice,
    Spelling, Split, answer_in,
};
pub use run::{Progress, SuiteOptions, run_suite};
pub use sandbox::{
    Execution, Executor, JOB, Launcher, Limits, Outcome, Sandbox, SandboxError, enter,
};
pub use task::{Kind, Normalise, TaskSpec};

#[cfg(test)]
mod testing;
