//! Batch, rates and decay that follow from the weights and the horizon.

use crate::train::recipe::OptimKind;

/// Tokens of the run that the rules are anchored at: nanochat's of depth 12 at 12 tokens a weight.
pub(super) const TOKENS: f64 = 1_321_210_944.0;
/// Tokens of that run's step.
pub(super) const BATCH: f64 = 524_288.0;
/// Width of that run's model.
const WIDTH: f64 = 768.0;

/// The tokens of a step for a run of `tokens`: a power of two near 2^19 (D / D12)^0.383, with D12 the tokens of the run
/// that the rule is anchored at ([nanochat](https://github.com/karpathy/nanochat)).
pub fn batch_tokens(tokens: f64) -> u64 {
    let wanted = (BATCH * (tokens.max(1.0) / TOKENS).powf(0.383)).log2();
    1 << (wanted.round().clamp(0.0, 40.0) as u32)
}

/// Peak learning rates and the weight decay.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// With muon, of all that is not a hidden matrix.
    pub lr: f64,
    /// Of hidden matrices, with muon.
    pub matrix_lr: Option<f64>,
    /// Decay; with muon, of hidden matrices.
    pub weight_decay: f64,
}

/// What pretraining of a model of `width` with steps of `batch` tokens, `tokens` in all, learns at.
///
/// With muon the rates are nanochat's: 0.02 for matrices, and for the rest 0.008, its rate of the output layer, times
/// (width/768)^-1/2; its higher rate of the embeddings goes with a norm behind them that a Llama has not. Decay is 0.28
/// times D12/D. With adamw they are those of the smallest model of [GPT-3](https://arxiv.org/abs/2005.14165), which is of
/// the same width and batch: 6e-4, and a decay of 0.1. All rates go with the root of the batch.
///
/// The rules were measured for batches of 2^18 to 2^21 tokens; for batches far below they are on the low side.
pub fn rates(kind: OptimKind, width: u64, batch: u64, tokens: f64) -> Rates {
    let by_batch = (batch as f64 / BATCH).sqrt();
    let by_width = (width.max(1) as f64 / WIDTH).powf(-0.5);
    match kind {
        OptimKind::Adamw => Rates {
            lr: 6e-4 * by_width * by_batch,
            matrix_lr: None,
            weight_decay: 0.1,
        },
        OptimKind::Muon => Rates {
            lr: 0.008 * by_width * by_batch,
            matrix_lr: Some(0.02 * by_batch),
            weight_decay: 0.28 * by_batch * (TOKENS / tokens.max(1.0)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_anchor_has_the_published_rates() {
        assert_eq!(batch_tokens(TOKENS), 1 << 19);
        let muon = rates(OptimKind::Muon, 768, 1 << 19, TOKENS);
        assert_eq!(
            (muon.lr, muon.matrix_lr, muon.weight_decay),
            (0.008, Some(0.02), 0.28)
        );
        let adamw = rates(OptimKind::Adamw, 768, 1 << 19, TOKENS);
        assert_eq!(
            (adamw.lr, adamw.matrix_lr, adamw.weight_decay),
            (6e-4, None, 0.1)
        );
        // A quarter of the batch, a quarter of the width: half of the rate by one, twice by the other.
        let small = rates(OptimKind::Adamw, 192, 1 << 17, TOKENS);
        assert!((small.lr - 6e-4).abs() < 1e-12);
    }
}
