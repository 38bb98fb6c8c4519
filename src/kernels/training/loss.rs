//! The loss of rows of logits.
#![allow(
    unsafe_code,
    reason = "parts write rows of their own, vector by vector"
)]

use super::math::{self, Job, Math, Work};
use crate::kernels::level::Level;
use crate::kernels::line::Shared;
use crate::kernels::pool::Pool;

/// Logits that have a maximum of their own, so that their exponentials are taken while they are in the nearest cache.
const BLOCK: usize = 2048;

/// Sets `losses` to the cross-entropy of each row of `logits`, `[n, vocab]`, with its target, in nats, and where
/// `gradient` is wanted the logits to the gradient of the sum of the losses times `weights`:
/// `weight * (softmax(logits) - onehot(target))`. Without it the logits become unspecified.
///
/// A loss is not finite when a logit is `+inf` or no number, or the target's is `-inf`.
///
/// # Panics
///
/// When `vocab` is 0, a length is not that of `n` rows, or a target is not below `vocab`.
#[allow(
    clippy::too_many_arguments,
    reason = "what goes in and out of a loss, and where it runs"
)]
pub fn cross_entropy(
    level: Level,
    pool: &Pool,
    logits: &mut [f32],
    vocab: usize,
    targets: &[u32],
    weights: &[f32],
    losses: &mut [f32],
    gradient: bool,
) {
    let n = targets.len();
    assert!(vocab > 0, "vocab is 0");
    assert_eq!(Some(logits.len()), n.checked_mul(vocab), "logits: {n} rows");
    assert_eq!(weights.len(), n, "weights: one per target");
    assert_eq!(losses.len(), n, "losses: one per target");
    if let Some(target) = targets.iter().find(|target| **target as usize >= vocab) {
        panic!("target {target} of a vocabulary of {vocab}");
    }
    let loss = Loss {
        pool,
        logits: Shared::new(logits),
        vocab,
        targets,
        weights,
        losses: Shared::new(losses),
        gradient,
    };
    math::run(level, loss);
}

struct Loss<'a> {
    pool: &'a Pool,
    logits: Shared<'a, f32>,
    vocab: usize,
    targets: &'a [u32],
    weights: &'a [f32],
    losses: Shared<'a, f32>,
    gradient: bool,
}

impl Job for Loss<'_> {
    type Output = ();

    fn run<M: Math>(self, math: M) {
        self.pool.run(self.targets.len(), |row| {
            // SAFETY: every part has a row and a loss of its own.
            let (logits, loss) = unsafe {
                let logits = self.logits.part(row * self.vocab..(row + 1) * self.vocab);
                (logits, &mut self.losses.part(row..row + 1)[0])
            };
            *loss = math.run(Row {
                logits,
                target: self.targets[row] as usize,
                weight: self.weights[row],
                gradient: self.gradient,
            });
        });
    }
}

struct Row<'a> {
    logits: &'a mut [f32],
    target: usize,
    weight: f32,
    gradient: bool,
}

impl<M: Math> Work<M> for Row<'_> {
    type Output = f32;

    /// Each block becomes `exp(x - its maximum)`, which the second pass scales: one exponential per logit.
    #[inline(always)]
    fn run(self, math: M) -> f32 {
        let target = f64::from(self.logits[self.target]);
        let mut maxima = Vec::with_capacity(self.logits.len().div_ceil(BLOCK));
        let mut most = f32::MIN;
        let mut total = 0.0f64;
        for block in self.logits.chunks_mut(BLOCK) {
            let (start, len) = (block.as_mut_ptr(), block.len());
            // Not -inf, which is as far from itself as from anything.
            let mut max = math.splat(f32::MIN);
            for at in (0..len / M::LANES * M::LANES).step_by(M::LANES) {
                // SAFETY: a vector of the block.
                max = math.max(max, unsafe { math.load(start.add(at)) });
            }
            let mut max = math.largest(max);
            for x in &block[len / M::LANES * M::LANES..] {
                max = max.max(*x);
            }
            let shift = math.splat(-max);
            let mut sum = math.splat(0.0);
            for at in (0..len / M::LANES * M::LANES).step_by(M::LANES) {
                // SAFETY: a vector of the block.
                unsafe {
                    let power = math.exp(math.add(math.load(start.add(at)), shift));
                    math.store(start.add(at), power);
                    sum = math.add(sum, power);
                }
            }
            let mut sum = f64::from(math.sum(sum));
            for x in &mut block[len / M::LANES * M::LANES..] {
                *x = (*x - max).exp();
                sum += f64::from(*x);
            }
            if max > most {
                total *= (f64::from(most) - f64::from(max)).exp();
                most = max;
            }
            total += sum * (f64::from(max) - f64::from(most)).exp();
            maxima.push(max);
        }
        if self.gradient {
            for (block, max) in self.logits.chunks_mut(BLOCK).zip(maxima) {
                let (start, len) = (block.as_mut_ptr(), block.len());
                let factor = (f64::from(max) - f64::from(most)).exp() / total;
                let factor = math.splat((f64::from(self.weight) * factor) as f32);
                for at in (0..len).step_by(M::LANES) {
                    // SAFETY: the block has `len - at` floats from there on.
                    unsafe {
                        let power = math.load_first(start.add(at), len - at);
                        math.store_first(start.add(at), math.mul(power, factor), len - at);
                    }
                }
            }
            self.logits[self.target] -= self.weight;
        }
        (total.ln() + f64::from(most) - target) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::super::gemm::tests::noise;
    use super::*;

    #[test]
    fn every_level_loses_what_doubles_do() {
        let pool = Pool::new(2).unwrap();
        for (n, vocab) in [(1, 1), (3, 7), (5, 33), (2, 100), (7, 3 * BLOCK + 17)] {
            let mut logits = noise(n * vocab, 1);
            logits.iter_mut().for_each(|x| *x *= 30.0);
            if vocab > 8 {
                logits[4] = f32::NEG_INFINITY;
                logits[8] = 3e4;
            }
            let targets: Vec<u32> = (0..n).map(|i| (i * 31 % vocab) as u32).collect();
            let weights = noise(n, 2);
            for level in Level::available() {
                let (mut found, mut losses) = (logits.clone(), vec![f32::NAN; n]);
                cross_entropy(
                    level,
                    &pool,
                    &mut found,
                    vocab,
                    &targets,
                    &weights,
                    &mut losses,
                    true,
                );
                for row in 0..n {
                    let x = &logits[row * vocab..(row + 1) * vocab];
                    let target = targets[row] as usize;
                    let max = x.iter().copied().fold(f32::MIN, f32::max);
                    let power = |x: f32| (f64::from(x) - f64::from(max)).exp();
                    let total: f64 = x.iter().map(|x| power(*x)).sum();
                    let expected = total.ln() + f64::from(max) - f64::from(x[target]);
                    let error = (f64::from(losses[row]) - expected).abs();
                    assert!(error <= 2e-6 * (1.0 + expected.abs()), "{level:?}");
                    for i in 0..vocab {
                        let one = f64::from(u8::from(i == target));
                        let slope = f64::from(weights[row]) * (power(x[i]) / total - one);
                        let found = f64::from(found[row * vocab + i]);
                        assert!((found - slope).abs() <= 2e-6, "{level:?}: {found} {slope}");
                    }
                }
                let mut again = vec![f32::NAN; n];
                let mut spent = logits.clone();
                cross_entropy(
                    level, &pool, &mut spent, vocab, &targets, &weights, &mut again, false,
                );
                assert_eq!(again, losses);
            }
        }
    }

    #[test]
    fn what_is_no_number_stays_none() {
        let pool = Pool::new(1).unwrap();
        for level in Level::available() {
            for at in [0, 20, 39] {
                let mut logits = noise(40, 3);
                logits[at] = f32::NAN;
                let mut losses = [0.0];
                cross_entropy(
                    level,
                    &pool,
                    &mut logits,
                    40,
                    &[1],
                    &[1.0],
                    &mut losses,
                    true,
                );
                assert!(losses[0].is_nan() && logits[1].is_nan(), "{level:?}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "target 7 of a vocabulary of 7")]
    fn a_target_beyond_the_vocabulary_panics() {
        let pool = Pool::new(1).unwrap();
        let (logits, losses) = (&mut [0.0; 7], &mut [0.0]);
        cross_entropy(Level::best(), &pool, logits, 7, &[7], &[1.0], losses, true);
    }
}
