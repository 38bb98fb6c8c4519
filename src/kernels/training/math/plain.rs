//! Arrays that the compiler vectorises.

use super::Math;
use crate::kernels::elementwise;
use crate::kernels::lanes::Arrays;

impl<const N: usize> Math for Arrays<N> {
    const TILE: (usize, usize) = (4, 1);

    #[inline(always)]
    fn sub(self, mut a: [f32; N], b: [f32; N]) -> [f32; N] {
        for i in 0..N {
            a[i] -= b[i];
        }
        a
    }

    #[inline(always)]
    fn div(self, mut a: [f32; N], b: [f32; N]) -> [f32; N] {
        for i in 0..N {
            a[i] /= b[i];
        }
        a
    }

    #[inline(always)]
    fn sqrt(self, a: [f32; N]) -> [f32; N] {
        a.map(f32::sqrt)
    }

    #[inline(always)]
    fn where_negative(self, x: [f32; N], mut a: [f32; N], b: [f32; N]) -> [f32; N] {
        for i in 0..N {
            a[i] = if x[i] < 0.0 { a[i] } else { b[i] };
        }
        a
    }

    #[inline(always)]
    fn exp(self, x: [f32; N]) -> [f32; N] {
        x.map(elementwise::exp)
    }

    #[inline(always)]
    fn largest(self, a: [f32; N]) -> f32 {
        a.into_iter().fold(f32::NEG_INFINITY, f32::max)
    }

    #[inline(always)]
    fn sum(self, a: [f32; N]) -> f32 {
        a.iter().sum()
    }
}
