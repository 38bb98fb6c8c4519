//! Dropout whose every draw follows from where it is: no state, so a resumed run draws the same.

use super::pass::Moment;
use super::processor::Processor;

/// Values of a piece of work.
const PIECE: usize = 1 << 14;

/// The dropout of one linear's input in one pass.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dropout {
    key: u64,
    /// A value stays when its draw is at least this.
    threshold: u32,
    /// What values that stay are multiplied by.
    keep: f32,
}

impl Dropout {
    /// Drops a value with probability `rate`; `None` for 0.
    pub(super) fn new(rate: f32, seed: u64, moment: Moment, linear: u64) -> Option<Dropout> {
        let mut key = mix(seed);
        for part in [moment.step, moment.micro_step, linear] {
            key = mix(key ^ part);
        }
        (rate > 0.0).then_some(Dropout {
            key,
            threshold: (f64::from(rate) * 2f64.powi(32)) as u32,
            keep: 1.0 / (1.0 - rate),
        })
    }

    /// What the value at `index` is multiplied by.
    fn factor(self, index: usize) -> f32 {
        let draw = (mix(self.key.wrapping_add(index as u64)) >> 32) as u32;
        if draw >= self.threshold {
            self.keep
        } else {
            0.0
        }
    }

    /// `out` = `x` with values dropped.
    pub(super) fn apply(self, processor: &Processor, x: &[f32], out: &mut [f32]) {
        processor.for_pieces(out, PIECE, |from, out| {
            for ((index, out), x) in (from..).zip(out).zip(&x[from..]) {
                *out = x * self.factor(index);
            }
        });
    }

    /// Adds to `dx` the gradient of the input when `dout` is that of the output.
    pub(super) fn back(self, processor: &Processor, dout: &[f32], dx: &mut [f32]) {
        processor.for_pieces(dx, PIECE, |from, dx| {
            for ((index, dx), dout) in (from..).zip(dx).zip(&dout[from..]) {
                *dx += dout * self.factor(index);
            }
        });
    }
}

/// The finaliser of SplitMix64 over a golden-ratio step (<https://doi.org/10.1145/2714064.2660195>).
fn mix(x: u64) -> u64 {
    let mut z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_drops_its_share_and_depends_on_every_part_of_its_place() {
        let processor = Processor::new(2).unwrap();
        let x = vec![1.0; 40_000];
        let draw = |seed, step, micro_step, linear| {
            let mut out = vec![0.0; x.len()];
            let moment = Moment { step, micro_step };
            let dropout = Dropout::new(0.25, seed, moment, linear).unwrap();
            dropout.apply(&processor, &x, &mut out);
            out
        };
        let first = draw(1, 2, 3, 4);
        assert_eq!(first, draw(1, 2, 3, 4));
        let dropped = first.iter().filter(|x| **x == 0.0).count() as f64 / 40_000.0;
        assert!((dropped - 0.25).abs() < 0.01, "{dropped}");
        assert!(
            first
                .iter()
                .all(|x| *x == 0.0 || (x - 4.0 / 3.0).abs() < 1e-6)
        );
        for other in [
            draw(2, 2, 3, 4),
            draw(1, 1, 3, 4),
            draw(1, 2, 2, 4),
            draw(1, 2, 3, 3),
        ] {
            let same = first.iter().zip(&other).filter(|(a, b)| a == b).count() as f64 / 40_000.0;
            assert!(
                (same - 0.625).abs() < 0.02,
                "independent draws agree on 62.5 %, these on {same}"
            );
        }
        assert!(Dropout::new(0.0, 1, Moment::default(), 0).is_none());
    }
}
