//! Vectors of AVX2 with fused multiply-add.
#![allow(unsafe_code, reason = "intrinsics, on a CPU that was asked for them")]

use std::arch::x86_64::*;

use half::{bf16, f16};

use super::simd::{Simd, Work};
use crate::kernels::lanes::Lanes;

/// Proof that the CPU has AVX2, FMA and F16C.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Avx2(());

impl Avx2 {
    pub(in crate::kernels) fn detect() -> Option<Self> {
        let has = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        has.then_some(Avx2(()))
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn run<W: Work<Avx2>>(simd: Avx2, work: W) -> W::Output {
    work.run(simd)
}

impl Lanes for Avx2 {
    type Vector = __m256;
    type Words = __m256i;

    const LANES: usize = 8;
    const SUMS: usize = 8;

    #[inline(always)]
    fn run<W: Work<Self>>(self, work: W) -> W::Output {
        // SAFETY: the features were detected.
        unsafe { run(self, work) }
    }

    #[inline(always)]
    fn splat(self, x: f32) -> __m256 {
        // SAFETY: the feature was detected.
        unsafe { _mm256_set1_ps(x) }
    }

    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: the feature was detected.
        unsafe { _mm256_add_ps(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: the feature was detected.
        unsafe { _mm256_mul_ps(a, b) }
    }

    #[inline(always)]
    fn fma(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: the feature was detected.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: the feature was detected.
        unsafe { _mm256_max_ps(a, b) }
    }

    #[inline(always)]
    fn bits(self, a: __m256) -> __m256i {
        // SAFETY: the feature was detected.
        unsafe { _mm256_castps_si256(a) }
    }

    #[inline(always)]
    fn floats(self, words: __m256i) -> __m256 {
        // SAFETY: the feature was detected.
        unsafe { _mm256_castsi256_ps(words) }
    }

    #[inline(always)]
    fn max_words(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: the feature was detected.
        unsafe { _mm256_max_epi32(a, b) }
    }

    #[inline(always)]
    fn add_words(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: the feature was detected.
        unsafe { _mm256_add_epi32(a, b) }
    }

    #[inline(always)]
    fn shift<const BITS: u32>(self, words: __m256i) -> __m256i {
        // SAFETY: the feature was detected.
        unsafe { _mm256_srlv_epi32(words, _mm256_set1_epi32(BITS as i32)) }
    }

    #[inline(always)]
    fn shift_left<const BITS: u32>(self, words: __m256i) -> __m256i {
        // SAFETY: the feature was detected.
        unsafe { _mm256_sllv_epi32(words, _mm256_set1_epi32(BITS as i32)) }
    }

    #[inline(always)]
    fn splat_word(self, word: u32) -> __m256i {
        // SAFETY: the feature was detected.
        unsafe { _mm256_set1_epi32(word.cast_signed()) }
    }

    #[inline(always)]
    fn and(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: the feature was detected.
        unsafe { _mm256_and_si256(a, b) }
    }

    #[inline(always)]
    fn or(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: the feature was detected.
        unsafe { _mm256_or_si256(a, b) }
    }

    #[inline(always)]
    fn xor(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: the feature was detected.
        unsafe { _mm256_xor_si256(a, b) }
    }

    #[inline(always)]
    fn dot(self, bytes: __m256i, x: __m256i, sums: __m256i) -> __m256i {
        // SAFETY: the feature was detected.
        unsafe {
            // Products of bytes in pairs would overflow 16 bits; of bytes as 16 bits each they fit into 32.
            let even = _mm256_and_si256(bytes, _mm256_set1_epi16(0xff));
            let odd = _mm256_srli_epi16::<8>(bytes);
            let x_even = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(x));
            let x_odd = _mm256_srai_epi16::<8>(x);
            let products = _mm256_add_epi32(
                _mm256_madd_epi16(even, x_even),
                _mm256_madd_epi16(odd, x_odd),
            );
            _mm256_add_epi32(sums, products)
        }
    }

    #[inline(always)]
    fn whole(self, words: __m256i) -> __m256 {
        // SAFETY: the feature was detected.
        unsafe { _mm256_cvtepi32_ps(words) }
    }

    #[inline(always)]
    fn byte<const BYTE: u32>(self, words: __m256i) -> __m256 {
        // SAFETY: the feature was detected.
        unsafe {
            let left = _mm256_set1_epi32(24 - 8 * BYTE as i32);
            _mm256_cvtepi32_ps(_mm256_srai_epi32::<24>(_mm256_sllv_epi32(words, left)))
        }
    }

    #[inline(always)]
    fn low4(self, words: __m256i) -> __m256 {
        // SAFETY: the feature was detected.
        unsafe { _mm256_cvtepi32_ps(_mm256_and_si256(words, _mm256_set1_epi32(15))) }
    }

    #[inline(always)]
    fn low6(self, words: __m256i, high: __m256i) -> __m256 {
        // SAFETY: the feature was detected.
        unsafe {
            let low = _mm256_and_si256(words, _mm256_set1_epi32(15));
            let high = _mm256_and_si256(high, _mm256_set1_epi32(3));
            _mm256_cvtepi32_ps(_mm256_or_si256(low, _mm256_slli_epi32::<4>(high)))
        }
    }

    #[inline(always)]
    fn prefetch(self, at: *const u8) {
        // SAFETY: a hint, which reads nothing into the program, and no address makes it fault. Every x86-64 has it.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> __m256 {
        // SAFETY: the feature was detected; the caller vouches for 8 elements.
        unsafe { _mm256_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn load_f16(self, from: *const f16) -> __m256 {
        // SAFETY: the feature was detected; the caller vouches for 8 elements, 16 bytes.
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(from.cast())) }
    }

    #[inline(always)]
    unsafe fn load_bf16(self, from: *const bf16) -> __m256 {
        // SAFETY: the feature was detected; the caller vouches for 8 elements, 16 bytes.
        unsafe {
            let bits = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(bits))
        }
    }

    #[inline(always)]
    unsafe fn load_i8(self, from: *const i8) -> __m256 {
        // SAFETY: the feature was detected; the caller vouches for 8 elements, 8 bytes.
        unsafe { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from.cast()))) }
    }

    #[inline(always)]
    unsafe fn load_u8(self, from: *const u8) -> __m256 {
        // SAFETY: the feature was detected; the caller vouches for 8 elements, 8 bytes.
        unsafe { _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(from.cast()))) }
    }

    #[inline(always)]
    unsafe fn load_words(self, from: *const u32) -> __m256i {
        // SAFETY: the feature was detected; the caller vouches for 8 elements.
        unsafe { _mm256_loadu_si256(from.cast()) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, a: __m256) {
        // SAFETY: the feature was detected; the caller vouches for 8 elements.
        unsafe { _mm256_storeu_ps(to, a) }
    }

    #[inline(always)]
    unsafe fn store_words(self, to: *mut u32, words: __m256i) {
        // SAFETY: the feature was detected; the caller vouches for 8 elements.
        unsafe { _mm256_storeu_si256(to.cast(), words) }
    }

    #[inline(always)]
    #[allow(
        clippy::needless_range_loop,
        reason = "iterators over arrays keep vectors out of registers"
    )]
    unsafe fn transpose(self, from: *const f32, from_step: usize, to: *mut f32, to_step: usize) {
        for corner in 0..4 {
            let (row, col) = (corner / 2 * 8, corner % 2 * 8);
            // SAFETY: the feature was detected; a quarter of what the caller vouches for.
            unsafe {
                let from = from.add(row * from_step + col);
                let to = to.add(col * to_step + row);
                let mut rows = [_mm256_setzero_ps(); 8];
                for i in 0..8 {
                    rows[i] = _mm256_loadu_ps(from.add(i * from_step));
                }
                let mut fours = [_mm256_setzero_ps(); 8];
                for i in 0..2 {
                    let [a, b, c, d] = [
                        rows[4 * i],
                        rows[4 * i + 1],
                        rows[4 * i + 2],
                        rows[4 * i + 3],
                    ];
                    let (ab_low, ab_high) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
                    let (cd_low, cd_high) = (_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
                    fours[4 * i] = _mm256_shuffle_ps::<0b01_00_01_00>(ab_low, cd_low);
                    fours[4 * i + 1] = _mm256_shuffle_ps::<0b11_10_11_10>(ab_low, cd_low);
                    fours[4 * i + 2] = _mm256_shuffle_ps::<0b01_00_01_00>(ab_high, cd_high);
                    fours[4 * i + 3] = _mm256_shuffle_ps::<0b11_10_11_10>(ab_high, cd_high);
                }
                for i in 0..4 {
                    let (a, b) = (fours[i], fours[4 + i]);
                    _mm256_storeu_ps(to.add(i * to_step), _mm256_permute2f128_ps::<0x20>(a, b));
                    let high = _mm256_permute2f128_ps::<0x31>(a, b);
                    _mm256_storeu_ps(to.add((4 + i) * to_step), high);
                }
            }
        }
    }
}

impl Simd for Avx2 {
    const GROUP: usize = 3;
    const TILE: usize = 12;

    #[inline(always)]
    fn round(self, a: __m256) -> __m256 {
        // SAFETY: the feature was detected.
        unsafe { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
    }

    #[inline(always)]
    fn times_power(self, a: __m256, n: __m256) -> __m256 {
        // SAFETY: the feature was detected.
        unsafe {
            let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
            _mm256_mul_ps(a, _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent)))
        }
    }

    #[inline(always)]
    fn zero_below(self, a: __m256, x: __m256, bound: __m256) -> __m256 {
        // SAFETY: the feature was detected.
        unsafe { _mm256_and_ps(_mm256_cmp_ps::<_CMP_NLT_UQ>(x, bound), a) }
    }

    #[inline(always)]
    fn largest(self, a: __m256) -> f32 {
        let mut lanes = [0.0; 8];
        // SAFETY: the feature was detected, and `lanes` holds 8 elements.
        unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), a) };
        lanes.into_iter().fold(f32::NEG_INFINITY, f32::max)
    }

    #[inline(always)]
    fn sum(self, a: __m256) -> f32 {
        let mut lanes = [0.0; 8];
        // SAFETY: the feature was detected, and `lanes` holds 8 elements.
        unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), a) };
        lanes.iter().sum()
    }

    #[inline(always)]
    fn sum4(self, [a, b, c, d]: [__m256; 4]) -> [f32; 4] {
        // SAFETY: the features were detected, and four floats are written to an array of four.
        unsafe {
            // Of every four neighbours, [a0 + a2, b0 + b2, a1 + a3, b1 + b3], and likewise c and d.
            let ab = _mm256_add_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
            let cd = _mm256_add_ps(_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
            let halves = _mm256_add_ps(
                _mm256_shuffle_ps::<0b01_00_01_00>(ab, cd),
                _mm256_shuffle_ps::<0b11_10_11_10>(ab, cd),
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
