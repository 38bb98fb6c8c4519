//! Attention of many new tokens of one sequence at once.

use std::cell::RefCell;

use half::bf16;

use super::attention::Segment;
use super::dense::{self, COLUMNS, Dense, Floats, Panels, Rows};
use super::hadamard::hadamard;
use super::level::Level;
use super::line::{self, Line, Shared};
use super::pool::Pool;
use super::precision::Precision;
use super::quantize::dequantize_row;
use super::rows::RowsRef;
use super::steps::{self, Job, LANES, Steps, add_bias};
use spans::{PARTS, SoFar};

mod spans;
#[cfg(test)]
mod tests;
mod whole;

/// Keys that are packed together: a pair of panels, and one cut of the depth of values.
const KEYS: usize = 2 * COLUMNS;

/// Blocks of keys that a part packs: one takes less than a microsecond.
const BLOCKS: usize = 8;

const _: () = assert!(KEYS == dense::DEPTH && KEYS == dense::ROWS);

/// What the new tokens' queries of one KV head read. Columns are the slots of all segments in order; the last ones are
/// the new tokens' own, which see each other causally. All other columns are seen by all.
#[derive(Debug, Clone, Copy)]
pub struct Chunk<'a> {
    /// Those of each token, `[group, head_dim]`, `stride` floats after those of the one before; not rotated by
    /// [`hadamard`].
    pub queries: &'a [f32],
    /// Floats from token to token.
    pub stride: usize,
    /// What queries are multiplied with, `1 / sqrt(head_dim)`.
    pub scale: f32,
    /// As for [`attend`](super::attend).
    pub segments: &'a [Segment<'a>],
    /// Added to the logits of every query, one per column, finite or `-inf`.
    pub bias: Option<&'a [f32]>,
    /// What else is hidden.
    pub window: Option<Window<'a>>,
    /// Whether [`Received::sums`] is wanted.
    pub sums: bool,
    /// One per token, where [`Received::weighed`] is wanted; else empty.
    pub weights: &'a [f32],
}

/// A sliding window: a query at position `p` sees no column at `p - width` or before.
#[derive(Debug, Clone, Copy)]
pub struct Window<'a> {
    /// One per column; `u32::MAX` is seen by all.
    pub positions: &'a [u32],
    /// Positions that a query sees, its own too.
    pub width: usize,
}

/// What the columns of one KV head received from [`attend_chunk`].
#[derive(Debug, Clone, Default)]
pub struct Received {
    /// One per column, the sum over all queries of the softmax probability; empty if it is not wanted.
    pub sums: Vec<f32>,
    /// Likewise, every query's probabilities times its token's weight.
    pub weighed: Vec<f32>,
}

/// Attention of `tokens` new tokens, KV head by KV head of `group` query heads, with one softmax over all segments as
/// [`attend`](super::attend) has. Sets `output`, `[tokens, heads, group, head_dim]`. The mass of a column is exact: where it
/// is wanted, a tile of queries holds the logits of all columns at once. Nowhere is the softmax approximated.
///
/// With [`Precision::Float32`] the error is that of sums in `f32`. From [`Level::Bf16`] on queries, keys, probabilities before
/// they are divided by their sum, and values may be rounded as [`Precision`] says: to 8 bits of a mantissa, or to 16.
/// Logits are then off by at most `2^-7` (`2^-14`) of the sum of the magnitudes of their products, and so, relatively, are
/// probabilities and their sums.
///
/// # Panics
///
/// When `head_dim`, `group` or `tokens` is 0, when there are fewer columns than tokens, or when another length differs from
/// its shape.
pub fn attend_chunk(
    level: Level,
    precision: Precision,
    pool: &Pool,
    heads: &[Chunk<'_>],
    (tokens, group, head_dim): (usize, usize, usize),
    output: &mut [f32],
) -> Vec<Received> {
    assert!(
        head_dim > 0 && tokens > 0 && group > 0,
        "head_dim, group or tokens is 0"
    );
    let shape = heads.len().checked_mul(tokens * group * head_dim);
    assert_eq!(Some(output.len()), shape, "output: {tokens} tokens");
    for head in heads {
        head.check(tokens, group, head_dim);
    }
    let all = All {
        pool,
        heads,
        head_dim,
        tokens,
        group,
    };
    if precision == Precision::Int8 && !heads.iter().any(Chunk::mass_wanted) {
        steps::run(level, whole::InBytes(&all, output));
        return vec![Received::default(); heads.len()];
    }
    #[cfg(target_arch = "x86_64")]
    if let Some(cpu) = super::x86::Halves::detect(level) {
        let steps = cpu.vectors();
        match precision {
            Precision::Float32 => {}
            Precision::Split => return all.run(steps, super::x86::Tiled::<true>(cpu), output),
            Precision::Bfloat16 | Precision::Int8 => {
                return all.run(steps, super::x86::Tiled::<false>(cpu), output);
            }
        }
    }
    let mut found = Vec::new();
    steps::run(level, InFloats(all, output, &mut found));
    found
}

struct InFloats<'a>(All<'a>, &'a mut [f32], &'a mut Vec<Received>);

impl Job for InFloats<'_> {
    fn run<S: Steps>(self, steps: S) {
        *self.2 = self.0.run(steps, Floats(steps.vectors()), self.1);
    }
}

impl Chunk<'_> {
    fn columns(&self) -> usize {
        self.segments.iter().map(|segment| segment.len).sum()
    }

    fn mass_wanted(&self) -> bool {
        self.sums || !self.weights.is_empty()
    }

    fn check(&self, tokens: usize, group: usize, head_dim: usize) {
        let needed = (tokens - 1).saturating_mul(self.stride) + group * head_dim;
        assert!(
            self.stride >= group * head_dim && self.queries.len() >= needed,
            "queries: {tokens} tokens"
        );
        for segment in self.segments {
            segment.keys.assert_shape("keys", segment.len, head_dim);
            segment.values.assert_shape("values", segment.len, head_dim);
        }
        let columns = self.columns();
        assert!(columns >= tokens, "{columns} columns for {tokens} tokens");
        if let Some(bias) = self.bias {
            assert_eq!(bias.len(), columns, "bias: one per column");
        }
        if let Some(window) = self.window {
            assert_eq!(window.positions.len(), columns, "positions: one per column");
        }
        let weights = self.weights.len();
        assert!(weights == 0 || weights == tokens, "weights: one per token");
    }
}

thread_local! {
    /// Packed keys and values of the call that this thread makes.
    static PACKED: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
    /// Of the part that this thread computes.
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

#[derive(Default)]
struct Scratch {
    lines: Vec<Line>,
    rows: Vec<f32>,
    queries: Vec<f32>,
    logits: Vec<Line>,
    output: Vec<Line>,
    column: Vec<Line>,
    attended: Vec<f32>,
    so_far: Vec<SoFar>,
}

struct All<'a> {
    pool: &'a Pool,
    heads: &'a [Chunk<'a>],
    head_dim: usize,
    tokens: usize,
    group: usize,
}

/// Where the packed keys and values of a head are.
#[derive(Clone, Copy)]
struct Place {
    start: usize,
    blocks: usize,
    /// Lines of a panel of keys, and of one of values.
    key: usize,
    value: usize,
    /// Panels of values, an even number.
    width: usize,
}

impl Place {
    fn values(&self) -> usize {
        self.start + 2 * self.blocks * self.key
    }

    fn end(&self) -> usize {
        self.values() + self.width * self.value
    }
}

impl All<'_> {
    fn run<S: Steps, D: Dense>(&self, steps: S, dense: D, output: &mut [f32]) -> Vec<Received> {
        let mut places: Vec<Place> = Vec::with_capacity(self.heads.len());
        for head in self.heads {
            let blocks = head.columns().div_ceil(KEYS);
            places.push(Place {
                start: places.last().map_or(0, Place::end),
                blocks,
                key: dense.lines(self.head_dim),
                value: dense.lines(blocks * KEYS),
                width: 2 * self.head_dim.div_ceil(2 * COLUMNS),
            });
        }
        PACKED.with_borrow_mut(|packed| {
            let packed = line::take(packed, places.last().map_or(0, Place::end));
            self.pack(dense, &places, packed);
            self.attend(steps, dense, (&places, packed), output)
        })
    }

    fn pack<D: Dense>(&self, dense: D, places: &[Place], packed: &mut [Line]) {
        let shared = Shared::new(packed);
        let parts: Vec<(usize, usize)> = (0..places.len())
            .flat_map(|head| {
                (0..places[head].blocks)
                    .step_by(BLOCKS)
                    .map(move |b| (head, b))
            })
            .collect();
        self.pool.run(parts.len(), |part| {
            let (head, first) = parts[part];
            SCRATCH.with_borrow_mut(|scratch| {
                for block in first..(first + BLOCKS).min(places[head].blocks) {
                    self.pack_block(dense, head, places[head], block, &shared, scratch);
                }
            });
        });
    }

    #[allow(unsafe_code, reason = "blocks of keys take lines of their own")]
    fn pack_block<D: Dense>(
        &self,
        dense: D,
        head: usize,
        place: Place,
        block: usize,
        shared: &Shared<'_, Line>,
        scratch: &mut Scratch,
    ) {
        let (dim, segments) = (self.head_dim, self.heads[head].segments);
        let rows = &mut scratch.rows;
        let columns = line::take(&mut scratch.column, dim.max(KEYS));
        let stored = halves(segments, dim, block * KEYS);
        let mut floats = false;
        for panel in 0..KEYS / COLUMNS {
            let start = place.start + (2 * block + panel) * place.key;
            // SAFETY: every block has two panels of keys of its own.
            let to = unsafe { shared.part(start..start + place.key) };
            let keys = panel * COLUMNS * dim..(panel + 1) * COLUMNS * dim;
            if stored.is_some_and(|(stored, _)| dense.pack_columns(&stored[keys.clone()], dim, to))
            {
                continue;
            }
            if !floats {
                read(segments, Side::Keys, dim, block * KEYS, rows);
                floats = true;
            }
            let keys = &rows[keys];
            for (k, line) in columns[..dim].iter_mut().enumerate() {
                for (x, key) in line.0.iter_mut().zip(keys.chunks_exact(dim)) {
                    *x = key[k];
                }
            }
            dense.pack(&columns[..dim], to);
        }
        let cut = dense.lines(KEYS);
        let mut floats = false;
        for panel in 0..place.width {
            let start = place.values() + panel * place.value + block * cut;
            // SAFETY: every block has a cut of its own of every panel of values.
            let to = unsafe { shared.part(start..start + cut) };
            let first = panel * COLUMNS;
            if stored.is_some_and(|(_, stored)| dense.pack_rows(stored, dim, first, to)) {
                continue;
            }
            if !floats {
                read(segments, Side::Values, dim, block * KEYS, rows);
                floats = true;
            }
            let from = (panel * COLUMNS).min(dim);
            let width = (dim - from).min(COLUMNS);
            for (line, value) in columns[..KEYS].iter_mut().zip(rows.chunks_exact(dim)) {
                *line = Line::default();
                line.0[..width].copy_from_slice(&value[from..from + width]);
            }
            dense.pack(&columns[..KEYS], to);
        }
    }

    #[allow(unsafe_code, reason = "tiles write results of their own")]
    fn attend<S: Steps, D: Dense>(
        &self,
        steps: S,
        dense: D,
        (places, packed): (&[Place], &[Line]),
        output: &mut [f32],
    ) -> Vec<Received> {
        let mut tiles: Vec<Tile> = Vec::new();
        for (head, chunk) in self.heads.iter().enumerate() {
            let size = match chunk.mass_wanted() {
                true => (dense::ROWS / self.group).max(1),
                false => (PARTS * dense::ROWS / self.group).max(1),
            };
            tiles.extend((0..self.tokens).step_by(size).map(|first| Tile {
                head,
                first,
                tokens: size.min(self.tokens - first),
            }));
        }
        // Late tokens see most: those who begin with them end together.
        tiles.sort_by_key(|tile| std::cmp::Reverse(tile.first));
        let mut masses: Vec<[Vec<f32>; 2]> = tiles.iter().map(|_| Default::default()).collect();
        {
            let output = Shared::new(output);
            let shared = Shared::new(&mut masses);
            self.pool.run(tiles.len(), |part| {
                let tile = &tiles[part];
                // SAFETY: every tile has masses of its own.
                let mass = unsafe { shared.part(part..part + 1) };
                SCRATCH.with_borrow_mut(|scratch| {
                    let chunk = &self.heads[tile.head];
                    let place = (places[tile.head], packed);
                    if chunk.mass_wanted() {
                        let results = (&output, &mut mass[0]);
                        self.tile((steps, dense), tile, place, scratch, results);
                    } else {
                        self.spans((steps, dense), tile, place, scratch, &output);
                    }
                });
            });
        }
        let heads = 0..self.heads.len();
        heads
            .map(|head| {
                let own = tiles
                    .iter()
                    .zip(&masses)
                    .filter(|(tile, _)| tile.head == head);
                self.gather(head, own.map(|(_, mass)| mass))
            })
            .collect()
    }

    /// Adds the masses of a head's tiles, always in the same order.
    fn gather<'m>(&self, head: usize, masses: impl Iterator<Item = &'m [Vec<f32>; 2]>) -> Received {
        let chunk = &self.heads[head];
        let columns = chunk.columns();
        let mut received = Received {
            sums: vec![0.0; if chunk.sums { columns } else { 0 }],
            weighed: vec![0.0; if chunk.weights.is_empty() { 0 } else { columns }],
        };
        for [sums, weighed] in masses {
            let add = |to: &mut [f32], from: &[f32]| {
                to.iter_mut().zip(from).for_each(|(a, b)| *a += b);
            };
            add(&mut received.sums, sums);
            add(&mut received.weighed, weighed);
        }
        received
    }

    fn tile<S: Steps, D: Dense>(
        &self,
        (steps, dense): (S, D),
        tile: &Tile,
        (place, packed): (Place, &[Line]),
        scratch: &mut Scratch,
        (output, masses): (&Shared<'_, f32>, &mut [Vec<f32>; 2]),
    ) {
        let chunk = &self.heads[tile.head];
        let (dim, group) = (self.head_dim, self.group);
        let seen = |token: usize| chunk.columns() - (self.tokens - 1 - token);
        let most = seen(tile.first + tile.tokens - 1);
        let blocks = most.div_ceil(KEYS);
        let stride = blocks * KEYS;
        let [sums, weighed] = masses;
        sums.resize(if chunk.sums { most } else { 0 }, 0.0);
        let own = |weights: &[f32]| {
            weights
                .iter()
                .skip(tile.first)
                .take(tile.tokens)
                .any(|w| *w != 0.0)
        };
        weighed.resize(if own(chunk.weights) { most } else { 0 }, 0.0);

        self.scaled(tile, &mut scratch.queries);
        // A group of more heads than a tile has rows is done in parts.
        for (part, queries) in scratch.queries.chunks(dense::ROWS * dim).enumerate() {
            let count = queries.len() / dim;
            let logits = floats(line::take(
                &mut scratch.logits,
                dense::ROWS * stride / COLUMNS,
            ));
            let rows = Rows {
                floats: queries,
                stride: dim,
                count,
            };
            let keys = Panels {
                all: &packed[place.start..place.values()],
                lines: place.key,
                count: 2 * blocks,
            };
            dense.product(rows, keys, dim, &mut scratch.lines, logits, stride);

            let mut factors = [0.0; dense::ROWS];
            for (r, row) in logits.chunks_exact_mut(stride).take(count).enumerate() {
                let token = tile.first + (part * dense::ROWS + r) / group;
                let visible = seen(token);
                chunk.hide(
                    token + chunk.columns() - self.tokens,
                    0,
                    &mut row[..visible],
                );
                row[visible..].fill(f32::NEG_INFINITY);
                // What follows the last vector that has anything to see.
                let (row, rest) = row.split_at_mut(visible.next_multiple_of(LANES));
                rest.fill(0.0);
                let total = steps.softmax(row, None);
                let factor = match total == 0.0 {
                    true => 0.0,
                    false => total.recip() as f32,
                };
                factors[r] = factor;
                if !sums.is_empty() {
                    steps.add_scaled(&row[..visible], factor, &mut sums[..visible]);
                }
                match chunk.weights.get(token) {
                    Some(&weight) if weight != 0.0 => {
                        steps.add_scaled(&row[..visible], factor * weight, &mut weighed[..visible]);
                    }
                    _ => {}
                }
            }
            let width = place.width * COLUMNS;
            let attended = floats(line::take(&mut scratch.output, dense::ROWS * place.width));
            let rows = Rows {
                floats: logits,
                stride,
                count,
            };
            let values = Panels {
                all: &packed[place.values()..place.end()],
                lines: place.value,
                count: place.width,
            };
            dense.product(rows, values, stride, &mut scratch.lines, attended, width);
            let rows = attended.chunks_exact(width).zip(factors).take(count);
            for (r, (row, factor)) in rows.enumerate() {
                self.write(tile, part * dense::ROWS + r, row, factor, output);
            }
        }
    }

    /// The queries of a tile, scaled.
    fn scaled(&self, tile: &Tile, to: &mut Vec<f32>) {
        let chunk = &self.heads[tile.head];
        to.clear();
        for token in tile.first..tile.first + tile.tokens {
            let own = &chunk.queries[token * chunk.stride..][..self.group * self.head_dim];
            to.extend(own.iter().map(|x| x * chunk.scale));
        }
    }

    /// Writes what query `query` of a tile attended to.
    #[allow(unsafe_code, reason = "tiles write results of their own")]
    fn write(&self, tile: &Tile, query: usize, row: &[f32], factor: f32, output: &Shared<'_, f32>) {
        let (dim, group) = (self.head_dim, self.group);
        let token = tile.first + query / group;
        let at = (token * self.heads.len() + tile.head) * group + query % group;
        // SAFETY: every tile has queries of its own.
        let output = unsafe { output.part(at * dim..(at + 1) * dim) };
        let scaled = row.iter().map(|x| x * factor);
        output.iter_mut().zip(scaled).for_each(|(o, x)| *o = x);
    }
}

impl Chunk<'_> {
    /// Applies bias and window to the logits, from column `first` on, of the query whose own column is `column`.
    fn hide(&self, column: usize, first: usize, row: &mut [f32]) {
        if let Some(bias) = self.bias {
            add_bias(row, &bias[first..]);
        }
        let Some(window) = self.window else {
            return;
        };
        let now = window.positions[column] as usize;
        let Some(passed) = now.checked_sub(window.width) else {
            return;
        };
        for (x, &position) in row.iter_mut().zip(&window.positions[first..]) {
            if position as usize <= passed {
                *x = f32::NEG_INFINITY;
            }
        }
    }
}

/// Queries of neighbouring tokens of one head.
struct Tile {
    head: usize,
    first: usize,
    tokens: usize,
}

#[allow(unsafe_code, reason = "lines are floats")]
fn floats(lines: &mut [Line]) -> &mut [f32] {
    // SAFETY: a line is 16 floats without padding, and any bits are a float.
    unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), lines.len() * COLUMNS) }
}

#[derive(Clone, Copy, PartialEq)]
enum Side {
    Keys,
    Values,
}

/// [`KEYS`] rows of keys and values from `start` on, where they lie as `bf16` in one segment.
fn halves<'a>(
    segments: &[Segment<'a>],
    dim: usize,
    start: usize,
) -> Option<(&'a [bf16], &'a [bf16])> {
    let mut skip = start;
    for segment in segments {
        if skip >= segment.len {
            skip -= segment.len;
            continue;
        }
        let range = skip * dim..(skip + KEYS) * dim;
        return match (segment.keys, segment.values) {
            (RowsRef::Bf16(keys), RowsRef::Bf16(values)) => {
                Some((keys.get(range.clone())?, values.get(range)?))
            }
            _ => None,
        };
    }
    None
}

/// [`KEYS`] rows from `start` on as floats, `[KEYS, dim]`; zeros beyond the last.
fn read(segments: &[Segment<'_>], side: Side, dim: usize, start: usize, rows: &mut Vec<f32>) {
    rows.clear();
    rows.resize(KEYS * dim, 0.0);
    let mut targets = rows.chunks_exact_mut(dim);
    let mut skip = start;
    for segment in segments {
        let stored = match side {
            Side::Keys => segment.keys,
            Side::Values => segment.values,
        };
        for row in skip.min(segment.len)..segment.len {
            let Some(to) = targets.next() else {
                return;
            };
            let range = row * dim..(row + 1) * dim;
            match stored {
                RowsRef::F32(all) => to.copy_from_slice(&all[range]),
                RowsRef::Bf16(all) => {
                    to.iter_mut()
                        .zip(&all[range])
                        .for_each(|(x, b)| *x = f32::from_bits(u32::from(b.to_bits()) << 16));
                }
                RowsRef::Int8 { values, scales } => {
                    dequantize_row(&values[range], scales[row], to);
                    if side == Side::Keys {
                        // The transform is its own inverse.
                        hadamard(to);
                    }
                }
            }
        }
        skip = skip.saturating_sub(segment.len);
    }
}
