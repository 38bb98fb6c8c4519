//! AdamW.
#![allow(
    unsafe_code,
    reason = "parts write floats of their own, vector by vector"
)]

use super::math::{self, Job, Math, Work};
use crate::kernels::level::Level;
use crate::kernels::line::Shared;
use crate::kernels::pool::Pool;

/// Floats of a part.
const PART: usize = 1 << 14;

/// One step of AdamW: Adam (<https://arxiv.org/abs/1412.6980>) with weight decay beside it
/// (<https://arxiv.org/abs/1711.05101>).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// The learning rate, which the decay is multiplied by too.
    pub lr: f32,
    /// How much of the mean of gradients stays from step to step.
    pub beta1: f32,
    /// How much of the mean of their squares does.
    pub beta2: f32,
    /// Added to the root of the mean of squares.
    pub eps: f32,
    /// The share of a value that is taken off, times the learning rate.
    pub weight_decay: f32,
    /// Counts from 1; the means, which start at 0, are divided by what they hold of all weight so far.
    pub step: u64,
    /// Gradients are multiplied by this first, as clipping wants.
    pub grad_scale: f32,
}

/// Changes `values` by one step of `adamw`, and the means of gradients, `first`, and of their squares, `second`, in one
/// pass.
///
/// # Panics
///
/// When the lengths differ, or the step is 0.
pub fn adamw(
    level: Level,
    pool: &Pool,
    adamw: &AdamW,
    values: &mut [f32],
    grads: &[f32],
    first: &mut [f32],
    second: &mut [f32],
) {
    assert!(adamw.step > 0, "steps count from 1");
    assert_eq!(grads.len(), values.len(), "grads: the shape of values");
    assert_eq!(first.len(), values.len(), "first: the shape of values");
    assert_eq!(second.len(), values.len(), "second: the shape of values");
    let all = All {
        pool,
        adamw,
        values: Shared::new(values),
        grads,
        first: Shared::new(first),
        second: Shared::new(second),
    };
    math::run(level, all);
}

struct All<'a> {
    pool: &'a Pool,
    adamw: &'a AdamW,
    values: Shared<'a, f32>,
    grads: &'a [f32],
    first: Shared<'a, f32>,
    second: Shared<'a, f32>,
}

impl Job for All<'_> {
    type Output = ();

    fn run<M: Math>(self, math: M) {
        let len = self.grads.len();
        let rates = self.adamw.rates();
        self.pool.run(len.div_ceil(PART), |part| {
            let range = part * PART..((part + 1) * PART).min(len);
            // SAFETY: every part has floats of its own.
            let part = unsafe {
                Part {
                    rates,
                    grads: &self.grads[range.clone()],
                    values: self.values.part(range.clone()),
                    first: self.first.part(range.clone()),
                    second: self.second.part(range),
                }
            };
            math.run(part);
        });
    }
}

impl AdamW {
    fn rates(&self) -> Rates {
        let step = i32::try_from(self.step).unwrap_or(i32::MAX);
        let held = |beta: f32| 1.0 - f64::from(beta).powi(step);
        let lr = f64::from(self.lr);
        Rates {
            kept: (1.0 - lr * f64::from(self.weight_decay)) as f32,
            change: (-lr / held(self.beta1)) as f32,
            root: (1.0 / held(self.beta2).sqrt()) as f32,
            adamw: *self,
        }
    }
}

#[derive(Clone, Copy)]
struct Rates {
    /// What decay leaves of a value.
    kept: f32,
    /// What the mean of gradients is multiplied by.
    change: f32,
    /// What the root of the mean of squares is multiplied by.
    root: f32,
    adamw: AdamW,
}

struct Part<'a> {
    rates: Rates,
    grads: &'a [f32],
    values: &'a mut [f32],
    first: &'a mut [f32],
    second: &'a mut [f32],
}

impl<M: Math> Work<M> for Part<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self, math: M) {
        let Rates {
            kept,
            change,
            root,
            adamw,
        } = self.rates;
        let (kept, change, root) = (math.splat(kept), math.splat(change), math.splat(root));
        let (beta1, new1) = (math.splat(adamw.beta1), math.splat(1.0 - adamw.beta1));
        let (beta2, new2) = (math.splat(adamw.beta2), math.splat(1.0 - adamw.beta2));
        let (scale, eps) = (math.splat(adamw.grad_scale), math.splat(adamw.eps));
        let len = self.grads.len();
        let grads = self.grads.as_ptr();
        let values = self.values[..len].as_mut_ptr();
        let first = self.first[..len].as_mut_ptr();
        let second = self.second[..len].as_mut_ptr();
        for at in (0..len).step_by(M::LANES) {
            let left = len - at;
            // SAFETY: all four have `left` floats from `at` on.
            unsafe {
                let grad = math.mul(math.load_first(grads.add(at), left), scale);
                let mean = math.load_first(first.add(at), left);
                let mean = math.fma(grad, new1, math.mul(mean, beta1));
                let squares = math.load_first(second.add(at), left);
                let squares = math.fma(math.mul(grad, grad), new2, math.mul(squares, beta2));
                let below = math.fma(math.sqrt(squares), root, eps);
                let value = math.mul(math.load_first(values.add(at), left), kept);
                let value = math.fma(
                    math.mul(mean, change),
                    math.div(math.splat(1.0), below),
                    value,
                );
                math.store_first(first.add(at), mean, left);
                math.store_first(second.add(at), squares, left);
                math.store_first(values.add(at), value, left);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::gemm::tests::noise;
    use super::*;

    #[test]
    fn every_level_steps_as_doubles_do() {
        let pool = Pool::new(2).unwrap();
        let (lr, decay, eps, clip) = (0.01, 0.1, 1e-8, 0.5);
        for len in [1, 7, 17, 33, 100, PART + 3] {
            for level in Level::available() {
                let mut values = noise(len, 1);
                let (mut first, mut second) = (vec![0.0; len], vec![0.0; len]);
                let mut expected: Vec<[f64; 3]> = values
                    .iter()
                    .map(|value| [f64::from(*value), 0.0, 0.0])
                    .collect();
                for step in 1..=5 {
                    let grads = noise(len, 10 + step as u32);
                    for ([value, first, second], grad) in expected.iter_mut().zip(&grads) {
                        let grad = f64::from(*grad) * clip;
                        *first = 0.9 * *first + 0.1 * grad;
                        *second = 0.95 * *second + 0.05 * grad * grad;
                        let mean = *first / (1.0 - 0.9f64.powi(step));
                        let square = *second / (1.0 - 0.95f64.powi(step));
                        *value -= lr * decay * *value + lr * mean / (square.sqrt() + eps);
                    }
                    let rates = AdamW {
                        lr: lr as f32,
                        beta1: 0.9,
                        beta2: 0.95,
                        eps: eps as f32,
                        weight_decay: decay as f32,
                        step: step as u64,
                        grad_scale: clip as f32,
                    };
                    adamw(
                        level,
                        &pool,
                        &rates,
                        &mut values,
                        &grads,
                        &mut first,
                        &mut second,
                    );
                }
                for (i, expected) in expected.iter().enumerate() {
                    for (found, expected) in [values[i], first[i], second[i]].iter().zip(expected) {
                        let error = (f64::from(*found) - expected).abs();
                        assert!(error <= 1e-6, "{level:?}: {found}, not {expected}");
                    }
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "steps count from 1")]
    fn a_step_before_the_first_panics() {
        let rates = AdamW {
            lr: 0.1,
            beta1: 0.9,
            beta2: 0.99,
            eps: 1e-8,
            weight_decay: 0.0,
            step: 0,
            grad_scale: 1.0,
        };
        let pool = Pool::new(1).unwrap();
        adamw(Level::best(), &pool, &rates, &mut [], &[], &mut [], &mut []);
    }
}
