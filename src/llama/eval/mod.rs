//! Measuring what a policy costs: one text, many policies, computed side by side in one batch.

mod curve;
mod recall;
mod talk;

pub use curve::{Curve, CurveRow, Variant, curve};
pub use recall::{Asked, Reply, ask, forget_context, read_context};
pub use talk::{Spoken, Turn, converse};

use crate::ids::TokenId;

/// The most probable token; of equals, the lowest.
fn best(logits: &[f32]) -> TokenId {
    let top = logits
        .iter()
        .enumerate()
        .max_by(|a, b| a.1.total_cmp(b.1).then(b.0.cmp(&a.0)));
    top.map_or(0, |(index, _)| index as TokenId)
}
