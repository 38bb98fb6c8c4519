//! Vectors of AVX2 and of AVX-512.
#![allow(unsafe_code, reason = "intrinsics, on a CPU that was asked for them")]

use std::arch::x86_64::*;

use super::Math;
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
}
