//! The figures of nanochat's own model, by its own formula: what the adapted rules are measured against.

use super::rule::{TOKENS, batch_tokens};

/// nanochat's model of a depth, with a vocabulary of 32,768, heads of 128 and sequences of 2,048.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nanochat {
    /// Blocks.
    pub depth: u64,
}

const VOCAB: u64 = 32_768;
const HEAD_DIM: u64 = 128;
const SEQUENCE: u64 = 2048;
const SHORT_WINDOW: u64 = 512;
/// Inputs of a value embedding's gate, and of the gate that mixes in the token before.
const GATES: (u64, u64) = (12, 24);

impl Nanochat {
    /// Values of the residual stream.
    pub fn width(self) -> u64 {
        (self.depth * 64).next_multiple_of(HEAD_DIM)
    }

    /// Every other block has a table of value embeddings.
    fn value_tables(self) -> u64 {
        self.depth.div_ceil(2)
    }

    /// Blocks' matrices, gates included, and the output layer.
    pub fn scaling_parameters(self) -> u64 {
        let heads = self.width() / HEAD_DIM;
        let gates = self.value_tables() * GATES.0 * heads;
        12 * self.depth * self.width().pow(2) + gates + VOCAB * self.width()
    }

    /// All weights.
    pub fn parameters(self) -> u64 {
        let tables = (1 + self.value_tables()) * VOCAB * self.width();
        // Two scales a block, the gate of the token before and its scale, and the scale of the backout.
        let scalars = 2 * self.depth + GATES.1 + 2;
        self.scaling_parameters() + tables + scalars
    }

    /// Tokens of a run at 12 for each weight that counts.
    pub fn tokens(self) -> u64 {
        12 * self.scaling_parameters()
    }

    /// Tokens of a step.
    pub fn batch(self) -> u64 {
        batch_tokens(self.tokens() as f64)
    }

    /// Steps of the run.
    pub fn iterations(self) -> u64 {
        self.tokens() / self.batch()
    }

    /// Floating-point operations for a token: three blocks of four see a short window, the last one never.
    pub fn flops_per_token(self) -> f64 {
        let long = (0..self.depth)
            .filter(|at| at % 4 == 3 || at + 1 == self.depth)
            .count() as u64;
        let seen = long * SEQUENCE + (self.depth - long) * SHORT_WINDOW;
        (6 * self.scaling_parameters() + 12 * self.width() * seen) as f64
    }
}

/// Tokens of the run that the rules are anchored at.
pub const ANCHOR_TOKENS: f64 = TOKENS;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn n1_parameter_and_horizon_goldens() {
        for (depth, width, parameters, scaling, tokens, batch, iterations) in [
            (4, 256, 36_700_242, 11_534_384, 138_412_608, 18, 528),
            (6, 384, 73_531_538, 23_199_852, 278_398_224, 18, 1_062),
            (8, 512, 125_829_354, 41_943_232, 503_318_784, 18, 1_920),
            (12, 768, 286_261_730, 110_100_912, 1_321_210_944, 19, 2_520),
            (16, 1024, 536_871_738, 234_881_792, 2_818_581_504, 19, 5_376),
            (20, 1280, 896_533_746, 435_160_240, 5_221_922_880, 20, 4_980),
            (
                24,
                1536,
                1_384_122_122,
                729_810_624,
                8_757_727_488,
                20,
                8_352,
            ),
            (
                26,
                1664,
                1_681_786_938,
                918_423_532,
                11_021_082_384,
                20,
                10_510,
            ),
            (
                32,
                2048,
                2_818_575_450,
                1_677_724_672,
                20_132_696_064,
                21,
                9_600,
            ),
        ] {
            let model = Nanochat { depth };
            assert_eq!(model.width(), width, "{depth}");
            assert_eq!(model.parameters(), parameters, "{depth}");
            assert_eq!(model.scaling_parameters(), scaling, "{depth}");
            assert_eq!(model.tokens(), tokens, "{depth}");
            assert_eq!(model.batch(), 1 << batch, "{depth}");
            assert_eq!(model.iterations(), iterations, "{depth}");
        }
    }

    #[test]
    fn n1_operations() {
        let near = |found: f64, told: f64| (found / told - 1.0).abs() < 1e-3;
        let model = Nanochat { depth: 12 };
        assert!(near(model.flops_per_token(), 7.597e8));
        assert!(near(
            model.flops_per_token() * model.tokens() as f64,
            1.004e18
        ));
        let model = Nanochat { depth: 24 };
        assert!(near(
            model.flops_per_token() * model.tokens() as f64,
            4.18e19
        ));
    }

    #[test]
    fn the_anchor_is_depth_12() {
        assert_eq!(Nanochat { depth: 12 }.tokens() as f64, ANCHOR_TOKENS);
    }
}
