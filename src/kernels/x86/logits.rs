//! Dot products of the queries of a group and the keys of a segment.
#![allow(
    unsafe_code,
    reason = "vector loads and stores, whose bounds are asserted before the loops"
)]

use std::array::from_fn;

use super::element::{Element, prefetch};
use super::simd::{Simd, Work};
use super::{BLOCK, parts};
use crate::kernels::plain;
use crate::kernels::steps::Packed;

/// Keys whose sums are kept in registers at a time.
const ROWS: usize = 4;

/// Sets `out[g * out_stride + j]` to the dot product of query `g` and key `j`, times the key's scale.
pub(super) fn logits<S: Simd, E: Element>(
    simd: S,
    queries: Packed<'_>,
    keys: &[E],
    scales: Option<&[f32]>,
    out: &mut [f32],
    out_stride: usize,
) {
    let group = queries.group();
    // One part alone needs no blocks: it reads every key once.
    let block = if group <= S::GROUP { usize::MAX } else { BLOCK };
    let mut start = 0;
    for keys in keys.chunks(block.saturating_mul(queries.head_dim)) {
        let len = keys.len() / queries.head_dim;
        for part in parts(group, S::GROUP) {
            let job = Dots {
                queries: Packed {
                    rows: &queries.rows[part.start * queries.stride..part.end * queries.stride],
                    ..queries
                },
                keys,
                scales: scales.map(|scales| &scales[start..start + len]),
                out: &mut out[part.start * out_stride + start..],
                out_stride,
            };
            match part.len() {
                1 => simd.run(Logits::<E, 1>(job)),
                2 => simd.run(Logits::<E, 2>(job)),
                3 => simd.run(Logits::<E, 3>(job)),
                _ => simd.run(Logits::<E, 4>(job)),
            }
        }
        start += len;
    }
}

struct Dots<'a, E> {
    queries: Packed<'a>,
    keys: &'a [E],
    scales: Option<&'a [f32]>,
    out: &'a mut [f32],
    out_stride: usize,
}

/// The dot products of `G` queries.
struct Logits<'a, E, const G: usize>(Dots<'a, E>);

impl<S: Simd, E: Element, const G: usize> Work<S> for Logits<'_, E, G> {
    type Output = ();

    #[inline(always)]
    fn run(self, simd: S) {
        let Dots {
            queries,
            keys,
            scales,
            out,
            out_stride,
        } = self.0;
        let head_dim = queries.head_dim;
        let whole = head_dim / S::LANES * S::LANES;
        let len = keys.len() / head_dim;
        assert!(queries.stride >= head_dim && queries.rows.len() == G * queries.stride);
        assert!((G - 1) * out_stride + len <= out.len());

        let query: [*const f32; G] = from_fn(|g| queries.rows[g * queries.stride..].as_ptr());
        let mut j = 0;
        while j + ROWS <= len {
            // SAFETY: `j + ROWS <= len` and `keys` has `len * head_dim` elements; every query has `stride` floats, and
            // `whole <= head_dim <= stride`. Each of the G rows of `out` has `len` floats after its start.
            unsafe {
                let key = from_fn(|r| keys.as_ptr().add((j + r) * head_dim));
                let dots = dots(simd, query, key, whole);
                for (g, dots) in dots.iter().enumerate() {
                    let to = out.as_mut_ptr().add(g * out_stride + j);
                    to.cast::<[f32; ROWS]>().write_unaligned(*dots);
                }
            }
            j += ROWS;
        }
        if j < len {
            // The last key stands in for those beyond it.
            // SAFETY: as above, with keys of at most `len - 1`.
            let dots = unsafe {
                let key = from_fn(|r| keys.as_ptr().add((j + r).min(len - 1) * head_dim));
                dots(simd, query, key, whole)
            };
            for (g, dots) in dots.into_iter().enumerate() {
                out[g * out_stride + j..g * out_stride + len].copy_from_slice(&dots[..len - j]);
            }
        }

        for (g, query) in queries.rows.chunks_exact(queries.stride).enumerate() {
            let out = &mut out[g * out_stride..][..len];
            if whole < head_dim {
                for (out, key) in out.iter_mut().zip(keys.chunks_exact(head_dim)) {
                    *out += plain::dot(&query[whole..head_dim], &key[whole..]);
                }
            }
            if let Some(scales) = scales {
                out.iter_mut()
                    .zip(scales)
                    .for_each(|(out, scale)| *out *= scale);
            }
        }
    }
}

/// The dot products of `G` queries and a few keys, over their first `whole` elements.
///
/// # Safety
///
/// `whole` is a multiple of LANES, and every query and key has that many elements.
#[inline(always)]
#[allow(
    clippy::needless_range_loop,
    reason = "iterators over arrays keep the sums out of registers"
)]
unsafe fn dots<S: Simd, E: Element, const G: usize>(
    simd: S,
    queries: [*const f32; G],
    keys: [*const E; ROWS],
    whole: usize,
) -> [[f32; ROWS]; G] {
    let mut sums = [[simd.splat(0.0); ROWS]; G];
    let mut d = 0;
    while d < whole {
        let mut query = [simd.splat(0.0); G];
        for g in 0..G {
            // SAFETY: `d + LANES <= whole`.
            query[g] = unsafe { simd.load(queries[g].add(d)) };
        }
        for r in 0..ROWS {
            // SAFETY: `d + LANES <= whole`.
            let key = unsafe {
                let from = keys[r].add(d);
                prefetch(from, whole);
                E::load(simd, from)
            };
            for g in 0..G {
                sums[g][r] = simd.fma(query[g], key, sums[g][r]);
            }
        }
        d += S::LANES;
    }
    let mut dots = [[0.0; ROWS]; G];
    for g in 0..G {
        dots[g] = simd.sum4(sums[g]);
    }
    dots
}
