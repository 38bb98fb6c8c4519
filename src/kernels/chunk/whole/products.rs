//! Products of bytes.
#![allow(
    unsafe_code,
    reason = "vector loads and stores, whose bounds are asserted before the loops"
)]

use super::packing::Rounded;
use super::{LANES, QUADS, SPAN, Words};
use crate::kernels::lanes::{Lanes, Work};

/// Queries that are multiplied together, with two panels at a time: their sums fill the registers beside what is read.
pub(super) const ROWS: usize = 8;

/// Sets `out`, rows of [`SPAN`], to the dot products of [`ROWS`] queries and keys, in whole pairs of panels, times their
/// scales and plus the keys' lifts.
pub(super) struct Logits<'a> {
    pub(super) queries: Rounded<'a>,
    /// `[panels, depth]`.
    pub(super) keys: &'a [Words],
    pub(super) scales: &'a [f32],
    pub(super) lifts: &'a [f32],
    pub(super) out: &'a mut [f32],
}

impl<L: Lanes> Work<L> for Logits<'_> {
    type Output = ();

    #[inline(always)]
    #[allow(
        clippy::needless_range_loop,
        reason = "iterators over arrays keep the sums out of registers"
    )]
    fn run(self, lanes: L) {
        let Rounded {
            depth,
            words,
            scales,
            starts,
        } = self.queries;
        let columns = self.scales.len();
        assert!(
            columns.is_multiple_of(2 * LANES) && columns <= SPAN && self.lifts.len() == columns
        );
        assert!(words.len() == ROWS * depth && scales.len() == ROWS && starts.len() == ROWS);
        assert!(self.keys.len() == columns / LANES * depth && self.out.len() == ROWS * SPAN);
        assert!(LANES.is_multiple_of(L::LANES));
        for first in (0..columns).step_by(2 * LANES) {
            let panels = self.keys[first / LANES * depth..].as_ptr().cast::<u32>();
            for lane in (0..LANES).step_by(L::LANES) {
                // SAFETY: there are two panels of `depth` lines from here on, and as many words of each query; 2 * LANES columns
                // of scales, of lifts, and of each row of `out`.
                unsafe {
                    let panel = panels.add(lane);
                    let panels = [panel, panel.add(depth * LANES)];
                    let starts = std::array::from_fn(|row| starts[row]);
                    let sums =
                        sums::<L, true>(lanes, (words.as_ptr(), depth), panels, depth, starts);
                    for panel in 0..2 {
                        let column = first + panel * LANES + lane;
                        let worth = lanes.load(self.scales.as_ptr().add(column));
                        let lift = lanes.load(self.lifts.as_ptr().add(column));
                        for row in 0..ROWS {
                            let logit = lanes.mul(lanes.whole(sums[row][panel]), worth);
                            let logit = lanes.fma(logit, lanes.splat(scales[row]), lift);
                            lanes.store(self.out.as_mut_ptr().add(row * SPAN + column), logit);
                        }
                    }
                }
            }
        }
    }
}

/// Multiplies rows of `out` with the first of their factors and adds the products of [`ROWS`] rows of weights with values,
/// times the second.
pub(super) struct Values<'a> {
    /// Rows of [`QUADS`], of which `quads` count.
    pub(super) weights: &'a [u32],
    pub(super) quads: usize,
    /// `[panels, QUADS]`, an even number of panels.
    pub(super) values: &'a [Words],
    pub(super) factors: &'a [[f32; 2]; ROWS],
    /// `[ROWS, panels * LANES]`.
    pub(super) out: &'a mut [f32],
}

impl<L: Lanes> Work<L> for Values<'_> {
    type Output = ();

    #[inline(always)]
    #[allow(
        clippy::needless_range_loop,
        reason = "iterators over arrays keep the sums out of registers"
    )]
    fn run(self, lanes: L) {
        let width = self.values.len() / QUADS * LANES;
        assert!(self.weights.len() == ROWS * QUADS && self.quads <= QUADS);
        assert!(width.is_multiple_of(2 * LANES) && self.values.len() == width / LANES * QUADS);
        assert!(self.out.len() == ROWS * width && LANES.is_multiple_of(L::LANES));
        for first in (0..width).step_by(2 * LANES) {
            let panels = self.values[first / LANES * QUADS..].as_ptr().cast::<u32>();
            for lane in (0..LANES).step_by(L::LANES) {
                // SAFETY: there are two panels of QUADS lines from here on, as many words of each row, and so many columns
                // of each row of `out`.
                unsafe {
                    let panel = panels.add(lane);
                    let panels = [panel, panel.add(QUADS * LANES)];
                    let rows = (self.weights.as_ptr(), QUADS);
                    let sums = sums::<L, false>(lanes, rows, panels, self.quads, [0; ROWS]);
                    for (row, [before, here]) in self.factors.iter().enumerate() {
                        let to = self.out.as_mut_ptr().add(row * width + first + lane);
                        for panel in 0..2 {
                            let to = to.add(panel * LANES);
                            let kept = lanes.mul(lanes.load(to), lanes.splat(*before));
                            let sum = lanes.whole(sums[row][panel]);
                            lanes.store(to, lanes.fma(sum, lanes.splat(*here), kept));
                        }
                    }
                }
            }
        }
    }
}

/// `starts` plus the products of `depth` words of [`ROWS`] rows, which lie `stride` words apart, with those of two panels. The
/// bytes of panels have no sign when `PLAIN`, else those of rows have none; the others have one.
///
/// # Safety
///
/// All words can be read, of panels a vector in each of `depth` lines.
#[inline(always)]
#[allow(
    clippy::needless_range_loop,
    reason = "iterators over arrays keep the sums out of registers"
)]
unsafe fn sums<L: Lanes, const PLAIN: bool>(
    lanes: L,
    (rows, stride): (*const u32, usize),
    panels: [*const u32; 2],
    depth: usize,
    starts: [u32; ROWS],
) -> [[L::Words; 2]; ROWS] {
    let mut sums = [[lanes.splat_word(0); 2]; ROWS];
    for row in 0..ROWS {
        sums[row] = [lanes.splat_word(starts[row]); 2];
    }
    for word in 0..depth {
        // SAFETY: the caller's.
        unsafe {
            let both = [
                lanes.load_words(panels[0].add(word * LANES)),
                lanes.load_words(panels[1].add(word * LANES)),
            ];
            for row in 0..ROWS {
                let x = lanes.splat_word(*rows.add(row * stride + word));
                for panel in 0..2 {
                    sums[row][panel] = match PLAIN {
                        true => lanes.dot(both[panel], x, sums[row][panel]),
                        false => lanes.dot(x, both[panel], sums[row][panel]),
                    };
                }
            }
        }
    }
    sums
}
