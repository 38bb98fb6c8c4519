//! Vectors of AVX-512.
#![allow(unsafe_code, reason = "intrinsics, on a CPU that was asked for them")]

use std::arch::x86_64::*;

use half::{bf16, f16};

use super::simd::{Simd, Work};
use crate::kernels::lanes::{ByteGroup, GROUP, Lanes, SQUARE, byte_scale};

/// Proof that the CPU has AVX-512 F, BW, VL and VNNI.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Avx512(());

impl Avx512 {
    pub(in crate::kernels) fn detect() -> Option<Self> {
        let has = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vnni");
        has.then_some(Avx512(()))
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn run<W: Work<Avx512>>(simd: Avx512, work: W) -> W::Output {
    work.run(simd)
}

impl Lanes for Avx512 {
    type Vector = __m512;
    type Words = __m512i;

    const LANES: usize = 16;
    const SUMS: usize = 16;

    #[inline(always)]
    fn run<W: Work<Self>>(self, work: W) -> W::Output {
        // SAFETY: the features were detected.
        unsafe { run(self, work) }
    }

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        // SAFETY: the feature was detected.
        unsafe { _mm512_set1_ps(x) }
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the feature was detected.
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the feature was detected.
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: the feature was detected.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the feature was detected.
        unsafe { _mm512_max_ps(a, b) }
    }

    #[inline(always)]
    fn bits(self, a: __m512) -> __m512i {
        // SAFETY: the feature was detected.
        unsafe { _mm512_castps_si512(a) }
    }

    #[inline(always)]
    fn floats(self, words: __m512i) -> __m512 {
        // SAFETY: the feature was detected.
        unsafe { _mm512_castsi512_ps(words) }
    }

    #[inline(always)]
    fn max_words(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: the feature was detected.
        unsafe { _mm512_max_epi32(a, b) }
    }

    #[inline(always)]
    fn add_words(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: the feature was detected.
        unsafe { _mm512_add_epi32(a, b) }
    }

    #[inline(always)]
    fn shift<const BITS: u32>(self, words: __m512i) -> __m512i {
        // SAFETY: the feature was detected.
        unsafe { _mm512_srlv_epi32(words, _mm512_set1_epi32(BITS as i32)) }
    }

    #[inline(always)]
    fn shift_left<const BITS: u32>(self, words: __m512i) -> __m512i {
        // SAFETY: the feature was detected.
        unsafe { _mm512_slli_epi32::<BITS>(words) }
    }

    #[inline(always)]
    fn splat_word(self, word: u32) -> __m512i {
        // SAFETY: the feature was detected.
        unsafe { _mm512_set1_epi32(word.cast_signed()) }
    }

    #[inline(always)]
    fn and(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: the feature was detected.
        unsafe { _mm512_and_si512(a, b) }
    }

    #[inline(always)]
    fn or(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: the feature was detected.
        unsafe { _mm512_or_si512(a, b) }
    }

    #[inline(always)]
    fn xor(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: the feature was detected.
        unsafe { _mm512_xor_si512(a, b) }
    }

    #[inline(always)]
    fn dot(self, bytes: __m512i, x: __m512i, sums: __m512i) -> __m512i {
        // SAFETY: the feature was detected.
        unsafe { _mm512_dpbusd_epi32(sums, bytes, x) }
    }

    #[inline(always)]
    fn whole(self, words: __m512i) -> __m512 {
        // SAFETY: the feature was detected.
        unsafe { _mm512_cvtepi32_ps(words) }
    }

    #[inline(always)]
    fn byte<const BYTE: u32>(self, words: __m512i) -> __m512 {
        // SAFETY: the feature was detected.
        unsafe {
            let left = _mm512_set1_epi32(24 - 8 * BYTE as i32);
            _mm512_cvtepi32_ps(_mm512_srai_epi32::<24>(_mm512_sllv_epi32(words, left)))
        }
    }

    #[inline(always)]
    fn low4(self, words: __m512i) -> __m512 {
        // SAFETY: the feature was detected.
        unsafe {
            // An index is the lowest 4 bits of its lane, so a look-up masks and converts at once.
            let floats = _mm512_setr_ps(
                0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0,
                15.0,
            );
            _mm512_permutexvar_ps(words, floats)
        }
    }

    #[inline(always)]
    fn low6(self, words: __m512i, high: __m512i) -> __m512 {
        // SAFETY: the feature was detected.
        unsafe {
            // Whatever the two bits above the lowest are, they find the same float.
            let floats = _mm512_setr_ps(
                0.0, 16.0, 32.0, 48.0, 0.0, 16.0, 32.0, 48.0, 0.0, 16.0, 32.0, 48.0, 0.0, 16.0,
                32.0, 48.0,
            );
            _mm512_add_ps(self.low4(words), _mm512_permutexvar_ps(high, floats))
        }
    }

    #[inline(always)]
    fn to_bytes(self, x: &[f32; GROUP]) -> ByteGroup {
        // SAFETY: the features were detected; the floats and the words of a group are two vectors each.
        unsafe {
            // No closures: they are functions of their own, compiled for any CPU.
            let (low, high) = (
                _mm512_loadu_ps(x.as_ptr()),
                _mm512_loadu_ps(x.as_ptr().add(16)),
            );
            let magnitude = _mm512_set1_epi32(i32::MAX);
            let most = _mm512_max_epu32(
                _mm512_and_si512(_mm512_castps_si512(low), magnitude),
                _mm512_and_si512(_mm512_castps_si512(high), magnitude),
            );
            let (scale, inverse) = byte_scale(_mm512_reduce_max_epu32(most));
            let inverse = _mm512_set1_ps(inverse);
            let low = _mm512_cvtps_epi32(_mm512_mul_ps(low, inverse));
            let high = _mm512_cvtps_epi32(_mm512_mul_ps(high, inverse));
            let order = _mm_setr_epi8(0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15);
            let mut words = [0; GROUP / 4];
            let to: *mut u32 = words.as_mut_ptr();
            let bytes = _mm_shuffle_epi8(_mm512_cvtepi32_epi8(low), order);
            _mm_storeu_si128(to.cast(), bytes);
            let bytes = _mm_shuffle_epi8(_mm512_cvtepi32_epi8(high), order);
            _mm_storeu_si128(to.add(4).cast(), bytes);
            let sums = [_mm512_reduce_add_epi32(low), _mm512_reduce_add_epi32(high)];
            ByteGroup { scale, words, sums }
        }
    }

    #[inline(always)]
    fn prefetch(self, at: *const u8) {
        // SAFETY: a hint, which reads nothing into the program, and no address makes it fault. Every x86-64 has it.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> __m512 {
        // SAFETY: the feature was detected; the caller vouches for 16 elements.
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn load_f16(self, from: *const f16) -> __m512 {
        // SAFETY: the feature was detected; the caller vouches for 16 elements, 32 bytes.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
    }

    #[inline(always)]
    unsafe fn load_bf16(self, from: *const bf16) -> __m512 {
        // SAFETY: the feature was detected; the caller vouches for 16 elements, 32 bytes.
        unsafe {
            let bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits))
        }
    }

    #[inline(always)]
    unsafe fn load_i8(self, from: *const i8) -> __m512 {
        // SAFETY: the feature was detected; the caller vouches for 16 elements, 16 bytes.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.cast()))) }
    }

    #[inline(always)]
    unsafe fn load_u8(self, from: *const u8) -> __m512 {
        // SAFETY: the feature was detected; the caller vouches for 16 elements, 16 bytes.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(from.cast()))) }
    }

    #[inline(always)]
    unsafe fn load_words(self, from: *const u32) -> __m512i {
        // SAFETY: the feature was detected; the caller vouches for 16 elements.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, a: __m512) {
        // SAFETY: the feature was detected; the caller vouches for 16 elements.
        unsafe { _mm512_storeu_ps(to, a) }
    }

    #[inline(always)]
    unsafe fn store_words(self, to: *mut u32, words: __m512i) {
        // SAFETY: the feature was detected; the caller vouches for 16 elements.
        unsafe { _mm512_storeu_si512(to.cast(), words) }
    }

    #[inline(always)]
    #[allow(
        clippy::needless_range_loop,
        reason = "iterators over arrays keep vectors out of registers"
    )]
    unsafe fn transpose(self, from: *const f32, from_step: usize, to: *mut f32, to_step: usize) {
        // SAFETY: the feature was detected; the caller vouches for the rows and the columns.
        unsafe {
            // In each quarter of a vector: pairs of rows, then fours of them; at last the quarters go to their places.
            let mut rows = [_mm512_setzero_ps(); SQUARE];
            for i in 0..SQUARE {
                rows[i] = _mm512_loadu_ps(from.add(i * from_step));
            }
            let mut fours = [_mm512_setzero_pd(); SQUARE];
            for i in 0..4 {
                let [a, b, c, d] = [
                    rows[4 * i],
                    rows[4 * i + 1],
                    rows[4 * i + 2],
                    rows[4 * i + 3],
                ];
                let (ab_low, ab_high) = (_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
                let (cd_low, cd_high) = (_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
                let (ab_low, ab_high) = (_mm512_castps_pd(ab_low), _mm512_castps_pd(ab_high));
                let (cd_low, cd_high) = (_mm512_castps_pd(cd_low), _mm512_castps_pd(cd_high));
                fours[4 * i] = _mm512_unpacklo_pd(ab_low, cd_low);
                fours[4 * i + 1] = _mm512_unpackhi_pd(ab_low, cd_low);
                fours[4 * i + 2] = _mm512_unpacklo_pd(ab_high, cd_high);
                fours[4 * i + 3] = _mm512_unpackhi_pd(ab_high, cd_high);
            }
            for i in 0..4 {
                let [a, b, c, d] = [fours[i], fours[4 + i], fours[8 + i], fours[12 + i]];
                let ab_even = _mm512_shuffle_f64x2::<0b10_00_10_00>(a, b);
                let ab_odd = _mm512_shuffle_f64x2::<0b11_01_11_01>(a, b);
                let cd_even = _mm512_shuffle_f64x2::<0b10_00_10_00>(c, d);
                let cd_odd = _mm512_shuffle_f64x2::<0b11_01_11_01>(c, d);
                let columns = [
                    _mm512_shuffle_f64x2::<0b10_00_10_00>(ab_even, cd_even),
                    _mm512_shuffle_f64x2::<0b10_00_10_00>(ab_odd, cd_odd),
                    _mm512_shuffle_f64x2::<0b11_01_11_01>(ab_even, cd_even),
                    _mm512_shuffle_f64x2::<0b11_01_11_01>(ab_odd, cd_odd),
                ];
                for quarter in 0..4 {
                    let column = _mm512_castpd_ps(columns[quarter]);
                    _mm512_storeu_ps(to.add((4 * quarter + i) * to_step), column);
                }
            }
        }
    }
}

impl Simd for Avx512 {
    const GROUP: usize = 4;
    const TILE: usize = 24;

    #[inline(always)]
    fn round(self, a: __m512) -> __m512 {
        // SAFETY: the feature was detected.
        unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
    }

    #[inline(always)]
    fn times_power(self, a: __m512, n: __m512) -> __m512 {
        // SAFETY: the feature was detected.
        unsafe { _mm512_scalef_ps(a, n) }
    }

    #[inline(always)]
    fn zero_below(self, a: __m512, x: __m512, bound: __m512) -> __m512 {
        // SAFETY: the feature was detected.
        unsafe { _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_NLT_UQ>(x, bound), a) }
    }

    #[inline(always)]
    fn largest(self, a: __m512) -> f32 {
        // SAFETY: the feature was detected.
        unsafe { _mm512_reduce_max_ps(a) }
    }

    #[inline(always)]
    fn sum(self, a: __m512) -> f32 {
        // SAFETY: the feature was detected.
        unsafe { _mm512_reduce_add_ps(a) }
    }

    #[inline(always)]
    fn sum4(self, [a, b, c, d]: [__m512; 4]) -> [f32; 4] {
        // SAFETY: the features were detected, and four floats are written to an array of four.
        unsafe {
            // Of every four neighbours, [a0 + a2, b0 + b2, a1 + a3, b1 + b3], and likewise c and d.
            let ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
            let cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
            let quarters = _mm512_add_ps(
                _mm512_shuffle_ps::<0b01_00_01_00>(ab, cd),
                _mm512_shuffle_ps::<0b11_10_11_10>(ab, cd),
            );
            let upper = _mm512_castpd_ps(_mm512_castpd256_pd512(_mm512_extractf64x4_pd::<1>(
                _mm512_castps_pd(quarters),
            )));
            let halves = _mm256_add_ps(
                _mm512_castps512_ps256(quarters),
                _mm512_castps512_ps256(upper),
            );
            let sums = _mm_add_ps(
                _mm256_castps256_ps128(halves),
                _mm256_extractf128_ps::<1>(halves),
            );
            let mut out = [0.0; 4];
            _mm_storeu_ps(out.as_mut_ptr(), sums);
            out
        }
    }
}
