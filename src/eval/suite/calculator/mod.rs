//! The calculator that a model may call while it writes: exact arithmetic and the count of letters in a word.

mod expression;
mod state;

pub use expression::{CalculatorError, MAX_EXPRESSION, calculate};
pub use state::{CalculatorState, Forced, Markers};
