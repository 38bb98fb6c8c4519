//! Products of one panel of quantised weights with rows of bytes: whole numbers inside a group, floats between groups.
//!
//! A row's result does not depend on which others are multiplied beside it, nor on whether tiles compute it: whole numbers
//! are exact, and the floats of a row are added in the order of the columns.
#![allow(
    unsafe_code,
    reason = "vector loads and stores, whose bounds are asserted before the loops"
)]

#[cfg(target_arch = "x86_64")]
use std::cell::RefCell;
use std::marker::PhantomData;
#[cfg(target_arch = "x86_64")]
use std::ops::Range;

use super::bytes::{Rounded, WORDS};
use super::format::Format;
use super::packing::{At, Quants, ROWS, UNIT, with_quants};
use super::tile::{self, WIDEST};
use crate::kernels::lanes::{GROUP, Lanes, Work};
#[cfg(target_arch = "x86_64")]
use crate::kernels::line::{self, Line};
#[cfg(target_arch = "x86_64")]
use crate::kernels::x86::{Amx, AmxWork, Avx512, ByteTiles};

/// Units that share a scale of the inputs.
const UNITS: usize = GROUP / UNIT;

/// Rows that are multiplied side by side, so that a sum need not wait for the one before it.
const BESIDE: usize = 4;

/// The fewest rows that tiles take: with less, most of a tile's time is for rows that are not there.
#[cfg(target_arch = "x86_64")]
const TILED: usize = 6;

/// Groups whose whole numbers are computed before their floats.
#[cfg(target_arch = "x86_64")]
const AHEAD: usize = 8;

// What a thread keeps of a panel between its stages: to clear it for each panel takes a quarter of the product.
#[cfg(target_arch = "x86_64")]
thread_local! {
    static STAGES: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
}

/// What multiplies panels with the same rows.
pub(super) struct Unit<L> {
    lanes: L,
    /// For more than a few rows.
    #[cfg(target_arch = "x86_64")]
    tiles: Option<(Amx, ByteTiles)>,
}

impl<L: Lanes> Unit<L> {
    /// For so many rows; with `tiles` where the CPU has them.
    pub(super) fn new(lanes: L, rows: usize, tiles: bool) -> Self {
        #[cfg(target_arch = "x86_64")]
        let amx = Amx::detect().filter(|_| tiles && rows >= TILED);
        #[cfg(not(target_arch = "x86_64"))]
        let _ = (rows, tiles);
        Unit {
            lanes,
            #[cfg(target_arch = "x86_64")]
            tiles: amx.map(|amx| (amx, amx.byte_tiles(rows, UNITS * WORDS))),
        }
    }

    /// Sets `out[i][r]` to the dot product of row `i` of `inputs`, at most [`WIDEST`], and row `r` of the panel.
    ///
    /// # Panics
    ///
    /// When `format` is not quantised.
    pub(super) fn multiply(
        &self,
        format: Format,
        panel: &[u8],
        inputs: Rounded<'_>,
        out: &mut [[f32; ROWS]; WIDEST],
    ) {
        with_quants!(format, P => {
            #[cfg(target_arch = "x86_64")]
            if let Some((amx, tiles)) = &self.tiles {
                return STAGES.with_borrow_mut(|stages| {
                    amx.run(Tiled::<P>(Panel::new(panel, inputs), tiles, stages, out));
                });
            }
            self.lanes.run(Vectors::<P>(Panel::new(panel, inputs), out))
        }, unreachable!("products of {format:?} with bytes"));
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
        assert_eq!(inputs.words.len(), rows * units * WORDS + WORDS);
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

/// A product in vectors.
struct Vectors<'a, P>(Panel<'a, P>, &'a mut [[f32; ROWS]; WIDEST]);

impl<L: Lanes, P: Quants> Work<L> for Vectors<'_, P> {
    type Output = ();

    #[inline(always)]
    fn run(self, lanes: L) {
        let Vectors(panel, out) = self;
        assert!(ROWS.is_multiple_of(L::LANES));
        for lane in (0..ROWS).step_by(L::LANES) {
            let mut sums = [lanes.splat(0.0); WIDEST];
            for group in 0..panel.groups() {
                // SAFETY: `group` is one of the panel's and `lane` one of its rows.
                unsafe {
                    let scales = panel.scales(lanes, group, lane);
                    let mut quads = [[lanes.splat_word(0); WORDS]; UNITS];
                    let own = Panel::<P>::OWN;
                    for (part, quads) in quads.iter_mut().enumerate().take(own) {
                        *quads = panel.bytes(lanes, group * own + part, lane);
                    }
                    let mut row = 0;
                    while row + BESIDE <= panel.inputs.rows {
                        let sums = &mut sums[row..row + BESIDE];
                        rows::<L, P, BESIDE>(lanes, &panel, (row, group), scales, &quads, sums);
                        row += BESIDE;
                    }
                    while row < panel.inputs.rows {
                        let sums = &mut sums[row..=row];
                        rows::<L, P, 1>(lanes, &panel, (row, group), scales, &quads, sums);
                        row += 1;
                    }
                }
            }
            for (out, sum) in out.iter_mut().zip(sums).take(panel.inputs.rows) {
                // SAFETY: a row of `out` has LANES floats from `lane` on.
                unsafe { lanes.store(out.as_mut_ptr().add(lane), sum) };
            }
        }
    }
}

/// Adds a group's part of `N` rows from `row` on.
///
/// # Safety
///
/// There are such rows and such a group.
#[inline(always)]
#[allow(
    clippy::needless_range_loop,
    reason = "iterators over arrays keep the sums out of registers"
)]
unsafe fn rows<L: Lanes, P: Quants, const N: usize>(
    lanes: L,
    panel: &Panel<'_, P>,
    (row, group): (usize, usize),
    scales: [L::Vector; 2],
    quads: &[[L::Words; WORDS]; UNITS],
    sums: &mut [L::Vector],
) {
    let own = Panel::<P>::OWN;
    let stride = panel.inputs.units * WORDS;
    // SAFETY: the caller's, and by `new` each row has the words of all units.
    unsafe {
        let words = (panel.inputs.words.as_ptr()).add(row * stride + group * own * WORDS);
        let mut whole = [lanes.splat_word(0); N];
        for part in 0..own {
            for word in 0..WORDS {
                for i in 0..N {
                    let x = lanes.splat_word(*words.add(i * stride + part * WORDS + word));
                    whole[i] = lanes.dot(quads[part][word], x, whole[i]);
                }
            }
        }
        for i in 0..N {
            let sum = sums.get_unchecked_mut(i);
            *sum = panel.add(lanes, (row + i, group), scales, whole[i], *sum);
        }
    }
}

/// A product in tiles.
#[cfg(target_arch = "x86_64")]
struct Tiled<'a, P>(
    Panel<'a, P>,
    &'a ByteTiles,
    &'a mut Vec<Line>,
    &'a mut [[f32; ROWS]; WIDEST],
);

/// Lines of a tile of weights.
#[cfg(target_arch = "x86_64")]
const LINES: usize = UNITS * WORDS;

/// Tiles of the weights of some groups.
#[cfg(target_arch = "x86_64")]
type Weights = [[Line; LINES]; AHEAD];

/// `[d, m]` of some groups.
#[cfg(target_arch = "x86_64")]
type Scales = [[<Avx512 as Lanes>::Vector; 2]; AHEAD];

#[cfg(target_arch = "x86_64")]
impl<P: Quants> AmxWork for Tiled<'_, P> {
    #[inline(always)]
    fn run(self, amx: Amx) {
        let Tiled(panel, tiles, stages, out) = self;
        let lanes = amx.vectors();
        let own = Panel::<P>::OWN;
        let (rows, groups) = (panel.inputs.rows, panel.groups());
        let stages = line::take(stages, AHEAD * (2 * LINES + WIDEST));
        let (weights, whole) = stages.split_at_mut(2 * AHEAD * LINES);
        // Where the weights' groups are half of the inputs', the other half of a tile is 0.
        for tile in weights.chunks_exact_mut(LINES) {
            tile[own * WORDS..].fill(Line::default());
        }
        let (tiled, _) = weights.as_chunks_mut::<LINES>();
        let (tiled, _) = tiled.as_chunks_mut::<AHEAD>();
        let (whole, _) = whole.as_chunks_mut::<WIDEST>();
        let [now, next] = tiled else {
            unreachable!("two times the groups")
        };
        let (mut now, mut next) = (now, next);
        let stride = panel.inputs.units * WORDS;
        let mut sums = [lanes.splat(0.0); WIDEST];
        let mut scales = [[lanes.splat(0.0); 2]; AHEAD];
        // SAFETY: the groups are the panel's. A tile of inputs is a group's words of every row, one of weights a line for
        // each, and one of sums a line for each row.
        unsafe {
            stage(amx, &panel, 0..groups.min(AHEAD), &mut scales, now);
            for first in (0..groups).step_by(AHEAD) {
                let count = (groups - first).min(AHEAD);
                let words = (panel.inputs.words.as_ptr()).add(first * own * WORDS);
                let mut i = 0;
                while i + 4 <= count {
                    let at = words.add(i * own * WORDS);
                    let (columns, out) = (&raw const now[i], &raw mut whole[i]);
                    tiles.four_products(at, (stride, own * WORDS), columns, out);
                    i += 4;
                }
                while i < count {
                    let at = words.add(i * own * WORDS);
                    tiles.product(at, stride, now[i].as_ptr(), whole[i].as_mut_ptr());
                    i += 1;
                }
                // The next ones before this one's floats: a tile waits until what it loads has reached the cache.
                let mut scales_of_next = scales;
                let after = first + AHEAD;
                if after < groups {
                    let range = after..groups.min(after + AHEAD);
                    stage(amx, &panel, range, &mut scales_of_next, next);
                }
                for (row, sum) in sums.iter_mut().enumerate().take(rows) {
                    for i in 0..count {
                        let at = (row, first + i);
                        let whole = lanes.load_words(whole[i][row].0.as_ptr().cast());
                        *sum = panel.add(lanes, at, scales[i], whole, *sum);
                    }
                }
                scales = scales_of_next;
                std::mem::swap(&mut now, &mut next);
            }
        }
        for (out, sum) in out.iter_mut().zip(sums).take(rows) {
            // SAFETY: a row of `out` has as many floats as a vector.
            unsafe { lanes.store(out.as_mut_ptr(), sum) };
        }
    }
}

/// Unpacks the weights of `groups`.
///
/// # Safety
///
/// The panel has these groups.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn stage<P: Quants>(
    amx: Amx,
    panel: &Panel<'_, P>,
    groups: Range<usize>,
    scales: &mut Scales,
    weights: &mut Weights,
) {
    let (lanes, own) = (amx.vectors(), Panel::<P>::OWN);
    for (i, group) in groups.enumerate() {
        // SAFETY: the caller's.
        unsafe {
            scales[i] = panel.scales(lanes, group, 0);
            for part in 0..own {
                let bytes = panel.bytes(lanes, group * own + part, 0);
                for (word, bytes) in bytes.into_iter().enumerate() {
                    amx.store(&mut weights[i][part * WORDS + word], bytes);
                }
            }
        }
    }
}
