//! What is done to whole tensors.
#![allow(
    unsafe_code,
    reason = "parts write floats of their own, vector by vector"
)]

use super::math::{self, Job, Math, Work};
use crate::kernels::level::Level;
use crate::kernels::line::Shared;
use crate::kernels::pool::Pool;

/// Floats of a part.
const PART: usize = 1 << 15;

/// Squares that are summed in `f32` before the sum goes on in `f64`.
const BLOCK: usize = 1 << 12;

/// The sum of the squares of `x`: in single precision for some thousand of them, in double beyond.
pub fn sum_of_squares(level: Level, pool: &Pool, x: &[f32]) -> f64 {
    struct Squares<'a>(&'a Pool, &'a [f32]);

    impl Job for Squares<'_> {
        type Output = f64;

        fn run<M: Math>(self, math: M) -> f64 {
            let Squares(pool, x) = self;
            let mut sums = vec![0.0; x.len().div_ceil(PART)];
            let shared = Shared::new(&mut sums);
            pool.run(shared.len(), |part| {
                let range = part * PART..((part + 1) * PART).min(x.len());
                let sum = math.run(SumOfSquares(&x[range]));
                // SAFETY: every part has a sum of its own.
                unsafe { shared.part(part..part + 1)[0] = sum };
            });
            sums.iter().sum()
        }
    }

    math::run(level, Squares(pool, x))
}

/// Multiplies all of `x`.
pub fn scale(level: Level, pool: &Pool, x: &mut [f32], by: f32) {
    in_parts(level, pool, x, Scale(by));
}

/// Adds `x` to `into`.
///
/// # Panics
///
/// When they are not of one length.
pub fn add(level: Level, pool: &Pool, x: &[f32], into: &mut [f32]) {
    assert_eq!(x.len(), into.len(), "into: the shape of x");
    in_parts(level, pool, into, Add(x));
}

/// Changes floats, of which the first is number `first` of all, vector by vector.
trait Change: Copy + Sync {
    fn run<M: Math>(self, math: M, first: usize, floats: &mut [f32]);
}

fn in_parts(level: Level, pool: &Pool, floats: &mut [f32], change: impl Change) {
    let floats = Shared::new(floats);
    math::run(
        level,
        InParts {
            pool,
            floats,
            change,
        },
    );
}

struct InParts<'a, C> {
    pool: &'a Pool,
    floats: Shared<'a, f32>,
    change: C,
}

impl<C: Change> Job for InParts<'_, C> {
    type Output = ();

    fn run<M: Math>(self, math: M) {
        let len = self.floats.len();
        self.pool.run(len.div_ceil(PART), |part| {
            let first = part * PART;
            math.run(Part {
                first,
                // SAFETY: every part has floats of its own.
                floats: unsafe { self.floats.part(first..(first + PART).min(len)) },
                change: self.change,
            });
        });
    }
}

struct Part<'a, C> {
    first: usize,
    floats: &'a mut [f32],
    change: C,
}

impl<M: Math, C: Change> Work<M> for Part<'_, C> {
    type Output = ();

    #[inline(always)]
    fn run(self, math: M) {
        self.change.run(math, self.first, self.floats);
    }
}

#[derive(Clone, Copy)]
struct Scale(f32);

impl Change for Scale {
    #[inline(always)]
    fn run<M: Math>(self, math: M, _: usize, floats: &mut [f32]) {
        let by = math.splat(self.0);
        let (start, len) = (floats.as_mut_ptr(), floats.len());
        for at in (0..len).step_by(M::LANES) {
            // SAFETY: there are `len - at` floats from there on.
            unsafe {
                let x = math.load_first(start.add(at), len - at);
                math.store_first(start.add(at), math.mul(x, by), len - at);
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Add<'a>(&'a [f32]);

impl Change for Add<'_> {
    #[inline(always)]
    fn run<M: Math>(self, math: M, first: usize, floats: &mut [f32]) {
        let (start, len) = (floats.as_mut_ptr(), floats.len());
        let from = self.0[first..first + len].as_ptr();
        for at in (0..len).step_by(M::LANES) {
            // SAFETY: there are `len - at` floats from there on, of both.
            unsafe {
                let x = math.load_first(from.add(at), len - at);
                let sum = math.add(math.load_first(start.add(at), len - at), x);
                math.store_first(start.add(at), sum, len - at);
            }
        }
    }
}

struct SumOfSquares<'a>(&'a [f32]);

impl<M: Math> Work<M> for SumOfSquares<'_> {
    type Output = f64;

    #[inline(always)]
    fn run(self, math: M) -> f64 {
        let mut total = 0.0;
        for block in self.0.chunks(BLOCK) {
            let mut sums = [math.splat(0.0); 2];
            for at in (0..block.len()).step_by(2 * M::LANES) {
                for (i, sum) in sums.iter_mut().enumerate() {
                    let at = at + i * M::LANES;
                    let left = block.len().saturating_sub(at);
                    // SAFETY: there are `left` floats from there on; of none nothing is read.
                    let x = unsafe { math.load_first(block.as_ptr().wrapping_add(at), left) };
                    *sum = math.fma(x, x, *sum);
                }
            }
            total += f64::from(math.sum(math.add(sums[0], sums[1])));
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use super::super::gemm::tests::noise;
    use super::*;

    #[test]
    fn every_level_changes_every_float_once() {
        let pool = Pool::new(2).unwrap();
        for len in [0, 1, 7, 17, 33, 100, 2 * PART + 5] {
            let (x, y) = (noise(len, 1), noise(len, 2));
            let squares: f64 = x.iter().map(|x| f64::from(*x).powi(2)).sum();
            for level in Level::available() {
                let mut found = x.clone();
                scale(level, &pool, &mut found, 0.3);
                assert!(x.iter().zip(&found).all(|(x, found)| x * 0.3 == *found));
                let mut found = y.clone();
                add(level, &pool, &x, &mut found);
                let mut both = x.iter().zip(&y).zip(&found);
                assert!(both.all(|((x, y), found)| x + y == *found));
                let found = sum_of_squares(level, &pool, &x);
                assert!((found - squares).abs() <= 1e-6 * squares, "{level:?}");
                let one = Pool::new(1).unwrap();
                assert_eq!(sum_of_squares(level, &one, &x), found);
            }
        }
    }

    #[test]
    #[should_panic(expected = "the shape of x")]
    fn lengths_that_differ_panic() {
        add(Level::best(), &Pool::new(1).unwrap(), &[1.0], &mut []);
    }
}
