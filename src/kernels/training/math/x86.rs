//! Vectors of AVX2 and of AVX-512.
#![allow(unsafe_code, reason = "intrinsics, on a CPU that was asked for them")]

use std::arch::x86_64::*;

use super::{Math, SQUARE};
use crate::kernels::x86::{Avx2, Avx512, Simd, exp};

impl Math for Avx512 {
    const TILE: (usize, usize) = (8, 3);

    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the feature was detected.
        unsafe { _mm512_sub_ps(a, b) }
    }

    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the feature was detected.
        unsafe { _mm512_div_ps(a, b) }
    }

    #[inline(always)]
    fn sqrt(self, a: __m512) -> __m512 {
        // SAFETY: the feature was detected.
        unsafe { _mm512_sqrt_ps(a) }
    }

    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        Simd::max(self, a, b)
    }

    #[inline(always)]
    fn where_negative(self, x: __m512, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the feature was detected.
        unsafe {
            let negative = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(x, _mm512_setzero_ps());
            _mm512_mask_blend_ps(negative, b, a)
        }
    }

    #[inline(always)]
    fn exp(self, x: __m512) -> __m512 {
        exp(self, x)
    }

    #[inline(always)]
    fn largest(self, a: __m512) -> f32 {
        Simd::largest(self, a)
    }

    #[inline(always)]
    fn sum(self, a: __m512) -> f32 {
        Simd::sum(self, a)
    }

    #[inline(always)]
    unsafe fn load_first(self, from: *const f32, count: usize) -> __m512 {
        // SAFETY: the feature was detected; the caller vouches for the floats that the mask takes.
        unsafe { _mm512_maskz_loadu_ps(first(count), from) }
    }

    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, a: __m512, count: usize) {
        // SAFETY: the feature was detected; the caller vouches for the floats that the mask takes.
        unsafe { _mm512_mask_storeu_ps(to, first(count), a) }
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

/// The lowest `count` bits.
#[inline(always)]
fn first(count: usize) -> __mmask16 {
    if count >= 16 {
        u16::MAX
    } else {
        (1 << count) - 1
    }
}

impl Math for Avx2 {
    const TILE: (usize, usize) = (4, 2);

    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: the feature was detected.
        unsafe { _mm256_sub_ps(a, b) }
    }

    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: the feature was detected.
        unsafe { _mm256_div_ps(a, b) }
    }

    #[inline(always)]
    fn sqrt(self, a: __m256) -> __m256 {
        // SAFETY: the feature was detected.
        unsafe { _mm256_sqrt_ps(a) }
    }

    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        Simd::max(self, a, b)
    }

    #[inline(always)]
    fn where_negative(self, x: __m256, a: __m256, b: __m256) -> __m256 {
        // SAFETY: the feature was detected.
        unsafe {
            let negative = _mm256_cmp_ps::<_CMP_LT_OQ>(x, _mm256_setzero_ps());
            _mm256_blendv_ps(b, a, negative)
        }
    }

    #[inline(always)]
    fn exp(self, x: __m256) -> __m256 {
        exp(self, x)
    }

    #[inline(always)]
    fn largest(self, a: __m256) -> f32 {
        Simd::largest(self, a)
    }

    #[inline(always)]
    fn sum(self, a: __m256) -> f32 {
        Simd::sum(self, a)
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
