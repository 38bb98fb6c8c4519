//! What training needs of vectors beyond [`Lanes`], and the choice between the levels.
#![allow(
    unsafe_code,
    reason = "vector loads and stores take pointers, whose bounds the callers vouch for"
)]

mod plain;
#[cfg(target_arch = "x86_64")]
mod x86;

use crate::kernels::lanes::{Arrays, Lanes};
use crate::kernels::level::Level;

pub(super) use crate::kernels::lanes::{SQUARE, Work};

/// Registers that training computes with. As for [`Lanes`], the methods become instructions only when inlined into
/// [`Lanes::run`]; so no closures: they are functions of their own, compiled for any CPU.
pub(super) trait Math: Lanes {
    /// The rows of a tile of sums of a product that fit into registers, a power of two up to [`SQUARE`], and the vectors
    /// of a row, which together are a part or a multiple of [`SQUARE`].
    const TILE: (usize, usize);

    fn sub(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    fn div(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    fn sqrt(self, a: Self::Vector) -> Self::Vector;
    /// `a` where `x` is negative, else `b`.
    fn where_negative(self, x: Self::Vector, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `e^x` for `x <= 0`, with a relative error of at most 1e-6; what is below `f32::MIN_POSITIVE` may be 0 or that.
    fn exp(self, x: Self::Vector) -> Self::Vector;
    fn largest(self, a: Self::Vector) -> f32;
    fn sum(self, a: Self::Vector) -> f32;

    /// The first `count` floats, or as many as a vector has, and zeros.
    ///
    /// # Safety
    ///
    /// As many floats can be read.
    #[inline(always)]
    unsafe fn load_first(self, from: *const f32, count: usize) -> Self::Vector {
        if count >= Self::LANES {
            // SAFETY: the caller vouches for a vector.
            return unsafe { self.load(from) };
        }
        let mut floats = [0.0; SQUARE];
        for (i, to) in floats[..count].iter_mut().enumerate() {
            // SAFETY: the caller vouches for `count` floats.
            *to = unsafe { *from.add(i) };
        }
        // SAFETY: a vector has at most as many floats.
        unsafe { self.load(floats.as_ptr()) }
    }

    /// Stores the first `count` floats, or as many as a vector has.
    ///
    /// # Safety
    ///
    /// As many floats can be written.
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, a: Self::Vector, count: usize) {
        if count >= Self::LANES {
            // SAFETY: the caller vouches for a vector.
            return unsafe { self.store(to, a) };
        }
        let mut floats = [0.0; SQUARE];
        // SAFETY: a vector has at most as many floats.
        unsafe { self.store(floats.as_mut_ptr(), a) };
        for (i, from) in floats[..count].iter().enumerate() {
            // SAFETY: the caller vouches for `count` floats.
            unsafe { *to.add(i) = *from };
        }
    }
}

/// Something that runs on any level.
pub(super) trait Job {
    type Output;

    fn run<M: Math>(self, math: M) -> Self::Output;
}

/// Runs `job` on `level`, or on the best level when the CPU lacks it.
pub(super) fn run<J: Job>(level: Level, job: J) -> J::Output {
    let level = if level.is_available() {
        level
    } else {
        Level::best()
    };
    #[cfg(target_arch = "x86_64")]
    match level {
        Level::Avx512 | Level::Bf16 | Level::Amx => {
            if let Some(avx512) = crate::kernels::x86::Avx512::detect() {
                return job.run(avx512);
            }
        }
        Level::Avx2 => {
            if let Some(avx2) = crate::kernels::x86::Avx2::detect() {
                return job.run(avx2);
            }
        }
        Level::Plain | Level::Neon => {}
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = level;
    job.run(Arrays::<8>)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Check;

    impl Job for Check {
        type Output = ();

        fn run<M: Math>(self, math: M) {
            math.run(self);
        }
    }

    impl<M: Math> Work<M> for Check {
        type Output = ();

        #[inline(always)]
        fn run(self, math: M) {
            let from: Vec<f32> = (0..SQUARE * 20).map(|i| i as f32 - 9.5).collect();
            let mut to = vec![0.0; SQUARE * 17];
            // SAFETY: 16 rows of 20, and 16 columns of 17.
            unsafe { math.transpose(from.as_ptr(), 20, to.as_mut_ptr(), 17) };
            for row in 0..SQUARE {
                for col in 0..SQUARE {
                    assert_eq!(to[col * 17 + row], from[row * 20 + col]);
                }
            }
            for count in 0..=M::LANES + 1 {
                let mut to = [-1.0; 3 * SQUARE];
                // SAFETY: more than a vector can be read and written.
                unsafe {
                    let a = math.load_first(from.as_ptr(), count);
                    math.store(to.as_mut_ptr().add(2 * SQUARE), a);
                    math.store_first(to.as_mut_ptr(), a, count);
                }
                let kept = count.min(M::LANES);
                assert_eq!(to[..kept], from[..kept]);
                assert_eq!(to[kept], -1.0);
                let rest = &to[2 * SQUARE + kept..2 * SQUARE + M::LANES];
                assert!(rest.iter().all(|x| *x == 0.0));
            }
            let mut to = [0.0; SQUARE];
            // SAFETY: a vector has at most 16 floats.
            unsafe {
                let x = math.load(from.as_ptr().add(8));
                let found = [
                    math.sub(x, math.splat(1.0)),
                    math.div(math.splat(1.0), x),
                    math.sqrt(math.mul(x, x)),
                    math.max(x, math.splat(0.0)),
                    math.where_negative(x, math.splat(3.0), math.splat(4.0)),
                ];
                let expected: [fn(f32) -> f32; 5] = [
                    |x| x - 1.0,
                    |x| 1.0 / x,
                    f32::abs,
                    |x| x.max(0.0),
                    |x| if x < 0.0 { 3.0 } else { 4.0 },
                ];
                for (found, expected) in found.into_iter().zip(expected) {
                    math.store(to.as_mut_ptr(), found);
                    for i in 0..M::LANES {
                        assert_eq!(to[i], expected(from[8 + i]));
                    }
                }
                let floats = &from[8..8 + M::LANES];
                assert_eq!(math.sum(x), floats.iter().sum::<f32>());
                assert_eq!(math.largest(x), floats[M::LANES - 1]);
                let x = math.mul(math.splat(-1.0), math.max(x, math.splat(0.0)));
                math.store(to.as_mut_ptr(), math.exp(x));
                for i in 0..M::LANES {
                    let expected = f64::from(-floats[i].max(0.0)).exp();
                    assert!((f64::from(to[i]) / expected - 1.0).abs() <= 1e-6);
                }
                math.store(to.as_mut_ptr(), math.exp(math.splat(f32::NEG_INFINITY)));
                assert!((0.0..=2.0 * f32::MIN_POSITIVE).contains(&to[0]));
            }
        }
    }

    #[test]
    fn every_level_computes_the_same() {
        Level::available()
            .into_iter()
            .for_each(|level| run(level, Check));
    }
}
