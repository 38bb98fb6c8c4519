//! Answers of a model that is being trained, drawn on the engine that serves models.
//!
//! [`engine`] packs the present weights for the engine, without a file. [`draw`](draw()) reads each prompt once, lets the
//! answers of its group go on from its cache, and computes the next token of all of them in one pass. What the calculator
//! writes is forced into an answer and marked, so that nobody learns it.

mod answer;
mod drawing;
mod engine;
mod error;
#[cfg(test)]
mod tests;

pub use answer::Answer;
pub use drawing::{Asked, Drawing, draw};
pub use engine::engine;
pub use error::RolloutError;
