//! From the residual stream to losses, a few rows of logits at a time.

use super::linear::Compute;
use super::tensor::Tensor;
use crate::kernels::Aligned;
use crate::kernels::training::cross_entropy;

/// Bytes of logits that are in memory at once, unless one row is larger.
pub(in crate::train) const LOGITS: usize = 64 << 20;

/// Memory of the head.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    logits: Aligned,
    panel: Aligned,
}

/// Rows whose logits fit into [`LOGITS`].
fn chunk(vocab: usize) -> usize {
    (LOGITS / size_of::<f32>() / vocab).max(1)
}

/// Losses of rows of normed states, `normed` `[m, hidden]`, unweighted. With `dnormed`, `[m, hidden]`, that becomes their
/// gradient, and the head's is added to if it is trained.
pub(super) fn losses(
    head: &mut Tensor,
    compute: Compute<'_>,
    normed: &[f32],
    (targets, weights): (&[u32], &[f32]),
    losses: &mut [f32],
    mut dnormed: Option<&mut [f32]>,
    scratch: &mut Scratch,
) {
    let with = (compute.processor, compute.arithmetic);
    let (level, pool) = (compute.processor.level, &*compute.processor.pool);
    let (vocab, hidden) = (head.rows(), head.cols());
    let rows = chunk(vocab);
    for from in (0..targets.len()).step_by(rows) {
        let part = from..(from + rows).min(targets.len());
        let states = part.start * hidden..part.end * hidden;
        let logits = scratch.logits.take(part.len() * vocab);
        head.forward(
            with,
            &normed[states.clone()],
            logits,
            false,
            &mut scratch.panel,
        );
        let (targets, weights) = (&targets[part.clone()], &weights[part.clone()]);
        let gradient = dnormed.is_some();
        let losses = &mut losses[part];
        cross_entropy(
            level, pool, logits, vocab, targets, weights, losses, gradient,
        );
        if let Some(dnormed) = dnormed.as_deref_mut() {
            let dnormed = &mut dnormed[states.clone()];
            head.back(with, logits, dnormed, false, &mut scratch.panel);
            head.learn(with, logits, &normed[states]);
        }
    }
}

/// Logits of rows of normed states: `[m, hidden]` -> `[m, vocab]`.
pub(super) fn logits(
    head: &Tensor,
    compute: Compute<'_>,
    normed: &[f32],
    scratch: &mut Scratch,
) -> Vec<f32> {
    let with = (compute.processor, compute.arithmetic);
    let mut logits = vec![0.0; normed.len() / head.cols() * head.rows()];
    head.forward(with, normed, &mut logits, false, &mut scratch.panel);
    logits
}
