//! Products of one panel of weights with a few rows of inputs.
#![allow(
    unsafe_code,
    reason = "vector loads and stores, whose bounds are asserted before the loops"
)]

use std::marker::PhantomData;

use super::format::Format;
use super::packing::{At, LINE, Packing, ROWS, UNIT, with_packing};
use crate::kernels::lanes::{Arrays, Lanes, Work};

/// The numbers of inputs that have loops of their own.
const WIDTHS: [usize; 7] = [1, 2, 4, 8, 10, 12, 16];

/// Bytes between what is read and what is fetched from memory meanwhile.
const AHEAD: usize = 16384;

/// The most inputs that a tile takes.
pub(super) const WIDEST: usize = 16;

/// The narrowest tile for `n` inputs, at most [`WIDEST`]; what it has beyond them must be 0.
pub(super) fn width(n: usize) -> usize {
    let fits = WIDTHS.into_iter().find(|width| *width >= n);
    fits.unwrap_or(WIDEST)
}

/// Inputs of a tile.
#[derive(Clone, Copy)]
pub(super) struct Inputs<'a> {
    /// One of [`WIDTHS`].
    pub(super) width: usize,
    /// `[units * UNIT, width]`.
    pub(super) values: &'a [f32],
    /// Of a single input, the sum over each unit.
    pub(super) sums: &'a [f32],
}

/// Sets `out[i][r]` to the dot product of input `i` and row `r` of the panel.
pub(super) fn multiply<L: Lanes>(
    lanes: L,
    format: Format,
    panel: &[u8],
    inputs: Inputs<'_>,
    out: &mut [[f32; ROWS]; WIDEST],
) {
    with_packing!(format, P => multiply_as::<L, P>(lanes, panel, inputs, out));
}

fn multiply_as<L: Lanes, P: Packing>(
    lanes: L,
    panel: &[u8],
    inputs: Inputs<'_>,
    out: &mut [[f32; ROWS]; WIDEST],
) {
    match inputs.width {
        1 => lanes.run(Tile::<P, 1>(panel, inputs, out, PhantomData)),
        2 => lanes.run(Tile::<P, 2>(panel, inputs, out, PhantomData)),
        4 => lanes.run(Tile::<P, 4>(panel, inputs, out, PhantomData)),
        8 if L::SUMS >= 8 => lanes.run(Tile::<P, 8>(panel, inputs, out, PhantomData)),
        10 if L::SUMS >= 10 => lanes.run(Tile::<P, 10>(panel, inputs, out, PhantomData)),
        12 if L::SUMS >= 12 => lanes.run(Tile::<P, 12>(panel, inputs, out, PhantomData)),
        16 if L::SUMS >= 16 => lanes.run(Tile::<P, 16>(panel, inputs, out, PhantomData)),
        width => unreachable!("a tile of {width} inputs"),
    }
}

/// A panel of weights times `N` inputs.
struct Tile<'a, P, const N: usize>(
    &'a [u8],
    Inputs<'a>,
    &'a mut [[f32; ROWS]; WIDEST],
    PhantomData<P>,
);

impl<L: Lanes, P: Packing, const N: usize> Work<L> for Tile<'_, P, N> {
    type Output = ();

    #[inline(always)]
    fn run(self, lanes: L) {
        let Tile(panel, inputs, out, _) = self;
        let units = inputs.values.len() / (UNIT * N);
        let spans = check::<P>(panel, units);
        assert_eq!(inputs.values.len(), units * UNIT * N);
        assert!(N > 1 || inputs.sums.len() == units);
        assert!(N <= WIDEST && ROWS.is_multiple_of(L::LANES));

        let scales = panel[units * P::UNIT_BYTES * ROWS..].as_ptr();
        for lane in (0..ROWS).step_by(L::LANES) {
            let mut sums = [[lanes.splat(0.0); N]; 4];
            let mut unit = 0;
            for span in 0..spans {
                let scales = At {
                    base: scales.wrapping_add(span * P::SCALE_BYTES * ROWS),
                    lane,
                };
                if lane == 0 {
                    fetch(lanes, scales.base, P::SCALE_BYTES * ROWS);
                }
                for group in 0..P::SPAN / P::GROUP {
                    // SAFETY: by `check`, the panel has `units` units and the scales of `spans` spans, which are as
                    // many units, and `lane` is one of its rows. The inputs have N floats for each of UNIT columns.
                    unsafe {
                        let [d, m] = P::scales(lanes, scales, group);
                        let mut quants = [lanes.splat(0.0); 4];
                        for _ in 0..P::GROUP / UNIT {
                            let at = At {
                                base: panel.as_ptr().add(unit * P::UNIT_BYTES * ROWS),
                                lane,
                            };
                            let x = inputs.values.as_ptr().add(unit * UNIT * N);
                            if lane == 0 {
                                fetch(lanes, at.base, P::UNIT_BYTES * ROWS);
                            }
                            if N == 1 && P::SCALED {
                                // The scale once for the sum over a group, not for every element.
                                add_quants::<L, P, 0>(lanes, at, x, &mut quants);
                                add_quants::<L, P, 1>(lanes, at, x, &mut quants);
                                add_quants::<L, P, 2>(lanes, at, x, &mut quants);
                                add_quants::<L, P, 3>(lanes, at, x, &mut quants);
                                let sum = lanes.splat(*inputs.sums.as_ptr().add(unit));
                                sums[1][0] = lanes.fma(m, sum, sums[1][0]);
                            } else {
                                add_elements::<L, P, N, 0>(lanes, at, [d, m], x, &mut sums);
                                add_elements::<L, P, N, 1>(lanes, at, [d, m], x, &mut sums);
                                add_elements::<L, P, N, 2>(lanes, at, [d, m], x, &mut sums);
                                add_elements::<L, P, N, 3>(lanes, at, [d, m], x, &mut sums);
                            }
                            unit += 1;
                        }
                        if N == 1 && P::SCALED {
                            sums[0][0] = lanes.fma(d, sum_of(lanes, quants), sums[0][0]);
                        }
                    }
                }
            }
            for i in 0..N {
                let sum = sum_of(lanes, [sums[0][i], sums[1][i], sums[2][i], sums[3][i]]);
                // SAFETY: `i` is a row of `out`, which has LANES floats from `lane` on.
                unsafe { lanes.store(out[i].as_mut_ptr().add(lane), sum) };
            }
        }
    }
}

/// Fetches what lies [`AHEAD`] after the `len` bytes that are read now.
#[inline(always)]
pub(super) fn fetch<L: Lanes>(lanes: L, at: *const u8, len: usize) {
    for line in (0..len).step_by(LINE) {
        lanes.prefetch(at.wrapping_add(AHEAD + line));
    }
}

/// The spans of a panel of `units` units, after a check that the panel has them all.
#[inline(always)]
pub(super) fn check<P: Packing>(panel: &[u8], units: usize) -> usize {
    let spans = units * UNIT / P::SPAN;
    assert_eq!(spans * P::SPAN, units * UNIT);
    assert!((units * P::UNIT_BYTES + spans * P::SCALE_BYTES) * ROWS <= panel.len());
    spans
}

#[inline(always)]
fn sum_of<L: Lanes>(lanes: L, [a, b, c, d]: [L::Vector; 4]) -> L::Vector {
    lanes.add(lanes.add(a, b), lanes.add(c, d))
}

/// Adds the products of four columns and a single input.
///
/// # Safety
///
/// `at` is at a unit, and `x` has UNIT floats.
#[inline(always)]
#[allow(
    clippy::needless_range_loop,
    reason = "iterators over arrays keep the sums out of registers"
)]
unsafe fn add_quants<L: Lanes, P: Packing, const PART: usize>(
    lanes: L,
    at: At,
    x: *const f32,
    sums: &mut [L::Vector; 4],
) {
    // SAFETY: the caller's, and PART is below 4.
    unsafe {
        let quants = P::four::<L, PART>(lanes, at);
        for j in 0..4 {
            let x = lanes.splat(*x.add(4 * PART + j));
            sums[j] = lanes.fma(quants[j], x, sums[j]);
        }
    }
}

/// Adds the products of four columns and N inputs. Few inputs have several sums each, so that additions need not wait
/// for each other.
///
/// # Safety
///
/// `at` is at a unit, and `x` has UNIT times N floats.
#[inline(always)]
#[allow(
    clippy::needless_range_loop,
    reason = "iterators over arrays keep the sums out of registers"
)]
unsafe fn add_elements<L: Lanes, P: Packing, const N: usize, const PART: usize>(
    lanes: L,
    at: At,
    [d, m]: [L::Vector; 2],
    x: *const f32,
    sums: &mut [[L::Vector; N]; 4],
) {
    // SAFETY: the caller's, and PART is below 4.
    unsafe {
        let quants = P::four::<L, PART>(lanes, at);
        let several = match L::SUMS / N {
            0 | 1 => 1,
            2 | 3 => 2,
            _ => 4,
        };
        for j in 0..4 {
            let element = if P::SCALED {
                lanes.fma(quants[j], d, m)
            } else {
                quants[j]
            };
            for i in 0..N {
                let x = lanes.splat(*x.add((4 * PART + j) * N + i));
                sums[j % several][i] = lanes.fma(element, x, sums[j % several][i]);
            }
        }
    }
}

/// Writes the row in `lane` of a panel, whose length is that of `out`.
pub(super) fn decode(format: Format, panel: &[u8], lane: usize, out: &mut [f32]) {
    with_packing!(format, P => decode_as::<P>(panel, lane, out));
}

fn decode_as<P: Packing>(panel: &[u8], lane: usize, out: &mut [f32]) {
    let units = out.len().div_ceil(UNIT);
    check::<P>(panel, units);
    assert!(lane < ROWS);
    let scales = panel[units * P::UNIT_BYTES * ROWS..].as_ptr();
    for (unit, out) in out.chunks_mut(UNIT).enumerate() {
        let (span, group) = (unit * UNIT / P::SPAN, unit * UNIT % P::SPAN / P::GROUP);
        // SAFETY: by `check`, the panel has this unit and the scales of its span.
        let (quants, [[d], [m]]) = unsafe {
            let base = panel.as_ptr().add(unit * P::UNIT_BYTES * ROWS);
            let at = At { base, lane };
            let quants = [
                P::four::<_, 0>(Arrays::<1>, at),
                P::four::<_, 1>(Arrays::<1>, at),
                P::four::<_, 2>(Arrays::<1>, at),
                P::four::<_, 3>(Arrays::<1>, at),
            ];
            let base = scales.add(span * P::SCALE_BYTES * ROWS);
            (quants, P::scales(Arrays::<1>, At { base, lane }, group))
        };
        for (out, [quant]) in out.iter_mut().zip(quants.into_iter().flatten()) {
            *out = quant * d + m;
        }
    }
}
