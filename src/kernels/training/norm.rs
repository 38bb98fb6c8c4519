//! The root-mean-square norm, backward.
#![allow(
    unsafe_code,
    reason = "parts write rows of their own, vector by vector"
)]

use std::cell::RefCell;

use super::math::{self, Job, Math, Work};
use crate::kernels::aligned::Aligned;
use crate::kernels::level::Level;
use crate::kernels::line::Shared;
use crate::kernels::pool::Pool;

/// Rows of a part, whose gradients of the weight are summed by themselves.
const ROWS: usize = 32;

thread_local! {
    /// A gradient of the weight for each part of what this thread calls.
    static WEIGHTS: RefCell<Aligned> = RefCell::default();
}

/// Adds to `dx` and `dweight` what [`rms_norm`](crate::kernels::rms_norm) of `x`, `[n, width]`, with `weight`, `[width]`,
/// passes back of `dy`, `[n, width]`. The error is that of sums in `f32`.
///
/// # Panics
///
/// When `weight` is empty, `x` is not whole rows, or another length differs from its shape.
#[allow(
    clippy::too_many_arguments,
    reason = "what goes in and out of a norm, and where it runs"
)]
pub fn rms_norm_backward(
    level: Level,
    pool: &Pool,
    x: &[f32],
    weight: &[f32],
    eps: f32,
    dy: &[f32],
    dx: &mut [f32],
    dweight: Option<&mut [f32]>,
) {
    let width = weight.len();
    assert!(width > 0 && x.len().is_multiple_of(width), "x: whole rows");
    assert_eq!(dy.len(), x.len(), "dy: the shape of x");
    assert_eq!(dx.len(), x.len(), "dx: the shape of x");
    if let Some(dweight) = &dweight {
        assert_eq!(dweight.len(), width, "dweight: the shape of weight");
    }
    let norm = Norm {
        pool,
        x,
        weight,
        eps,
        dy,
        dx: Shared::new(dx),
        dweight,
    };
    math::run(level, norm);
}

struct Norm<'a> {
    pool: &'a Pool,
    x: &'a [f32],
    weight: &'a [f32],
    eps: f32,
    dy: &'a [f32],
    dx: Shared<'a, f32>,
    dweight: Option<&'a mut [f32]>,
}

impl Job for Norm<'_> {
    type Output = ();

    fn run<M: Math>(self, math: M) {
        let width = self.weight.len();
        let parts = self.x.len().div_ceil(ROWS * width);
        WEIGHTS.with_borrow_mut(|sums| {
            let wanted = usize::from(self.dweight.is_some());
            let sums = sums.take(parts * width * wanted);
            let shared = Shared::new(sums);
            self.pool.run(parts, |part| {
                let range = part * ROWS * width..((part + 1) * ROWS * width).min(self.x.len());
                let sums = part * width * wanted..(part + 1) * width * wanted;
                // SAFETY: every part has rows and sums of its own.
                let (dx, sums) = unsafe { (self.dx.part(range.clone()), shared.part(sums)) };
                sums.fill(0.0);
                math.run(Rows {
                    x: &self.x[range.clone()],
                    weight: self.weight,
                    eps: self.eps,
                    dy: &self.dy[range],
                    dx,
                    dweight: sums,
                });
            });
            if let Some(dweight) = self.dweight {
                for part in sums.chunks_exact(width) {
                    dweight.iter_mut().zip(part).for_each(|(to, x)| *to += x);
                }
            }
        });
    }
}

struct Rows<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    eps: f32,
    dy: &'a [f32],
    dx: &'a mut [f32],
    /// Empty when it is not wanted.
    dweight: &'a mut [f32],
}

impl<M: Math> Work<M> for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self, math: M) {
        let width = self.weight.len();
        assert!(self.dweight.is_empty() || self.dweight.len() == width);
        let weight = self.weight.as_ptr();
        let dweight = self.dweight.as_mut_ptr();
        let rows = self.x.chunks_exact(width).zip(self.dy.chunks_exact(width));
        for ((x, dy), dx) in rows.zip(self.dx.chunks_exact_mut(width)) {
            let (x, dy, dx) = (x.as_ptr(), dy.as_ptr(), dx.as_mut_ptr());
            let mut squares = math.splat(0.0);
            let mut dots = math.splat(0.0);
            for at in (0..width).step_by(M::LANES) {
                let left = width - at;
                // SAFETY: each row, as the weight, has `left` floats from `at` on.
                unsafe {
                    let x = math.load_first(x.add(at), left);
                    let dy = math.load_first(dy.add(at), left);
                    let weight = math.load_first(weight.add(at), left);
                    squares = math.fma(x, x, squares);
                    dots = math.fma(math.mul(dy, weight), x, dots);
                }
            }
            let mean = math.sum(squares) / width as f32;
            let scale = 1.0 / (mean + self.eps).sqrt();
            let back = math.sum(dots) / width as f32 * scale * scale * scale;
            let (scale, back) = (math.splat(scale), math.splat(-back));
            for at in (0..width).step_by(M::LANES) {
                let left = width - at;
                // SAFETY: as above.
                unsafe {
                    let x = math.load_first(x.add(at), left);
                    let scaled = math.mul(math.load_first(dy.add(at), left), scale);
                    let weight = math.load_first(weight.add(at), left);
                    let mut sum = math.load_first(dx.add(at), left);
                    sum = math.fma(x, back, math.fma(scaled, weight, sum));
                    math.store_first(dx.add(at), sum, left);
                    if !self.dweight.is_empty() {
                        let sum = math.load_first(dweight.add(at), left);
                        let sum = math.fma(scaled, x, sum);
                        math.store_first(dweight.add(at), sum, left);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::gemm::tests::noise;
    use super::*;

    #[test]
    fn every_level_goes_back_as_doubles_do() {
        let pool = Pool::new(2).unwrap();
        let eps = 1e-2;
        for (n, width) in [(1, 1), (3, 7), (70, 33), (33, 64), (5, 100)] {
            let (x, weight, dy) = (noise(n * width, 1), noise(width, 2), noise(n * width, 3));
            let (dx_before, dw_before) = (noise(n * width, 4), noise(width, 5));
            let mut dx: Vec<f64> = dx_before.iter().map(|x| f64::from(*x)).collect();
            let mut dw: Vec<f64> = dw_before.iter().map(|x| f64::from(*x)).collect();
            for row in 0..n {
                let at = |i: usize| row * width + i;
                let x = |i: usize| f64::from(x[at(i)]);
                let dy = |i: usize| f64::from(dy[at(i)]);
                let mean = (0..width).map(|i| x(i) * x(i)).sum::<f64>() / width as f64;
                let root = (mean + f64::from(eps)).sqrt();
                for i in 0..width {
                    dw[i] += dy(i) * x(i) / root;
                    for (j, weight) in weight.iter().enumerate() {
                        // d (x_j / root) / d x_i
                        let same = if i == j { 1.0 / root } else { 0.0 };
                        let slope = same - x(j) * x(i) / (width as f64 * root.powi(3));
                        dx[at(i)] += dy(j) * f64::from(*weight) * slope;
                    }
                }
            }
            for level in Level::available() {
                let (mut found_x, mut found_w) = (dx_before.clone(), dw_before.clone());
                let weights = Some(&mut found_w[..]);
                rms_norm_backward(level, &pool, &x, &weight, eps, &dy, &mut found_x, weights);
                let both = found_x.iter().zip(&dx).chain(found_w.iter().zip(&dw));
                for (found, expected) in both {
                    assert!((f64::from(*found) - expected).abs() < 2e-5, "{level:?}");
                }
                let mut frozen = dx_before.clone();
                rms_norm_backward(level, &pool, &x, &weight, eps, &dy, &mut frozen, None);
                assert_eq!(frozen, found_x);
                let mut alone = dw_before.clone();
                let one = Pool::new(1).unwrap();
                let mut again = dx_before.clone();
                let weights = Some(&mut alone[..]);
                rms_norm_backward(level, &one, &x, &weight, eps, &dy, &mut again, weights);
                assert_eq!((again, alone), (found_x, found_w));
            }
        }
    }
}
