//! Answers that keep to a grammar: what is asked for becomes a set of tokens that may come next, so that whatever is
//! drawn can be completed. The automata are llguidance's (<https://github.com/guidance-ai/llguidance>); what JSON texts
//! must fulfil is judged once more, by another library, when they are complete.
//!
//! Nothing is approximated: a schema that cannot be honoured wholly is refused with the place of what is at fault.

mod calls;
mod check;
mod constraint;
mod grammars;
mod schema;
mod shape;
#[cfg(test)]
mod tests;
mod vocabulary;

pub use calls::{CallFormat, Callable, NO_NAME, is_name};
pub use check::{SchemaCheck, Unmet};
pub use constraint::{Constraint, Matcher, Stuck};
pub use grammars::Grammars;
pub use shape::{BadShape, MAX_CHOICES, MAX_SHAPE_BYTES, Shape};
