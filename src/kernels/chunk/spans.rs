//! Attention over columns span by span, where no mass is wanted.

use super::{All, COLUMNS, KEYS, Place, Scratch, Tile, floats};
use crate::kernels::dense::{self, Dense, Panels, Rows};
use crate::kernels::line::{self, Line, Shared};
use crate::kernels::steps::{LANES, Steps};

/// Blocks of keys whose logits are held at once where no mass is wanted: with keys and values they stay in the second
/// cache,
const SPAN: usize = 16;
/// while so many times [`dense::ROWS`] queries read them.
pub(super) const PARTS: usize = 4;

/// Of the columns that a query has read: the largest logit, and the sum of the exponentials less that.
#[derive(Clone, Copy)]
pub(super) struct SoFar {
    max: f32,
    total: f64,
}

impl All<'_> {
    /// As [`All::tile`] where no mass is wanted: columns are read span by span, and what was attended so far is scaled
    /// whenever a larger logit comes (Milakov and Gimelshein, <https://arxiv.org/abs/1805.02867>; Dao,
    /// <https://arxiv.org/abs/2307.08691>). Spans begin at multiples of their length, whatever tokens are read together.
    pub(super) fn spans<S: Steps, D: Dense>(
        &self,
        (steps, dense): (S, D),
        tile: &Tile,
        (place, packed): (Place, &[Line]),
        scratch: &mut Scratch,
        output: &Shared<'_, f32>,
    ) {
        let chunk = &self.heads[tile.head];
        let (dim, group) = (self.head_dim, self.group);
        let (width, cut) = (place.width * COLUMNS, dense.lines(KEYS));
        let seen = |token: usize| chunk.columns() - (self.tokens - 1 - token);
        let blocks = seen(tile.first + tile.tokens - 1).div_ceil(KEYS);
        self.scaled(tile, &mut scratch.queries);
        let queries = tile.tokens * group;
        scratch.attended.clear();
        scratch.attended.resize(queries * width, 0.0);
        scratch.so_far.clear();
        let nothing = SoFar {
            max: f32::NEG_INFINITY,
            total: 0.0,
        };
        scratch.so_far.resize(queries, nothing);
        for block in (0..blocks).step_by(SPAN) {
            let stride = SPAN.min(blocks - block) * KEYS;
            let first = block * KEYS;
            let parts = scratch.queries.chunks(dense::ROWS * dim);
            let states = scratch.so_far.chunks_mut(dense::ROWS);
            let attended = scratch.attended.chunks_mut(dense::ROWS * width);
            for (part, ((queries, states), attended)) in parts.zip(states).zip(attended).enumerate()
            {
                let count = states.len();
                let token = |r: usize| tile.first + (part * dense::ROWS + r) / group;
                if seen(token(count - 1)) <= first {
                    continue;
                }
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
                    all: &packed[place.start + 2 * block * place.key..place.values()],
                    lines: place.key,
                    count: 2 * stride / KEYS,
                };
                dense.product(rows, keys, dim, &mut scratch.lines, logits, stride);
                let rows = logits.chunks_exact_mut(stride).zip(states);
                for (r, (row, state)) in rows.enumerate() {
                    let visible = seen(token(r)).saturating_sub(first).min(stride);
                    let own = token(r) + chunk.columns() - self.tokens;
                    chunk.hide(own, first, &mut row[..visible]);
                    row[visible..].fill(f32::NEG_INFINITY);
                    let (row, rest) = row.split_at_mut(visible.next_multiple_of(LANES));
                    rest.fill(0.0);
                    let (max, sum) = steps.exponentials(row, None, state.max);
                    if max > state.max {
                        let factor = (state.max - max).exp();
                        state.total *= f64::from(factor);
                        let attended = &mut attended[r * width..(r + 1) * width];
                        attended.iter_mut().for_each(|x| *x *= factor);
                    }
                    state.max = max;
                    state.total += sum;
                }
                let rows = Rows {
                    floats: logits,
                    stride,
                    count,
                };
                let values = Panels {
                    all: &packed[place.values() + block * cut..place.end()],
                    lines: place.value,
                    count: place.width,
                };
                let here = floats(line::take(&mut scratch.output, dense::ROWS * place.width));
                dense.product(rows, values, stride, &mut scratch.lines, here, width);
                attended.iter_mut().zip(here).for_each(|(a, x)| *a += *x);
            }
        }
        let rows = scratch.attended.chunks_exact(width).zip(&scratch.so_far);
        for (query, (row, state)) in rows.enumerate() {
            let factor = match state.total == 0.0 {
                true => 0.0,
                false => state.total.recip() as f32,
            };
            self.write(tile, query, row, factor, output);
        }
    }
}
