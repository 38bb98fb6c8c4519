//! Stored elements, widened to `f32` as they are loaded.
#![allow(
    unsafe_code,
    reason = "vector loads take pointers, whose bounds the callers vouch for"
)]

use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

use half::bf16;

use super::simd::Simd;
use crate::kernels::plain::Widen;

/// What a row is made of.
pub(super) trait Element: Widen {
    /// # Safety
    ///
    /// [`Simd::LANES`] elements can be read, with any alignment.
    unsafe fn load<S: Simd>(simd: S, from: *const Self) -> S::Vector;
}

/// Rows between the one that is read and the one that is fetched into the nearest cache: enough work to cover the way
/// from the next cache, where the processor's own prefetching leaves it.
const AHEAD: usize = 16;

/// Fetches what lies [`AHEAD`] rows of `head_dim` after `at`, if anything does.
#[inline(always)]
pub(super) fn prefetch<E>(at: *const E, head_dim: usize) {
    let address = at.wrapping_add(AHEAD * head_dim);
    // SAFETY: a prefetch is a hint: it reads nothing into the program, and no address makes it fault. Every x86-64 has it.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
}

impl Element for f32 {
    #[inline(always)]
    unsafe fn load<S: Simd>(simd: S, from: *const f32) -> S::Vector {
        // SAFETY: the caller vouches for S::LANES elements.
        unsafe { simd.load(from) }
    }
}

impl Element for bf16 {
    #[inline(always)]
    unsafe fn load<S: Simd>(simd: S, from: *const bf16) -> S::Vector {
        // SAFETY: the caller vouches for S::LANES elements.
        unsafe { simd.load_bf16(from) }
    }
}

impl Element for i8 {
    #[inline(always)]
    unsafe fn load<S: Simd>(simd: S, from: *const i8) -> S::Vector {
        // SAFETY: the caller vouches for S::LANES elements.
        unsafe { simd.load_i8(from) }
    }
}
