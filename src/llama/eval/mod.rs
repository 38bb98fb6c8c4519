//! Measuring what a policy costs: one text, many policies, computed side by side in one batch.

mod curve;
mod recall;
mod talk;

pub use curve::{Curve, CurveRow, Variant, curve};
pub use recall::{Asked, Asking, Reply, ask, forget_context, read_context};
pub use talk::{Spoken, Turn, converse};
