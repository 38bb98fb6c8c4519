//! Vectors of AVX-512 with BF16: what packs numbers as pairs of `bf16`, and the choice of what multiplies them.
#![allow(unsafe_code, reason = "intrinsics, on a CPU that was asked for them")]

use std::arch::x86_64::*;

use half::bf16;

use super::amx::{self, Tiles};
use super::{Avx512, Bfloat16, pairs};
use crate::kernels::lanes::Lanes;
use crate::kernels::level::Level;
use crate::kernels::line::Line;

/// Rows of a tile, and columns of a tile of sums.
pub(in crate::kernels) const TILE: usize = 16;

/// Columns of a tile of inputs: what one instruction sums over.
pub(in crate::kernels) const STEP: usize = 32;

/// Rows and columns of the sums that [`Blocks::product`] keeps in registers.
pub(in crate::kernels) const BLOCK: usize = 2 * TILE;

/// Proof that the CPU has AVX-512 with BF16, and perhaps tiles of it that this process may use.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Halves {
    bfloat16: Bfloat16,
    tiles: bool,
}

/// Something that is compiled for AVX-512 with BF16. `run` must be `#[inline(always)]`.
pub(in crate::kernels) trait HalvesWork {
    fn run(self, cpu: Halves);
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn run<W: HalvesWork>(cpu: Halves, work: W) {
    work.run(cpu);
}

impl Halves {
    /// What a level has, if the CPU has it.
    pub(in crate::kernels) fn detect(level: Level) -> Option<Self> {
        let tiles = match level {
            Level::Amx => true,
            Level::Bf16 => false,
            Level::Plain | Level::Neon | Level::Avx2 | Level::Avx512 => return None,
        };
        let bfloat16 = Bfloat16::detect()?;
        (!tiles || amx::allowed()).then_some(Halves { bfloat16, tiles })
    }

    pub(in crate::kernels) fn vectors(self) -> Avx512 {
        self.bfloat16.vectors()
    }

    pub(in crate::kernels) fn run(self, work: impl HalvesWork) {
        // SAFETY: the features were detected.
        unsafe { run(self, work) }
    }

    /// Of each lane, `low` rounded to `bf16` in the low half and `high` in the high one.
    #[inline(always)]
    pub(in crate::kernels) fn pairs(self, low: __m512, high: __m512) -> __m512i {
        // SAFETY: the feature was detected.
        unsafe { _mm512_castps_si512(self.bfloat16.pairs(low, high)) }
    }

    /// What rounding to `pairs` took from `low` and `high`, rounded likewise.
    #[inline(always)]
    pub(in crate::kernels) fn rests(self, pairs: __m512i, low: __m512, high: __m512) -> __m512i {
        // SAFETY: the features were detected.
        unsafe {
            let upper = _mm512_and_si512(pairs, _mm512_set1_epi32(-65536));
            let lower = _mm512_slli_epi32::<16>(pairs);
            self.pairs(
                _mm512_sub_ps(low, _mm512_castsi512_ps(lower)),
                _mm512_sub_ps(high, _mm512_castsi512_ps(upper)),
            )
        }
    }

    /// Floats rounded to `bf16`, in order.
    #[inline(always)]
    pub(in crate::kernels) fn halves(self, [first, second]: [__m512; 2]) -> __m512i {
        // SAFETY: the feature was detected.
        unsafe { _mm512_castps_si512(self.bfloat16.halves(first, second)) }
    }

    /// See [`Bfloat16::dot`].
    #[inline(always)]
    pub(in crate::kernels) fn dot(self, a: __m512, b: __m512, sums: __m512) -> __m512 {
        self.bfloat16.dot(a, b, sums)
    }

    /// What rounding to `halves` took, rounded likewise.
    #[inline(always)]
    pub(in crate::kernels) fn rest(self, halves: __m512i, [first, second]: [__m512; 2]) -> __m512i {
        // SAFETY: the features were detected.
        unsafe {
            let widen =
                |half| _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(half)));
            let low = widen(_mm512_castsi512_si256(halves));
            let high = widen(_mm512_extracti64x4_epi64::<1>(halves));
            self.halves([_mm512_sub_ps(first, low), _mm512_sub_ps(second, high)])
        }
    }

    /// The first `count` of up to 16 floats, and zeros.
    ///
    /// # Safety
    ///
    /// `count` floats can be read.
    #[inline(always)]
    pub(in crate::kernels) unsafe fn load_first(self, from: *const f32, count: usize) -> __m512 {
        let mask = if count >= 16 {
            u16::MAX
        } else {
            (1 << count) - 1
        };
        // SAFETY: the feature was detected; lanes outside of the mask are not read.
        unsafe { _mm512_maskz_loadu_ps(mask, from) }
    }

    /// # Safety
    ///
    /// Two times [`TILE`] of them can be read.
    #[inline(always)]
    pub(in crate::kernels) unsafe fn load_halves(self, from: *const bf16) -> __m512i {
        // SAFETY: the feature was detected, and the caller's.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    /// The first [`TILE`] of both, in turns.
    ///
    /// # Safety
    ///
    /// As many can be read of each.
    #[inline(always)]
    pub(in crate::kernels) unsafe fn interleave(
        self,
        first: *const bf16,
        second: *const bf16,
    ) -> __m512i {
        // SAFETY: the feature was detected, and the caller's.
        unsafe {
            let low = _mm512_cvtepu16_epi32(_mm256_loadu_si256(first.cast()));
            let high = _mm512_cvtepu16_epi32(_mm256_loadu_si256(second.cast()));
            _mm512_or_si512(low, _mm512_slli_epi32::<16>(high))
        }
    }

    /// Word `i` of result `j` is word `j` of row `i`.
    #[inline(always)]
    pub(in crate::kernels) fn transpose(self, rows: [__m512i; TILE]) -> [__m512i; TILE] {
        // SAFETY: the feature was detected.
        unsafe {
            // Within quarters of vectors: pairs, then fours.
            let mut pairs = rows;
            for i in (0..TILE).step_by(2) {
                pairs[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
                pairs[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
            }
            let mut fours = pairs;
            for i in (0..TILE).step_by(4) {
                fours[i] = _mm512_unpacklo_epi64(pairs[i], pairs[i + 2]);
                fours[i + 1] = _mm512_unpackhi_epi64(pairs[i], pairs[i + 2]);
                fours[i + 2] = _mm512_unpacklo_epi64(pairs[i + 1], pairs[i + 3]);
                fours[i + 3] = _mm512_unpackhi_epi64(pairs[i + 1], pairs[i + 3]);
            }
            // Then the quarters: of `fours[4 * r + c]`, quarter `q` holds column `4 * q + c` of rows `4 * r` and on.
            let mut columns = fours;
            for c in 0..4 {
                let [a, b, d, e] = [fours[c], fours[4 + c], fours[8 + c], fours[12 + c]];
                let (low, high) = (
                    _mm512_shuffle_i32x4::<0x88>(a, b),
                    _mm512_shuffle_i32x4::<0x88>(d, e),
                );
                columns[c] = _mm512_shuffle_i32x4::<0x88>(low, high);
                columns[8 + c] = _mm512_shuffle_i32x4::<0xdd>(low, high);
                let (low, high) = (
                    _mm512_shuffle_i32x4::<0xdd>(a, b),
                    _mm512_shuffle_i32x4::<0xdd>(d, e),
                );
                columns[4 + c] = _mm512_shuffle_i32x4::<0x88>(low, high);
                columns[12 + c] = _mm512_shuffle_i32x4::<0xdd>(low, high);
            }
            columns
        }
    }

    #[inline(always)]
    pub(in crate::kernels) fn store(self, to: &mut Line, words: __m512i) {
        // SAFETY: the feature was detected; a line is as long as the vector and aligned.
        unsafe { _mm512_store_si512(std::ptr::from_mut(to).cast(), words) }
    }

    /// Orders what was written past the caches before what this thread writes next.
    pub(in crate::kernels) fn fence(self) {
        // SAFETY: all that have AVX-512 have it.
        unsafe { _mm_sfence() };
    }

    /// Writes a line past the caches; others may read it after [`Halves::fence`].
    ///
    /// # Safety
    ///
    /// `to` can be written, and lies on a cache line.
    #[inline(always)]
    pub(in crate::kernels) unsafe fn stream(self, to: *mut Line, from: &Line) {
        // SAFETY: the feature was detected, and the caller's.
        unsafe { _mm512_stream_ps(to.cast(), self.load(from)) };
    }

    #[inline(always)]
    pub(in crate::kernels) fn load(self, from: &Line) -> __m512 {
        // SAFETY: a line has 16 floats.
        unsafe { self.vectors().load(from.0.as_ptr()) }
    }

    /// What multiplies blocks on this thread, for as long as the result lives.
    pub(in crate::kernels) fn blocks(self) -> Blocks {
        match self.tiles {
            true => Blocks::Tiles(Tiles::new()),
            false => Blocks::Pairs(self),
        }
    }
}

/// The operands of a product of [`BLOCK`] rows with [`BLOCK`] columns: of each two groups of [`TILE`] rows or columns,
/// and of those for every step a tile, or two where numbers are split in two halves: the larger, then the rest.
///
/// A tile of rows holds 32 `bf16` of each; one of columns 16 times a pair of `bf16` of each.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Operands {
    pub(in crate::kernels) rows: [*const Line; 2],
    pub(in crate::kernels) columns: [*const Line; 2],
    pub(in crate::kernels) steps: usize,
}

/// How blocks are multiplied.
pub(in crate::kernels) enum Blocks {
    /// By tiles.
    Tiles(Tiles),
    /// By vectors.
    Pairs(Halves),
}

impl Blocks {
    /// Sets the [`BLOCK`] by [`BLOCK`] floats at `out`, whose rows lie `stride` floats apart, to the products; or adds
    /// the products to them.
    ///
    /// # Safety
    ///
    /// At each of the pointers, `steps * TILE` lines can be read (twice as many when `SPLIT`); `out` can be written.
    pub(in crate::kernels) unsafe fn product<const SPLIT: bool>(
        &self,
        operands: Operands,
        out: *mut f32,
        stride: usize,
        add: bool,
    ) {
        match self {
            // SAFETY: the caller's.
            Blocks::Tiles(tiles) => unsafe { tiles.product::<SPLIT>(operands, out, stride, add) },
            Blocks::Pairs(cpu) => cpu.run(pairs::Product::<SPLIT> {
                operands,
                out,
                stride,
                add,
            }),
        }
    }
}
