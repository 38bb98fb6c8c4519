//! Attention in whole numbers, where no mass is wanted.
//!
//! Queries and keys are rounded to 8 bits a row behind a [`hadamard`](super::hadamard) transform, and values without one, as
//! rows that are stored in 8 bits are, so that products are of bytes. A logit is then a whole number times the scales of
//! its rows. The scale of a value goes to its probability, so that the second product sums whole numbers, too.
//!
//! Like those of [`spans`](super::spans), results do not depend on how a prompt is cut.
#![allow(unsafe_code, reason = "the parts of a run write results of their own")]

mod packing;
mod products;
mod weights;

use std::cell::RefCell;

use super::{All, KEYS, Segment, Side, Tile, read};
use crate::kernels::lanes::Lanes;
use crate::kernels::line::{self, Shared};
use crate::kernels::steps::{Job, Steps};
use packing::{PackKeys, PackValues, Queries};
use products::{Logits, ROWS, Values};
use weights::{MOST, Weigh};

/// Columns of a panel of keys, and elements of one of values.
const LANES: usize = 16;

/// Columns whose logits are held at once, and whose probabilities are rounded with one scale.
const SPAN: usize = 256;

/// Words of four columns each in a span.
const QUADS: usize = SPAN / 4;

/// Queries of a tile, about: they read a span of keys and values while it is in the second cache.
const QUERIES: usize = 128;

/// Columns that are packed together: of values, a word has four that lie [`LANES`] apart.
const BLOCK: usize = 4 * LANES;

const _: () = assert!(SPAN.is_multiple_of(BLOCK) && BLOCK.is_multiple_of(KEYS));

/// 16 words on a cache line, each of four bytes.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C, align(64))]
struct Words([u32; LANES]);

/// Where the packed rows of a head are.
#[derive(Clone, Copy)]
struct Place {
    /// Words of a row of keys.
    depth: usize,
    /// Panels of a row of values, an even number.
    width: usize,
    /// `[panels, depth]` lines of keys from here on, each a word of [`LANES`] keys.
    keys: usize,
    /// `[spans, width, QUADS]` lines of values from here on, each [`LANES`] elements of four values.
    values: usize,
    /// `[3, columns]` floats from here on: what a byte of the column's key is worth; the logarithm of what a byte of its
    /// value is worth; the inverse of that.
    scales: usize,
    /// Whole spans.
    columns: usize,
}

impl Place {
    fn after(before: Option<&Place>, columns: usize, dim: usize) -> Place {
        let columns = columns.next_multiple_of(SPAN);
        let (depth, keys) = (dim.div_ceil(4), before.map_or(0, Place::end));
        Place {
            depth,
            width: 2 * dim.div_ceil(2 * LANES),
            keys,
            values: keys + columns / LANES * depth,
            scales: before.map_or(0, Place::scales_end),
            columns,
        }
    }

    fn end(&self) -> usize {
        self.values + self.columns / SPAN * self.width * QUADS
    }

    fn scales_end(&self) -> usize {
        self.scales + 3 * self.columns
    }

    /// Where the scales of `columns` from `first` on are.
    fn scales(&self, kind: usize, first: usize, columns: usize) -> std::ops::Range<usize> {
        let start = self.scales + kind * self.columns + first;
        start..start + columns
    }
}

/// Packed rows of all heads.
#[derive(Default)]
struct Packed {
    words: Vec<Words>,
    scales: Vec<f32>,
}

/// Of the columns that a query has read.
#[derive(Clone, Copy)]
struct SoFar {
    /// The largest logarithm of a weight; what was attended and its total are divided by that weight.
    most: f32,
    total: f64,
}

thread_local! {
    /// Of the call that this thread makes.
    static PACKED: RefCell<Packed> = RefCell::default();
    /// Of the part that this thread computes.
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

#[derive(Default)]
struct Scratch {
    rows: Vec<f32>,
    part: Vec<f32>,
    lines: Vec<[f32; LANES]>,
    floats: Vec<f32>,
    queries: Queries,
    /// `[ROWS, SPAN]`.
    logits: Vec<f32>,
    /// `[ROWS, QUADS]`.
    weights: Vec<u32>,
    /// `[queries, width * LANES]`.
    attended: Vec<f32>,
    so_far: Vec<SoFar>,
}

impl Scratch {
    /// The rows of [`BLOCK`] columns from `first` on, as floats; zeros beyond the last.
    fn read(&mut self, segments: &[Segment<'_>], side: Side, dim: usize, first: usize) {
        self.rows.clear();
        for first in (first..first + BLOCK).step_by(KEYS) {
            read(segments, side, dim, first, &mut self.part);
            self.rows.extend_from_slice(&self.part);
        }
    }
}

/// Sets the output as [`attend_chunk`](super::attend_chunk) does.
pub(super) struct InBytes<'a>(pub(super) &'a All<'a>, pub(super) &'a mut [f32]);

impl Job for InBytes<'_> {
    fn run<S: Steps>(self, steps: S) {
        let InBytes(all, output) = self;
        let lanes = steps.vectors();
        let mut places: Vec<Place> = Vec::with_capacity(all.heads.len());
        for head in all.heads {
            places.push(Place::after(places.last(), head.columns(), all.head_dim));
        }
        PACKED.with_borrow_mut(|packed| {
            line::take(&mut packed.words, places.last().map_or(0, Place::end));
            line::take(
                &mut packed.scales,
                places.last().map_or(0, Place::scales_end),
            );
            all.pack_bytes(lanes, &places, packed);
            all.attend_bytes(lanes, &places, packed, output);
        });
    }
}

impl All<'_> {
    fn pack_bytes<L: Lanes>(&self, lanes: L, places: &[Place], packed: &mut Packed) {
        let words = Shared::new(&mut packed.words);
        let scales = Shared::new(&mut packed.scales);
        let blocks = |head: usize| self.heads[head].columns().div_ceil(BLOCK);
        let parts: Vec<(usize, usize)> = (0..places.len())
            .flat_map(|head| {
                let starts = (0..blocks(head)).step_by(super::BLOCKS);
                starts.map(move |block| (head, block))
            })
            .collect();
        self.pool.run(parts.len(), |part| {
            let (head, first) = parts[part];
            SCRATCH.with_borrow_mut(|scratch| {
                for block in first..(first + super::BLOCKS).min(blocks(head)) {
                    let shared = (&words, &scales);
                    self.pack_block_bytes(lanes, (head, places[head]), block, shared, scratch);
                }
            });
        });
    }

    fn pack_block_bytes<L: Lanes>(
        &self,
        lanes: L,
        (head, place): (usize, Place),
        block: usize,
        (words, scales): (&Shared<'_, Words>, &Shared<'_, f32>),
        scratch: &mut Scratch,
    ) {
        let (dim, segments) = (self.head_dim, self.heads[head].segments);
        let first = block * BLOCK;
        // SAFETY: every block has scales of its own of each kind.
        let scales = |kind| unsafe { scales.part(place.scales(kind, first, BLOCK)) };
        scratch.read(segments, Side::Keys, dim, first);
        let start = place.keys + first / LANES * place.depth;
        lanes.run(PackKeys {
            rows: &scratch.rows,
            dim,
            lines: &mut scratch.lines,
            // SAFETY: every block has panels of its own.
            to: unsafe { words.part(start..start + BLOCK / LANES * place.depth) },
            scales: scales(0),
        });
        scratch.read(segments, Side::Values, dim, first);
        let span = place.values + first / SPAN * place.width * QUADS;
        let quad = first % SPAN / 4;
        let panels = (0..place.width).map(|panel| {
            let start = span + panel * QUADS + quad;
            // SAFETY: every block has lines of its own of each panel.
            unsafe { words.part(start..start + LANES) }
        });
        lanes.run(PackValues {
            rows: &scratch.rows,
            dim,
            padded: &mut scratch.floats,
            panels,
            lifts: scales(1),
            inverses: scales(2),
        });
    }

    fn attend_bytes<L: Lanes>(
        &self,
        lanes: L,
        places: &[Place],
        packed: &Packed,
        output: &mut [f32],
    ) {
        let size = (QUERIES / self.group).max(1);
        let mut tiles: Vec<Tile> = (0..self.heads.len())
            .flat_map(|head| {
                (0..self.tokens)
                    .step_by(size)
                    .map(move |first| (head, first))
            })
            .map(|(head, first)| Tile {
                head,
                first,
                tokens: size.min(self.tokens - first),
            })
            .collect();
        // Late tokens see most: those who begin with them end together.
        tiles.sort_by_key(|tile| std::cmp::Reverse(tile.first));
        let output = Shared::new(output);
        self.pool.run(tiles.len(), |part| {
            let tile = &tiles[part];
            SCRATCH.with_borrow_mut(|scratch| {
                self.tile_bytes(lanes, tile, (places[tile.head], packed), scratch, &output);
            });
        });
    }

    fn tile_bytes<L: Lanes>(
        &self,
        lanes: L,
        tile: &Tile,
        (place, packed): (Place, &Packed),
        scratch: &mut Scratch,
        output: &Shared<'_, f32>,
    ) {
        let chunk = &self.heads[tile.head];
        let Scratch {
            lines,
            floats,
            queries,
            logits,
            weights,
            attended,
            so_far,
            ..
        } = scratch;
        self.scaled(tile, floats);
        queries.round(lanes, floats, self.head_dim, lines);
        let count = tile.tokens * self.group;
        let width = place.width * LANES;
        attended.clear();
        attended.resize(queries.len() * width, 0.0);
        so_far.clear();
        let nothing = SoFar {
            most: f32::NEG_INFINITY,
            total: 0.0,
        };
        so_far.resize(queries.len(), nothing);
        logits.resize(ROWS * SPAN, 0.0);
        weights.resize(ROWS * QUADS, 0);
        let token = |query: usize| tile.first + query.min(count - 1) / self.group;
        let own = |query: usize| chunk.columns() - self.tokens + token(query);
        for first in (0..=own(count - 1)).step_by(SPAN) {
            let parts = attended.chunks_exact_mut(ROWS * width);
            let parts = parts.zip(so_far.chunks_exact_mut(ROWS));
            for (part, (attended, so_far)) in parts.take(count.div_ceil(ROWS)).enumerate() {
                let rows = part * ROWS..(part + 1) * ROWS;
                let Some(seen) = (own(rows.end - 1) + 1).checked_sub(first) else {
                    continue;
                };
                let columns = seen.min(SPAN).next_multiple_of(BLOCK);
                let keys = place.keys + first / LANES * place.depth;
                lanes.run(Logits {
                    queries: queries.rows(rows.clone()),
                    keys: &packed.words[keys..keys + columns / LANES * place.depth],
                    scales: &packed.scales[place.scales(0, first, columns)],
                    lifts: &packed.scales[place.scales(1, first, columns)],
                    out: logits,
                });
                let mut factors = [[0.0; 2]; ROWS];
                for (row, query) in rows.enumerate() {
                    let logits = &mut logits[row * SPAN..][..columns];
                    let visible = (own(query) + 1).saturating_sub(first).min(columns);
                    chunk.hide(own(query), first, &mut logits[..visible]);
                    logits[visible..].fill(f32::NEG_INFINITY);
                    let weighed = lanes.run(Weigh {
                        logits,
                        inverses: &packed.scales[place.scales(2, first, columns)],
                        out: &mut weights[row * QUADS..][..columns / 4],
                    });
                    factors[row] = so_far[row].add(weighed);
                }
                let values = place.values + first / SPAN * place.width * QUADS;
                lanes.run(Values {
                    weights,
                    quads: columns / 4,
                    values: &packed.words[values..values + place.width * QUADS],
                    factors: &factors,
                    out: attended,
                });
            }
        }
        let rows = attended.chunks_exact(width).zip(so_far.iter());
        for (query, (row, so_far)) in rows.take(count).enumerate() {
            let factor = match so_far.total == 0.0 {
                true => 0.0,
                false => so_far.total.recip() as f32,
            };
            self.write(tile, query, row, factor, output);
        }
    }
}

impl SoFar {
    /// Adds a span whose largest weight has the logarithm `most` and whose weights' sum is `sum`, both as rounded to
    /// [`MOST`]. Returns what to multiply with: what was attended before, and the span's sums.
    fn add(&mut self, (most, sum): (f32, f32)) -> [f32; 2] {
        if most == f32::NEG_INFINITY {
            return [1.0, 0.0];
        }
        let now = self.most.max(most);
        let (before, here) = ((self.most - now).exp(), (most - now).exp() / MOST);
        self.most = now;
        self.total = self.total * f64::from(before) + f64::from(sum) * f64::from(here);
        [before, here]
    }
}
