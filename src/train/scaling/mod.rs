//! What follows from the shape of a new model, and the shape from its depth.
//!
//! The rules are nanochat's (its own model's figures are in [`nanochat`]), adapted to a plain Llama: no value embeddings
//! and gates, RMS norms with weights, a gated feed-forward layer of 8/3 times the width, which has as many weights as
//! nanochat's two matrices of 4 times the width, and KV heads by ratio. What is taken over is that the weights which count
//! are those of the blocks' matrices and of the output layer, and how batch, rates and decay follow from them.

pub mod nanochat;
mod rule;
mod shape;

pub use rule::{Rates, batch_tokens, rates};
pub use shape::{BadShape, Shape};
