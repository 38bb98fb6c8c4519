//! Vectors of `f32` of one instruction set: what products and attention share.
#![allow(
    unsafe_code,
    reason = "vector loads and stores take pointers, whose bounds the callers vouch for"
)]

use half::{bf16, f16};

/// Registers of an instruction set. A value proves that the CPU has it: only `detect` makes one, so the methods are
/// safe where they take no pointer.
///
/// The methods become instructions only when inlined into [`Lanes::run`].
pub(super) trait Lanes: Copy + Send + Sync {
    /// [`Lanes::LANES`] floats.
    type Vector: Copy;
    /// [`Lanes::LANES`] integers of 32 bits.
    type Words: Copy;

    /// Floats of a vector; a power of two, at most 16.
    const LANES: usize;
    /// The most sums that fit into registers beside the few vectors that a product is made of.
    const SUMS: usize;

    /// Runs `work` compiled for this instruction set.
    fn run<W: Work<Self>>(self, work: W) -> W::Output;

    fn splat(self, x: f32) -> Self::Vector;
    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    fn mul(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `a * b + c`.
    fn fma(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    /// Each word shifted right by `BITS`.
    fn shift<const BITS: u32>(self, words: Self::Words) -> Self::Words;
    /// The lowest 4 bits of each word as a float.
    fn low4(self, words: Self::Words) -> Self::Vector;
    /// As a float, 6 bits of which `words` have the lower 4 lowest and `high` the upper 2.
    fn low6(self, words: Self::Words, high: Self::Words) -> Self::Vector;

    /// Fetches the cache line of an address, which may be any.
    fn prefetch(self, at: *const u8);

    /// # Safety
    ///
    /// [`Lanes::LANES`] elements can be read, with any alignment.
    unsafe fn load(self, from: *const f32) -> Self::Vector;
    /// # Safety
    ///
    /// As [`Lanes::load`].
    unsafe fn load_f16(self, from: *const f16) -> Self::Vector;
    /// # Safety
    ///
    /// As [`Lanes::load`].
    unsafe fn load_bf16(self, from: *const bf16) -> Self::Vector;
    /// # Safety
    ///
    /// As [`Lanes::load`].
    unsafe fn load_i8(self, from: *const i8) -> Self::Vector;
    /// # Safety
    ///
    /// As [`Lanes::load`].
    unsafe fn load_u8(self, from: *const u8) -> Self::Vector;
    /// # Safety
    ///
    /// As [`Lanes::load`].
    unsafe fn load_words(self, from: *const u32) -> Self::Words;
    /// # Safety
    ///
    /// [`Lanes::LANES`] elements can be written, with any alignment.
    unsafe fn store(self, to: *mut f32, a: Self::Vector);
}

/// A loop over vectors. `run` must be `#[inline(always)]`.
pub(super) trait Work<L> {
    type Output;

    fn run(self, lanes: L) -> Self::Output;
}

/// Arrays of `N` floats, which the compiler vectorises where `N` allows.
#[derive(Clone, Copy)]
pub(super) struct Arrays<const N: usize>;

impl<const N: usize> Lanes for Arrays<N> {
    type Vector = [f32; N];
    type Words = [u32; N];

    const LANES: usize = N;
    const SUMS: usize = 4;

    fn run<W: Work<Self>>(self, work: W) -> W::Output {
        work.run(self)
    }

    #[inline(always)]
    fn splat(self, x: f32) -> [f32; N] {
        [x; N]
    }

    #[inline(always)]
    fn add(self, mut a: [f32; N], b: [f32; N]) -> [f32; N] {
        for i in 0..N {
            a[i] += b[i];
        }
        a
    }

    #[inline(always)]
    fn mul(self, mut a: [f32; N], b: [f32; N]) -> [f32; N] {
        for i in 0..N {
            a[i] *= b[i];
        }
        a
    }

    /// Rounds twice: a fused operation is a call of a library on targets without the instruction.
    #[inline(always)]
    fn fma(self, a: [f32; N], b: [f32; N], mut c: [f32; N]) -> [f32; N] {
        for i in 0..N {
            c[i] += a[i] * b[i];
        }
        c
    }

    #[inline(always)]
    fn shift<const BITS: u32>(self, words: [u32; N]) -> [u32; N] {
        words.map(|word| word >> BITS)
    }

    #[inline(always)]
    fn low4(self, words: [u32; N]) -> [f32; N] {
        words.map(|word| (word & 15) as i32 as f32)
    }

    #[inline(always)]
    fn low6(self, words: [u32; N], high: [u32; N]) -> [f32; N] {
        let mut out = [0.0; N];
        for i in 0..N {
            out[i] = ((words[i] & 15) | ((high[i] & 3) << 4)) as i32 as f32;
        }
        out
    }

    /// Left to the processor: there is no portable way.
    #[inline(always)]
    fn prefetch(self, _: *const u8) {}

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> [f32; N] {
        // SAFETY: the caller vouches for N elements.
        unsafe { from.cast::<[f32; N]>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn load_f16(self, from: *const f16) -> [f32; N] {
        // SAFETY: the caller vouches for N elements.
        unsafe { from.cast::<[f16; N]>().read_unaligned() }.map(f16::to_f32)
    }

    #[inline(always)]
    unsafe fn load_bf16(self, from: *const bf16) -> [f32; N] {
        // SAFETY: the caller vouches for N elements.
        let elements = unsafe { from.cast::<[bf16; N]>().read_unaligned() };
        elements.map(|x| f32::from_bits(u32::from(x.to_bits()) << 16))
    }

    #[inline(always)]
    unsafe fn load_i8(self, from: *const i8) -> [f32; N] {
        // SAFETY: the caller vouches for N elements.
        unsafe { from.cast::<[i8; N]>().read_unaligned() }.map(f32::from)
    }

    #[inline(always)]
    unsafe fn load_u8(self, from: *const u8) -> [f32; N] {
        // SAFETY: the caller vouches for N elements.
        unsafe { from.cast::<[u8; N]>().read_unaligned() }.map(f32::from)
    }

    #[inline(always)]
    unsafe fn load_words(self, from: *const u32) -> [u32; N] {
        // SAFETY: the caller vouches for N elements.
        unsafe { from.cast::<[u32; N]>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, a: [f32; N]) {
        // SAFETY: the caller vouches for N elements.
        unsafe { to.cast::<[f32; N]>().write_unaligned(a) }
    }
}
