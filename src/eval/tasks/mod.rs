//! The samples of each task, from a seed.

mod cwe;
mod form;
mod fwe;
mod instruction;
mod multiturn;
mod needle;
mod niah;
mod passkey;
mod plant;
mod rules;
mod turns;
mod vt;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

pub use form::Wording;
pub use instruction::{Dialogue, dialogue};
pub use rules::Rule;

use super::haystack::Haystack;
use super::sample::Sample;
use super::size::{Count, largest};
use super::task::Task;

/// What a sample is made from. The same seed at another depth or length asks for the same needles, so that cells of a
/// grid can be compared.
#[derive(Clone, Copy)]
pub struct Spec<'a> {
    /// Which sample.
    pub seed: u64,
    /// Tokens of the context, the questions and the longest replies together; the context is filled up to it.
    pub length: usize,
    /// Where the queried needle stands, 0 (start) to 1 (end); absent = somewhere, or for tasks without a needle.
    pub depth: Option<f32>,
    /// How the tasks of the group `needle` ask; the others have one wording.
    pub wording: Wording,
    /// Filler of the tasks that do not bring their own.
    pub haystack: &'a Haystack,
    /// Counts tokens.
    pub count: &'a dyn Count,
}

/// Why there is no sample.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TaskError {
    /// The parts that cannot be left out are longer.
    #[error(
        "a sample of {task} takes at least {least} tokens, not {length}: ask for a longer context"
    )]
    TooShort {
        /// The task.
        task: Task,
        /// Tokens asked for.
        length: usize,
        /// Tokens of the smallest sample.
        least: usize,
    },
    /// Its facts are spread over the context.
    #[error(
        "{0} has no needle to place: leave the depth out, or choose a needle, passkey or niah task"
    )]
    NoDepth(Task),
    /// Not a share.
    #[error("depth {0} is not between 0 (start of the context) and 1 (its end)")]
    Depth(f32),
    /// It reads a text, or is a dialogue.
    #[error("{0} has no samples of questions: ppl and kld read a text, instruction is a dialogue")]
    NoSamples(Task),
}

/// The sample of `task` that `spec` names. Equal specs give equal samples.
///
/// # Errors
/// A length below the task's least, a depth that is no share or that the task does not have, or a task without samples.
pub fn make(task: Task, spec: &Spec) -> Result<Sample, TaskError> {
    if let Some(depth) = spec.depth {
        if !task.has_depth() {
            return Err(TaskError::NoDepth(task));
        }
        if !(0.0..=1.0).contains(&depth) {
            return Err(TaskError::Depth(depth));
        }
    }
    match task {
        Task::NeedleSingle | Task::NeedleMultikey | Task::NeedleMultivalue => {
            needle::make(task, spec)
        }
        Task::Passkey => passkey::make(spec),
        Task::NiahSingle1
        | Task::NiahSingle2
        | Task::NiahSingle3
        | Task::NiahMultikey1
        | Task::NiahMultikey2 => niah::make(task, spec),
        Task::VariableTracking => vt::make(spec),
        Task::CommonWords => cwe::make(spec),
        Task::FrequentWords => fwe::make(spec),
        Task::Multiturn => multiturn::make(spec),
        Task::Perplexity | Task::Divergence | Task::Instruction => Err(TaskError::NoSamples(task)),
    }
}

/// Random numbers of one sample; tasks with the same seed do not share them.
fn rng(task: Task, spec: &Spec) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(spec.seed);
    rng.set_stream(task as u64);
    rng
}

/// The longest of `build(least)`, `build(least + 1)`, ... that is no longer than asked for.
fn fit<T>(
    task: Task,
    spec: &Spec,
    least: usize,
    size: impl Fn(&T) -> usize,
    build: impl Fn(usize) -> T,
) -> Result<T, TaskError> {
    match largest(least, spec.length, |units| size(&build(units))) {
        Ok(units) => Ok(build(units)),
        Err(needed) => Err(TaskError::TooShort {
            task,
            length: spec.length,
            least: needed,
        }),
    }
}

/// [`fit`] for samples.
fn fit_sample(
    spec: &Spec,
    task: Task,
    least: usize,
    build: impl Fn(usize) -> Sample,
) -> Result<Sample, TaskError> {
    fit(
        task,
        spec,
        least,
        |sample: &Sample| sample.size(spec.count),
        build,
    )
}

#[cfg(test)]
mod testing;

#[cfg(test)]
mod tests;
