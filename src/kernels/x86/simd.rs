//! What attention needs of vectors beyond [`Lanes`].

use crate::kernels::lanes::Lanes;

pub(super) use crate::kernels::lanes::Work;

/// Registers of an instruction set of x86-64. [`Lanes::LANES`] divides [`LANES`](crate::kernels::steps::LANES).
pub(in crate::kernels) trait Simd: Lanes {
    /// The most queries whose sums fit into registers together; at most 4.
    const GROUP: usize;
    /// The most vectors of sums that the values of a tile may hold in registers.
    const TILE: usize;

    /// To the nearest integer.
    fn round(self, a: Self::Vector) -> Self::Vector;
    /// `a * 2^n` for integers `n` of -126 to 0.
    fn times_power(self, a: Self::Vector, n: Self::Vector) -> Self::Vector;
    /// `a`, but 0 where `x < bound`.
    fn zero_below(self, a: Self::Vector, x: Self::Vector, bound: Self::Vector) -> Self::Vector;
    fn largest(self, a: Self::Vector) -> f32;
    fn sum(self, a: Self::Vector) -> f32;
    /// The sum of each.
    fn sum4(self, a: [Self::Vector; 4]) -> [f32; 4];
}
