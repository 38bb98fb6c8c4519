//! Products of pairs of `bf16` in vectors (AVX512-BF16).
#![allow(unsafe_code, reason = "intrinsics, on a CPU that was asked for them")]

use std::arch::x86_64::*;

use super::Avx512;
use super::simd::Work;

/// Proof that the CPU has AVX-512 with BF16.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Bfloat16(Avx512);

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx512bf16")]
fn run<W: Work<Bfloat16>>(bfloat16: Bfloat16, work: W) -> W::Output {
    work.run(bfloat16)
}

impl Bfloat16 {
    pub(in crate::kernels) fn detect() -> Option<Self> {
        let avx512 = Avx512::detect()?;
        is_x86_feature_detected!("avx512bf16").then_some(Bfloat16(avx512))
    }

    pub(in crate::kernels) fn vectors(self) -> Avx512 {
        self.0
    }

    pub(in crate::kernels) fn run<W: Work<Self>>(self, work: W) -> W::Output {
        // SAFETY: the features were detected.
        unsafe { run(self, work) }
    }

    /// Of each lane, `low` rounded in the low half and `high` in the high one.
    #[inline(always)]
    pub(in crate::kernels) fn pairs(self, low: __m512, high: __m512) -> __m512 {
        // SAFETY: the features were detected, and a vector of 32 halves is as wide as one of 16 words.
        unsafe {
            let order = _mm512_set_epi16(
                31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5,
                20, 4, 19, 3, 18, 2, 17, 1, 16, 0,
            );
            let halves: __m512i = std::mem::transmute(_mm512_cvtne2ps_pbh(high, low));
            _mm512_castsi512_ps(_mm512_permutexvar_epi16(order, halves))
        }
    }

    /// 32 floats rounded, in order.
    #[inline(always)]
    pub(in crate::kernels) fn halves(self, first: __m512, second: __m512) -> __m512 {
        // SAFETY: the features were detected, and a vector of 32 halves is as wide as one of 16 words.
        unsafe { std::mem::transmute(_mm512_cvtne2ps_pbh(second, first)) }
    }

    /// Each lane of `sums` plus the products of the halves of `a` and `b` there.
    #[inline(always)]
    pub(in crate::kernels) fn dot(self, a: __m512, b: __m512, sums: __m512) -> __m512 {
        // SAFETY: the features were detected, and a vector of 32 halves is as wide as one of 16 words.
        unsafe {
            let a = std::mem::transmute::<__m512, __m512bh>(a);
            let b = std::mem::transmute::<__m512, __m512bh>(b);
            _mm512_dpbf16_ps(sums, a, b)
        }
    }
}
