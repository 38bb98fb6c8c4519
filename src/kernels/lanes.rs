//! Vectors of `f32` of one instruction set: what products and attention share.
#![allow(
    unsafe_code,
    reason = "vector loads and stores take pointers, whose bounds the callers vouch for"
)]

use half::{bf16, f16};

use super::quantize::ROUNDER;

/// Floats that are rounded to bytes with one scale.
pub(super) const GROUP: usize = 32;

/// Rows and columns of the squares that [`Lanes::transpose`] turns.
pub(super) const SQUARE: usize = 16;

/// The largest magnitude of a group that counts as 0: its inverse is no float.
const NOTHING: f32 = 1e-30;

/// Floats as `scale` times bytes, the largest magnitude of which is 127.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ByteGroup {
    /// Not finite when one of the floats is not.
    pub(super) scale: f32,
    /// Of each eight bytes the four even ones, then the four odd ones, each above the one before it.
    pub(super) words: [u32; GROUP / 4],
    /// The sum of each half.
    pub(super) sums: [i32; 2],
}

/// The scale of floats of which `most` has the bits of the largest magnitude, and its inverse.
#[inline(always)]
pub(super) fn byte_scale(most: u32) -> (f32, f32) {
    let most = f32::from_bits(most);
    if most <= NOTHING {
        return (0.0, 0.0);
    }
    (most / 127.0, 127.0 / most)
}

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
    /// The larger of each, and `b` where one is no number.
    fn max(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    fn bits(self, a: Self::Vector) -> Self::Words;
    fn floats(self, words: Self::Words) -> Self::Vector;
    /// The larger of each, which have a sign.
    fn max_words(self, a: Self::Words, b: Self::Words) -> Self::Words;
    /// The sum of each, which wraps around.
    fn add_words(self, a: Self::Words, b: Self::Words) -> Self::Words;
    /// Each word shifted right by `BITS`.
    fn shift<const BITS: u32>(self, words: Self::Words) -> Self::Words;
    /// Each word shifted left by `BITS`.
    fn shift_left<const BITS: u32>(self, words: Self::Words) -> Self::Words;
    fn splat_word(self, word: u32) -> Self::Words;
    /// The bits of both.
    fn and(self, a: Self::Words, b: Self::Words) -> Self::Words;
    /// The bits of either.
    fn or(self, a: Self::Words, b: Self::Words) -> Self::Words;
    /// The bits of one of both.
    fn xor(self, a: Self::Words, b: Self::Words) -> Self::Words;
    /// Each word of `sums` plus the products of its four bytes, those of `bytes` without a sign and those of `x` with
    /// one.
    fn dot(self, bytes: Self::Words, x: Self::Words, sums: Self::Words) -> Self::Words;
    /// Each word, which has a sign, as a float.
    fn whole(self, words: Self::Words) -> Self::Vector;
    /// Byte `BYTE` of each word, which has a sign, as a float.
    fn byte<const BYTE: u32>(self, words: Self::Words) -> Self::Vector;
    /// The lowest 4 bits of each word as a float.
    fn low4(self, words: Self::Words) -> Self::Vector;
    /// As a float, 6 bits of which `words` have the lower 4 lowest and `high` the upper 2.
    fn low6(self, words: Self::Words, high: Self::Words) -> Self::Vector;

    /// Rounds floats to bytes, half to even.
    #[inline(always)]
    fn to_bytes(self, x: &[f32; GROUP]) -> ByteGroup {
        // The bits of magnitudes are in the order of the magnitudes, with what is not finite above all others.
        let magnitudes = x.iter().map(|x| x.to_bits() & 0x7fff_ffff);
        let (scale, inverse) = byte_scale(magnitudes.max().unwrap_or(0));
        let bytes = x.map(|x| (x * inverse + ROUNDER).to_bits() as u8 as i8);
        let (halves, _) = bytes.as_chunks::<{ GROUP / 2 }>();
        let sum = |half: &[i8]| half.iter().map(|byte| i32::from(*byte)).sum();
        let mut words = [0; GROUP / 4];
        let (eights, _) = bytes.as_chunks::<8>();
        for (two, b) in words.as_chunks_mut::<2>().0.iter_mut().zip(eights) {
            let four = |b: [i8; 4]| u32::from_le_bytes(b.map(|b| b as u8));
            *two = [[b[0], b[2], b[4], b[6]], [b[1], b[3], b[5], b[7]]].map(four);
        }
        ByteGroup {
            scale,
            words,
            sums: [sum(&halves[0]), sum(&halves[1])],
        }
    }

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
    /// # Safety
    ///
    /// As [`Lanes::store`].
    unsafe fn store_words(self, to: *mut u32, words: Self::Words);
    /// Writes words of 32 bits `[SQUARE, SQUARE]`, `from_step` apart, as columns, `to_step` apart.
    ///
    /// # Safety
    ///
    /// The rows can be read and the columns written.
    #[inline(always)]
    unsafe fn transpose(self, from: *const f32, from_step: usize, to: *mut f32, to_step: usize) {
        for row in 0..SQUARE {
            for col in 0..SQUARE {
                // SAFETY: the caller's.
                unsafe { *to.add(col * to_step + row) = *from.add(row * from_step + col) };
            }
        }
    }
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
    fn max(self, a: [f32; N], mut b: [f32; N]) -> [f32; N] {
        for i in 0..N {
            b[i] = if a[i] > b[i] { a[i] } else { b[i] };
        }
        b
    }

    #[inline(always)]
    fn bits(self, a: [f32; N]) -> [u32; N] {
        a.map(f32::to_bits)
    }

    #[inline(always)]
    fn floats(self, words: [u32; N]) -> [f32; N] {
        words.map(f32::from_bits)
    }

    #[inline(always)]
    fn max_words(self, mut a: [u32; N], b: [u32; N]) -> [u32; N] {
        for i in 0..N {
            a[i] = a[i].cast_signed().max(b[i].cast_signed()).cast_unsigned();
        }
        a
    }

    #[inline(always)]
    fn add_words(self, mut a: [u32; N], b: [u32; N]) -> [u32; N] {
        for i in 0..N {
            a[i] = a[i].wrapping_add(b[i]);
        }
        a
    }

    #[inline(always)]
    fn shift<const BITS: u32>(self, words: [u32; N]) -> [u32; N] {
        words.map(|word| word >> BITS)
    }

    #[inline(always)]
    fn shift_left<const BITS: u32>(self, words: [u32; N]) -> [u32; N] {
        words.map(|word| word << BITS)
    }

    #[inline(always)]
    fn splat_word(self, word: u32) -> [u32; N] {
        [word; N]
    }

    #[inline(always)]
    fn and(self, mut a: [u32; N], b: [u32; N]) -> [u32; N] {
        for i in 0..N {
            a[i] &= b[i];
        }
        a
    }

    #[inline(always)]
    fn or(self, mut a: [u32; N], b: [u32; N]) -> [u32; N] {
        for i in 0..N {
            a[i] |= b[i];
        }
        a
    }

    #[inline(always)]
    fn xor(self, mut a: [u32; N], b: [u32; N]) -> [u32; N] {
        for i in 0..N {
            a[i] ^= b[i];
        }
        a
    }

    #[inline(always)]
    fn dot(self, bytes: [u32; N], x: [u32; N], mut sums: [u32; N]) -> [u32; N] {
        for i in 0..N {
            let mut sum = sums[i] as i32;
            for at in [0, 8, 16, 24] {
                sum += i32::from((bytes[i] >> at) as u8) * i32::from((x[i] >> at) as u8 as i8);
            }
            sums[i] = sum as u32;
        }
        sums
    }

    #[inline(always)]
    fn whole(self, words: [u32; N]) -> [f32; N] {
        words.map(|word| word as i32 as f32)
    }

    #[inline(always)]
    fn byte<const BYTE: u32>(self, words: [u32; N]) -> [f32; N] {
        words.map(|word| f32::from((word >> (8 * BYTE)) as u8 as i8))
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

    #[inline(always)]
    unsafe fn store_words(self, to: *mut u32, words: [u32; N]) {
        // SAFETY: the caller vouches for N elements.
        unsafe { to.cast::<[u32; N]>().write_unaligned(words) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_largest_is_127_and_half_goes_to_even() {
        let mut x = [0.0; GROUP];
        x[..6].copy_from_slice(&[-127.0, 0.5, 1.5, 60.0, -2.4, 127.0]);
        x[16..18].copy_from_slice(&[3.0, -5.0]);
        let group = Arrays::<4>.to_bytes(&x);
        assert_eq!((group.scale, group.sums), (1.0, [60, -2]));
        let word = |bytes: [i8; 4]| u32::from_le_bytes(bytes.map(|byte| byte as u8));
        assert_eq!(
            group.words[..2],
            [word([-127, 2, -2, 0]), word([0, 60, 127, 0])]
        );
        assert_eq!(group.words[4..6], [word([3, 0, 0, 0]), word([-5, 0, 0, 0])]);
    }

    #[test]
    fn nothing_is_zero_and_what_is_not_finite_stays_so() {
        let zero = ByteGroup {
            scale: 0.0,
            words: [0; GROUP / 4],
            sums: [0, 0],
        };
        assert_eq!(Arrays::<4>.to_bytes(&[0.0; GROUP]), zero);
        assert_eq!(Arrays::<4>.to_bytes(&[-1e-38; GROUP]), zero);
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = [1.0; GROUP];
            x[9] = bad;
            assert!(!Arrays::<4>.to_bytes(&x).scale.is_finite());
            #[cfg(target_arch = "x86_64")]
            if let Some(avx512) = crate::kernels::x86::Avx512::detect() {
                assert!(!avx512.to_bytes(&x).scale.is_finite());
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    proptest! {
        #[test]
        fn vectors_round_as_loops_do(
            x in prop::array::uniform32(-1e3f32..1e3), power in -30i32..30,
        ) {
            let x = x.map(|x| x * 2f32.powi(power));
            if let Some(avx512) = crate::kernels::x86::Avx512::detect() {
                prop_assert_eq!(avx512.to_bytes(&x), Arrays::<4>.to_bytes(&x));
            }
        }
    }
}
