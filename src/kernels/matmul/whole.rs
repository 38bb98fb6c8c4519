//! Products of one panel of quantised weights with rows of bytes: whole numbers inside a group, floats between groups.
//!
//! A row's result does not depend on which others are multiplied beside it: whole numbers are exact, and the floats of a row
//! are added in the order of the columns.
#![allow(
    unsafe_code,
    reason = "vector loads and stores, whose bounds are asserted before the loops"
)]

use std::marker::PhantomData;

use super::bytes::{Rounded, WORDS};
use super::format::Format;
use super::packing::{At, Quants, ROWS, UNIT, with_quants};
use super::tile::{self, WIDEST};
use crate::kernels::lanes::{GROUP, Lanes, Work};

/// Units that share a scale of the inputs.
const UNITS: usize = GROUP / UNIT;

/// Sets `out[i][r]` to the dot product of row `i` of `inputs`, at most [`WIDEST`], and row `r` of the panel.
///
/// # Panics
///
/// When `format` is not quantised.
pub(super) fn multiply<L: Lanes>(
    lanes: L,
    format: Format,
    panel: &[u8],
    inputs: Rounded<'_>,
    out: &mut [[f32; ROWS]; WIDEST],
) {
    with_quants!(
        format,
        P => multiply_as(lanes, &Panel::<P>::new(panel, inputs), out),
        unreachable!("products of {format:?} with bytes")
    );
}

/// A loop for each of some numbers of rows, in which sums stay in registers: to unpack a panel again costs less than to load
/// and store them.
fn multiply_as<L: Lanes, P: Quants>(
    lanes: L,
    panel: &Panel<'_, P>,
    out: &mut [[f32; ROWS]; WIDEST],
) {
    let mut out = &mut out[..panel.inputs.rows];
    let mut first = 0;
    while !out.is_empty() {
        let count = match out.len() {
            16.. if L::SUMS >= 16 => 16,
            8.. if L::SUMS >= 8 => 8,
            4.. => 4,
            2.. => 2,
            _ => 1,
        };
        let (now, later) = out.split_at_mut(count);
        match count {
            16 => lanes.run(Rows::<P, 16>(panel, first, now)),
            8 => lanes.run(Rows::<P, 8>(panel, first, now)),
            4 => lanes.run(Rows::<P, 4>(panel, first, now)),
            2 => lanes.run(Rows::<P, 2>(panel, first, now)),
            _ => lanes.run(Rows::<P, 1>(panel, first, now)),
        }
        (out, first) = (later, first + count);
    }
}

/// A panel of weights times some rows, whose lengths have been checked.
struct Panel<'a, P> {
    panel: &'a [u8],
    inputs: Rounded<'a>,
    /// The sums of the rows over the panel's own groups.
    sums: &'a [f32],
    packing: PhantomData<P>,
}

impl<'a, P: Quants> Panel<'a, P> {
    /// Units with one scale of the weights.
    const OWN: usize = P::GROUP / UNIT;

    fn new(panel: &'a [u8], inputs: Rounded<'a>) -> Self {
        let Rounded { rows, units, .. } = inputs;
        tile::check::<P>(panel, units);
        assert!(rows <= WIDEST && units.is_multiple_of(UNITS));
        assert!(Self::OWN == 1 || Self::OWN == UNITS);
        let sums = match Self::OWN {
            1 => inputs.unit_sums,
            _ => inputs.group_sums,
        };
        assert_eq!(inputs.words.len(), rows * units * WORDS);
        assert_eq!(inputs.scales.len(), rows * units / UNITS);
        assert_eq!(sums.len(), rows * units / Self::OWN);
        Panel {
            panel,
            inputs,
            sums,
            packing: PhantomData,
        }
    }

    fn groups(&self) -> usize {
        self.inputs.units / Self::OWN
    }

    /// `[d, m]` of a group, where an element is `d * byte + m`.
    ///
    /// # Safety
    ///
    /// There is such a group and such a lane.
    #[inline(always)]
    unsafe fn scales<L: Lanes>(&self, lanes: L, group: usize, lane: usize) -> [L::Vector; 2] {
        let (span, inside) = (group / (P::SPAN / P::GROUP), group % (P::SPAN / P::GROUP));
        let at = (self.inputs.units * P::UNIT_BYTES + span * P::SCALE_BYTES) * ROWS;
        let at = At {
            base: self.panel.as_ptr().wrapping_add(at),
            lane,
        };
        if lane == 0 && inside == 0 {
            tile::fetch(lanes, at.base, P::SCALE_BYTES * ROWS);
        }
        // SAFETY: the caller's.
        let [d, m] = unsafe { P::scales(lanes, at, inside) };
        match P::ABOVE > 0.0 {
            true => [d, lanes.fma(d, lanes.splat(-P::ABOVE), m)],
            false => [d, m],
        }
    }

    /// The bytes of a unit.
    ///
    /// # Safety
    ///
    /// There is such a unit and such a lane.
    #[inline(always)]
    unsafe fn bytes<L: Lanes>(&self, lanes: L, unit: usize, lane: usize) -> [L::Words; WORDS] {
        let at = At {
            base: (self.panel.as_ptr()).wrapping_add(unit * P::UNIT_BYTES * ROWS),
            lane,
        };
        if lane == 0 {
            tile::fetch(lanes, at.base, P::UNIT_BYTES * ROWS);
        }
        // SAFETY: the caller's.
        unsafe { P::bytes(lanes, at) }
    }

    /// `sum` and a group's part of row `row`, of which `whole` is the sum of the products of bytes.
    ///
    /// # Safety
    ///
    /// There are such a row and such a group.
    #[inline(always)]
    unsafe fn add<L: Lanes>(
        &self,
        lanes: L,
        (row, group): (usize, usize),
        [d, m]: [L::Vector; 2],
        whole: L::Words,
        sum: L::Vector,
    ) -> L::Vector {
        // SAFETY: the caller's, and by `new` there are a scale and a sum for each.
        let (scale, total) = unsafe {
            let scales = self.inputs.units / UNITS;
            let scale = row * scales + group * Self::OWN / UNITS;
            (
                *self.inputs.scales.get_unchecked(scale),
                *self.sums.get_unchecked(row * self.groups() + group),
            )
        };
        let sum = lanes.fma(m, lanes.splat(total), sum);
        lanes.fma(lanes.mul(d, lanes.splat(scale)), lanes.whole(whole), sum)
    }
}

/// The products of `N` rows of the inputs from one on.
struct Rows<'a, P, const N: usize>(&'a Panel<'a, P>, usize, &'a mut [[f32; ROWS]]);

impl<L: Lanes, P: Quants, const N: usize> Work<L> for Rows<'_, P, N> {
    type Output = ();

    #[inline(always)]
    #[allow(
        clippy::needless_range_loop,
        reason = "iterators over arrays keep the sums out of registers"
    )]
    fn run(self, lanes: L) {
        let Rows(panel, first, out) = self;
        assert!(first + N <= panel.inputs.rows && out.len() == N);
        assert!(ROWS.is_multiple_of(L::LANES));
        let own = Panel::<P>::OWN;
        let stride = panel.inputs.units * WORDS;
        for lane in (0..ROWS).step_by(L::LANES) {
            let mut sums = [lanes.splat(0.0); N];
            for group in 0..panel.groups() {
                // SAFETY: `group` is one of the panel's, `lane` one of its rows, and these are rows of the inputs, of which
                // by `new` each has the words of all units.
                unsafe {
                    let scales = panel.scales(lanes, group, lane);
                    let words = (panel.inputs.words.as_ptr()).add(first * stride);
                    let mut whole = [lanes.splat_word(0); N];
                    for part in 0..own {
                        let unit = group * own + part;
                        let quads = panel.bytes(lanes, unit, lane);
                        for word in 0..WORDS {
                            for i in 0..N {
                                let at = words.add(i * stride + unit * WORDS + word);
                                whole[i] = lanes.dot(quads[word], lanes.splat_word(*at), whole[i]);
                            }
                        }
                    }
                    for i in 0..N {
                        sums[i] = panel.add(lanes, (first + i, group), scales, whole[i], sums[i]);
                    }
                }
            }
            for (out, sum) in out.iter_mut().zip(sums) {
                // SAFETY: a row of `out` has LANES floats from `lane` on.
                unsafe { lanes.store(out.as_mut_ptr().add(lane), sum) };
            }
        }
    }
}
