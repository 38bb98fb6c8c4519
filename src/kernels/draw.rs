//! How much attention each key would draw, without its value: what is worth attending to again.

use std::ops::Range;

use super::attention::{Scratch, pack_both};
use super::level::Level;
use super::rows::RowsRef;
use super::steps::{self, Job, LANES, Packed, Steps};

/// Queries whose logits are held at a time.
const BLOCK: usize = 16;

/// Consecutive keys of one KV head, stored alike.
#[derive(Debug, Clone, Copy)]
pub struct Keys<'a> {
    /// `[len, head_dim]`. [`RowsRef::Int8`] keys lie rotated by [`hadamard`](super::hadamard()).
    pub rows: RowsRef<'a>,
    /// Rows.
    pub len: usize,
}

/// Sets `out` to one number per key and then per bound: the sum over the queries of the square of the softmax
/// probability, over all of them, that the key draws. The square lets one query that looks for a key win against many
/// that take no notice of it.
///
/// - `queries`: `[n, head_dim]`, already scaled by `1 / sqrt(head_dim)` and not rotated by [`hadamard`](super::hadamard()).
/// - `bounds`: `[n, bounds per query]`, logits that stand for keys that are not at hand.
///
/// # Panics
///
/// When `head_dim` is 0, `queries` or `bounds` are not whole rows, or the length of any rows differs from its `len`.
pub fn draw(
    level: Level,
    queries: &[f32],
    head_dim: usize,
    keys: &[Keys<'_>],
    bounds: &[f32],
    scratch: &mut Scratch,
    out: &mut Vec<f32>,
) {
    assert!(head_dim > 0, "head_dim is 0");
    assert_eq!(queries.len() % head_dim, 0, "queries: rows of {head_dim}");
    for keys in keys {
        keys.rows.assert_shape("keys", keys.len, head_dim);
    }
    let n = queries.len() / head_dim;
    let extra = bounds.len().checked_div(n).unwrap_or(0);
    assert_eq!(bounds.len(), extra * n, "bounds: as many for each query");
    let slots = keys.iter().map(|keys| keys.len).sum::<usize>() + extra;
    out.clear();
    out.resize(slots, 0.0);
    if n == 0 || slots == 0 {
        return;
    }
    let int8 = |keys: &Keys<'_>| matches!(keys.rows, RowsRef::Int8 { .. });
    let (queries, rotated) = pack_both(
        queries,
        head_dim,
        keys.iter().any(int8),
        (&mut scratch.queries, &mut scratch.rotated),
    );
    let width = slots.next_multiple_of(LANES);
    steps::run(
        level,
        Draw {
            queries,
            rotated,
            keys,
            bounds,
            extra,
            weights: scratch.weights.take(BLOCK.min(n) * width),
            width,
            out,
        },
    );
}

fn part(queries: Packed<'_>, range: Range<usize>) -> Packed<'_> {
    Packed {
        rows: &queries.rows[range],
        ..queries
    }
}

struct Draw<'a> {
    queries: Packed<'a>,
    rotated: Packed<'a>,
    keys: &'a [Keys<'a>],
    bounds: &'a [f32],
    extra: usize,
    weights: &'a mut [f32],
    /// Of a row of weights.
    width: usize,
    out: &'a mut [f32],
}

impl Job for Draw<'_> {
    fn run<S: Steps>(self, steps: S) {
        let (width, row) = (self.width, self.queries.stride);
        for from in (0..self.queries.group()).step_by(BLOCK) {
            let to = self.queries.group().min(from + BLOCK);
            let rows = from * row..to * row;
            let mut start = 0;
            for keys in self.keys.iter().filter(|keys| keys.len > 0) {
                let queries = match keys.rows {
                    RowsRef::Int8 { .. } => part(self.rotated, rows.clone()),
                    RowsRef::F32(_) | RowsRef::Bf16(_) => part(self.queries, rows.clone()),
                };
                steps.logits(queries, keys.rows, &mut self.weights[start..], width);
                start += keys.len;
            }
            let weights = self.weights.chunks_exact_mut(width);
            for (query, weights) in (from..to).zip(weights) {
                let bounds = &self.bounds[query * self.extra..(query + 1) * self.extra];
                weights[start..start + self.extra].copy_from_slice(bounds);
                weights[self.out.len()..].fill(f32::NEG_INFINITY);
                let total = steps.softmax(weights, None);
                if total == 0.0 {
                    continue;
                }
                let factor = total.recip() as f32;
                for (out, weight) in self.out.iter_mut().zip(&*weights) {
                    let drawn = weight * factor;
                    *out += drawn * drawn;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use half::bf16;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::kernels::{hadamard, quantize_row};

    /// The definition, in `f64`.
    fn reference(queries: &[f32], keys: &[f32], bounds: &[f32], dim: usize) -> Vec<f64> {
        let n = queries.len() / dim;
        let extra = bounds.len() / n;
        let mut out = vec![0.0; keys.len() / dim + extra];
        for (index, query) in queries.chunks(dim).enumerate() {
            let dot = |key: &[f32]| -> f64 {
                let products = key.iter().zip(query);
                products.map(|(&k, &q)| f64::from(k) * f64::from(q)).sum()
            };
            let mut logits: Vec<f64> = keys.chunks(dim).map(dot).collect();
            logits.extend(
                bounds[index * extra..(index + 1) * extra]
                    .iter()
                    .map(|&b| f64::from(b)),
            );
            let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let total: f64 = logits.iter().map(|l| (l - largest).exp()).sum();
            for (out, logit) in out.iter_mut().zip(logits) {
                *out += ((logit - largest).exp() / total).powi(2);
            }
        }
        out
    }

    proptest! {
        #[test]
        fn every_level_equals_the_definition(
            half_dim in 1usize..70, n in 1usize..40, lens in (1usize..50, 0usize..50, 0usize..50), extra in 0usize..20,
            seed in vec(-1.0f32..1.0, 997),
        ) {
            // Rotated rows are powers of two long.
            let dim = if lens.2 > 0 { (half_dim / 2 + 1).next_power_of_two() } else { half_dim };
            let at = |i: usize| seed[(i * 31 + i / 500) % seed.len()];
            let queries: Vec<f32> = (0..n * dim).map(|i| at(i) * 2.0).collect();
            let bounds: Vec<f32> = (0..n * extra).map(|i| at(i + 5) * 3.0).collect();
            let rows = |from: usize, len: usize| -> Vec<f32> { (0..len * dim).map(|i| at(i + from)).collect() };
            let plain = rows(7, lens.0);
            let halves: Vec<bf16> = rows(100, lens.1).into_iter().map(bf16::from_f32).collect();
            let (mut bytes, mut scales, mut small) = (vec![0i8; lens.2 * dim], Vec::new(), Vec::new());
            for (row, bytes) in rows(200, lens.2).chunks(dim).zip(bytes.chunks_mut(dim)) {
                let mut turned = row.to_vec();
                hadamard(&mut turned);
                let scale = quantize_row(&turned, bytes);
                let mut back: Vec<f32> = bytes.iter().map(|&b| f32::from(b) * scale).collect();
                hadamard(&mut back);
                scales.push(scale);
                small.extend(back);
            }
            let keys = [
                Keys { rows: RowsRef::F32(&plain), len: lens.0 },
                Keys { rows: RowsRef::Bf16(&halves), len: lens.1 },
                Keys { rows: RowsRef::Int8 { values: &bytes, scales: &scales }, len: lens.2 },
            ];
            let halves: Vec<f32> = halves.iter().map(|h| h.to_f32()).collect();
            let expected = reference(&queries, &[plain.clone(), halves, small].concat(), &bounds, dim);
            let (mut scratch, mut out) = (Scratch::default(), vec![9.0; 3]);
            for level in Level::available() {
                draw(level, &queries, dim, &keys, &bounds, &mut scratch, &mut out);
                prop_assert_eq!(out.len(), expected.len());
                for (found, expected) in out.iter().zip(&expected) {
                    let error = (f64::from(*found) - expected).abs();
                    prop_assert!(error <= 1e-4 * (1.0 + expected), "{level:?}: {found} and {expected}");
                }
            }
        }
    }

    #[test]
    fn without_queries_or_keys_nothing_is_drawn() {
        let (mut scratch, mut out) = (Scratch::default(), vec![9.0]);
        let keys = [Keys {
            rows: RowsRef::F32(&[1.0, 2.0]),
            len: 1,
        }];
        draw(Level::best(), &[], 2, &keys, &[], &mut scratch, &mut out);
        assert_eq!(out, [0.0]);
        draw(
            Level::best(),
            &[1.0, 1.0],
            2,
            &[],
            &[],
            &mut scratch,
            &mut out,
        );
        assert!(out.is_empty());
    }
}
