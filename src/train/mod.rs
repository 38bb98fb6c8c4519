//! Training: the model with gradients, what moves its weights, and what a run resumes from.
//!
//! [`network`] computes losses and gradients on the host, [`optimizer`] turns gradients into steps, and [`checkpoint`]
//! writes and restores both in the formats of Hugging Face and PEFT.

pub mod checkpoint;
pub mod network;
pub mod optimizer;
