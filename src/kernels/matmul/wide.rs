//! Products of many inputs in tiles of `bf16`.
#![allow(
    unsafe_code,
    reason = "tiles are read and written by address, whose bounds are asserted before the loops"
)]

use std::cell::RefCell;
use std::marker::PhantomData;
use std::ops::Range;

use super::packing::{At, Packing, ROWS, UNIT, with_packing};
use super::{Matrix, Output, Panel, Panels, tile};
use crate::kernels::lanes::Lanes;
use crate::kernels::line::{self, Line, Shared};
use crate::kernels::pool::Pool;
use crate::kernels::x86::{
    Avx512, Blocks, Halves, HalvesWork, Operands, PackRows, STEP, TILE, TILES_BLOCK, halves_of,
    lines,
};

const _: () = assert!(ROWS == TILE && STEP == 2 * UNIT);

/// Steps of weights that are converted and multiplied at a time: 2 panels of them, and the inputs' of a block, stay in
/// the second cache beside what is read next.
const STEPS: usize = 64;

/// Bytes of results from which on they go past the caches: a share of a second cache, beside what else is in it.
const STREAMED: usize = 1 << 19;

/// Panels that are multiplied together.
const PANELS: usize = TILES_BLOCK / ROWS;

/// The fewest inputs of a part: it converts its weights once for all of them.
const LEAST: usize = 128;

thread_local! {
    /// The inputs of the product that this thread calls.
    static INPUTS: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
    /// The weights of the part that this thread computes.
    static WEIGHTS: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
}

/// Sets `out`, `[n, weights.rows()]`, to the products with `x`, `[n, weights.cols()]`; lengths have been checked.
pub(super) fn multiply<const SPLIT: bool>(
    cpu: Halves,
    pool: &Pool,
    weights: &Matrix,
    x: &[f32],
    n: usize,
    out: &mut [f32],
) {
    let cols = weights.cols();
    let group = lines(cols, SPLIT);
    let blocks = n.div_ceil(TILES_BLOCK);
    INPUTS.with_borrow_mut(|inputs| {
        let inputs = line::take(inputs, blocks * 2 * group);
        pack::<SPLIT>(cpu, pool, x, cols, n, inputs);
        let inputs = &*inputs;
        let panels: usize = weights.parts().iter().map(Panels::len).sum();
        let pairs = panels.div_ceil(PANELS);
        // Few rows of weights are too few parts for many threads.
        let stretches = (4 * pool.threads())
            .div_ceil(pairs)
            .min(n.div_ceil(LEAST))
            .max(1);
        let product = Product::<SPLIT> {
            cpu,
            weights,
            inputs,
            group,
            n,
            stream: can_stream(out, weights.rows()),
            out: Output::new(out, weights.rows()),
        };
        pool.run(pairs * stretches, |part| {
            let (pair, stretch) = (part / stretches, part % stretches);
            let blocks = stretch * blocks / stretches..(stretch + 1) * blocks / stretches;
            WEIGHTS.with_borrow_mut(|buffer| product.run(pair, blocks, buffer));
        });
    });
}

fn pack<const SPLIT: bool>(
    cpu: Halves,
    pool: &Pool,
    x: &[f32],
    cols: usize,
    n: usize,
    inputs: &mut [Line],
) {
    let group = lines(cols, SPLIT);
    let shared = Shared::new(inputs);
    pool.run(shared.len() / group, |index| {
        // SAFETY: every part takes a group of its own.
        let to = unsafe { shared.part(index * group..(index + 1) * group) };
        let first = (index * TILE).min(n);
        cpu.run(PackRows::<SPLIT> {
            from: &x[first * cols..],
            stride: cols,
            rows: (n - first).min(TILE),
            depth: cols,
            to,
        });
    });
}

struct Product<'a, const SPLIT: bool> {
    cpu: Halves,
    weights: &'a Matrix,
    inputs: &'a [Line],
    /// Lines of a group of inputs.
    group: usize,
    n: usize,
    /// Whether results go past the caches.
    stream: bool,
    out: Output<'a>,
}

/// Whether results are more than the caches keep until they are read, so that they had better not be read from memory
/// first in order to be overwritten; and whether their rows begin on cache lines.
fn can_stream(out: &[f32], width: usize) -> bool {
    size_of_val(out) >= STREAMED
        && out.as_ptr().addr().is_multiple_of(size_of::<Line>())
        && width.is_multiple_of(line::LINE_FLOATS)
}

impl<const SPLIT: bool> Product<'_, SPLIT> {
    /// Multiplies a pair of panels with the inputs of `blocks`.
    fn run(&self, pair: usize, blocks: Range<usize>, buffer: &mut Vec<Line>) {
        let first = Panel::of(self.weights, PANELS * pair);
        let second = Panel::of(self.weights, PANELS * pair + 1);
        let Some(first) = first else {
            return;
        };
        let all = self.weights.cols().div_ceil(STEP);
        let most = STEPS.min(all) * halves_of(SPLIT) * TILE;
        let buffer = line::take(buffer, PANELS * most);
        let tiles = self.cpu.blocks();
        let mut start = 0;
        while start < all {
            let steps = start..(start + STEPS).min(all);
            let len = steps.len() * halves_of(SPLIT) * TILE;
            let (one, two) = buffer[..2 * len].split_at_mut(len);
            convert::<SPLIT>(self.cpu, &first, self.weights.cols(), steps.clone(), one);
            match &second {
                Some(panel) => {
                    convert::<SPLIT>(self.cpu, panel, self.weights.cols(), steps.clone(), two);
                }
                None => two.fill(Line::default()),
            }
            for block in blocks.clone() {
                self.block(
                    &tiles,
                    [&first, second.as_ref().unwrap_or(&first)],
                    second.is_some(),
                    block,
                    &steps,
                    [one, two],
                );
            }
            start = steps.end;
        }
        if self.stream {
            self.cpu.fence();
        }
    }

    fn block(
        &self,
        tiles: &Blocks,
        panels: [&Panel<'_>; 2],
        both: bool,
        block: usize,
        steps: &Range<usize>,
        columns: [&[Line]; 2],
    ) {
        let at = |group: usize| {
            let start = group * self.group + steps.start * halves_of(SPLIT) * TILE;
            self.inputs[start..start + steps.len() * halves_of(SPLIT) * TILE].as_ptr()
        };
        let operands = Operands {
            rows: [at(2 * block), at(2 * block + 1)],
            columns: columns.map(<[Line]>::as_ptr),
            steps: steps.len(),
        };
        let add = steps.start > 0;
        let (row, rows) = (
            block * TILES_BLOCK,
            (self.n - block * TILES_BLOCK).min(TILES_BLOCK),
        );
        let whole = both
            && rows == TILES_BLOCK
            && panels.iter().all(|panel| panel.rows == ROWS)
            && panels[1].first == panels[0].first + ROWS;
        if whole && self.stream && self.weights.cols() <= STEPS * STEP {
            let mut sums = [[Line::default(); 2]; TILES_BLOCK];
            // SAFETY: the operands were sliced to their lengths, and the sums are a block. Each part has rows and columns
            // of its own, which lie within `out` by the check of `place`, and on cache lines by `can_stream`.
            unsafe {
                tiles.product::<SPLIT>(operands, sums.as_mut_ptr().cast(), TILES_BLOCK, false);
                let out = self
                    .out
                    .place(row, panels[0].first, TILES_BLOCK, TILES_BLOCK);
                self.cpu.run(Stream {
                    sums: &sums,
                    out: out.cast(),
                    stride: self.out.width / line::LINE_FLOATS,
                });
            }
            return;
        }
        if whole {
            // SAFETY: the operands were sliced to their lengths. Each part has rows and columns of its own, and the
            // block lies within `out` by the check of `place`.
            unsafe {
                let out = self
                    .out
                    .place(row, panels[0].first, TILES_BLOCK, TILES_BLOCK);
                tiles.product::<SPLIT>(operands, out, self.out.width, add);
            }
            return;
        }
        let mut sums = [[Line::default(); 2]; TILES_BLOCK];
        // SAFETY: the operands were sliced to their lengths, and the sums are a block.
        unsafe {
            let out = sums.as_mut_ptr().cast::<f32>();
            tiles.product::<SPLIT>(operands, out, TILES_BLOCK, false);
        }
        for (i, sums) in sums.iter().take(rows).enumerate() {
            let parts = panels.iter().zip(sums).take(1 + usize::from(both));
            for (panel, sums) in parts {
                // SAFETY: each part has rows and columns of its own.
                unsafe {
                    self.out
                        .put(row + i, panel.first, &sums.0[..panel.rows], add)
                };
            }
        }
    }
}

/// Writes a block past the caches.
struct Stream<'a> {
    sums: &'a [[Line; 2]; TILES_BLOCK],
    /// On cache lines, `stride` lines from row to row, and nobody else's.
    out: *mut Line,
    stride: usize,
}

impl HalvesWork for Stream<'_> {
    #[inline(always)]
    fn run(self, cpu: Halves) {
        for (row, sums) in self.sums.iter().enumerate() {
            for (column, sums) in sums.iter().enumerate() {
                // SAFETY: by what is said of `out`.
                unsafe { cpu.stream(self.out.add(row * self.stride + column), sums) };
            }
        }
    }
}

fn convert<const SPLIT: bool>(
    cpu: Halves,
    panel: &Panel<'_>,
    cols: usize,
    steps: Range<usize>,
    to: &mut [Line],
) {
    with_packing!(panel.format, P => cpu.run(Convert::<P, SPLIT> {
        panel: panel.bytes,
        units: cols.div_ceil(UNIT),
        steps,
        to,
        packing: PhantomData,
    }));
}

/// Elements of a panel, in tiles.
struct Convert<'a, P, const SPLIT: bool> {
    panel: &'a [u8],
    /// Of the whole panel.
    units: usize,
    steps: Range<usize>,
    to: &'a mut [Line],
    packing: PhantomData<P>,
}

impl<P: Packing, const SPLIT: bool> HalvesWork for Convert<'_, P, SPLIT> {
    #[inline(always)]
    fn run(self, cpu: Halves) {
        let lanes = cpu.vectors();
        tile::check::<P>(self.panel, self.units);
        assert_eq!(self.to.len(), self.steps.len() * halves_of(SPLIT) * TILE);
        let scales = self.panel[self.units * P::UNIT_BYTES * ROWS..].as_ptr();
        let steps = self
            .steps
            .zip(self.to.chunks_exact_mut(halves_of(SPLIT) * TILE));
        for (step, tile) in steps {
            for side in 0..2 {
                let unit = 2 * step + side;
                if unit >= self.units {
                    tile[TILE / 2..TILE].fill(Line::default());
                    if SPLIT {
                        tile[TILE + TILE / 2..].fill(Line::default());
                    }
                    continue;
                }
                let (span, group) = (unit * UNIT / P::SPAN, unit * UNIT % P::SPAN / P::GROUP);
                // SAFETY: by `check`, the panel has this unit and the scales of its span.
                unsafe {
                    let at = At {
                        base: scales.add(span * P::SCALE_BYTES * ROWS),
                        lane: 0,
                    };
                    let scale = P::scales(lanes, at, group);
                    let at = At {
                        base: self.panel.as_ptr().add(unit * P::UNIT_BYTES * ROWS),
                        lane: 0,
                    };
                    let from = side * TILE / 2;
                    four::<P, SPLIT, 0>(cpu, lanes, at, scale, from, tile);
                    four::<P, SPLIT, 1>(cpu, lanes, at, scale, from, tile);
                    four::<P, SPLIT, 2>(cpu, lanes, at, scale, from, tile);
                    four::<P, SPLIT, 3>(cpu, lanes, at, scale, from, tile);
                }
            }
        }
    }
}

/// Converts four columns.
///
/// # Safety
///
/// `at` is at a unit.
#[inline(always)]
unsafe fn four<P: Packing, const SPLIT: bool, const PART: usize>(
    cpu: Halves,
    lanes: Avx512,
    at: At,
    [d, m]: [<Avx512 as Lanes>::Vector; 2],
    from: usize,
    tile: &mut [Line],
) {
    // SAFETY: the caller's, and PART is below 4.
    let quants = unsafe { P::four::<Avx512, PART>(lanes, at) };
    let element = |i: usize| match P::SCALED {
        true => lanes.fma(quants[i], d, m),
        false => quants[i],
    };
    for pair in 0..2 {
        let (low, high) = (element(2 * pair), element(2 * pair + 1));
        let rounded = cpu.pairs(low, high);
        let line = from + 2 * PART + pair;
        cpu.store(&mut tile[line], rounded);
        if SPLIT {
            cpu.store(&mut tile[TILE + line], cpu.rests(rounded, low, high));
        }
    }
}
