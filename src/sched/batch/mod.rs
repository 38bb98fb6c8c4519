//! How many tokens a step takes and who reads how many of them: one pure policy a file behind [`Batcher`].
//!
//! A row of a prompt never crosses a line of the grid that shared blocks and evictions are cut at. A prompt that is
//! read exactly may be cut anywhere before the line; one that is read in bounded memory runs to it in one row, however
//! small the chunk is, since what is evicted after a row must not depend on who else is in the batch.

mod dynamic;
mod fixed;
mod pace;
mod predictor;
mod space;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use super::settings::{BatcherKind, Config};

use dynamic::DynamicChunk;
use fixed::FixedChunk;
pub use pace::Pace;
pub use predictor::{Predictor, StepCost};
use space::SpaceSharing;

/// A prompt that could be read further in the next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// Tokens to the next line of the grid, or to the prompt's end. At least one.
    pub to_line: usize,
    /// Whether they are read all at once or not at all.
    pub whole: bool,
    /// Tokens before them.
    pub context: usize,
}

/// How a step is filled.
pub trait Batcher: fmt::Debug + Send {
    /// Prompt tokens that a step may take beside what `decodes` costs; `first` is the prompt that is next.
    fn budget(&self, decodes: &StepCost, first: Option<&Claim>, predictor: &Predictor) -> usize;

    /// How long prompts may compute in a step beside `decodes`, where they can be put off in the middle; `None` = to their
    /// ends.
    fn slice(&self, decodes: &StepCost, predictor: &Predictor) -> Option<Duration>;

    /// The fewest prompt tokens that make a row, if there are as many to the line.
    fn least(&self) -> usize;

    /// How many tokens of each claim, in the order of rank, the next step reads; 0 leaves a prompt out.
    fn share(&self, budget: usize, claims: &[Claim]) -> Vec<usize>;
}

/// The batcher of a configuration.
pub fn batcher(config: &Config) -> Box<dyn Batcher> {
    match config.batcher {
        BatcherKind::Fixed => Box::new(FixedChunk::new(config)),
        BatcherKind::Dynamic => Box::new(DynamicChunk::new(config)),
        BatcherKind::SpaceSharing => Box::new(SpaceSharing::new(config)),
    }
}

/// The next piece of a run of `to_line` tokens that is cut into the fewest pieces of at most `budget`: all alike, so
/// that none is a crumb.
fn even_piece(to_line: usize, budget: usize) -> usize {
    if budget == 0 {
        return 0;
    }
    to_line.div_ceil(to_line.div_ceil(budget).max(1))
}

/// Claims in order, each as far as the budget goes; `least` is the smallest piece worth a row.
fn in_order(budget: usize, least: usize, claims: &[Claim]) -> Vec<usize> {
    let mut left = budget;
    let mut shares = Vec::with_capacity(claims.len());
    for (place, claim) in claims.iter().enumerate() {
        let first = place == 0 && budget > 0;
        let share = if claim.to_line <= left || (first && claim.whole) {
            claim.to_line
        } else if claim.whole || (!first && left < least) {
            0
        } else {
            even_piece(claim.to_line, left)
        };
        left = left.saturating_sub(share);
        shares.push(share);
    }
    shares
}
