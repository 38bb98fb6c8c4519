//! Decode attention of one query group over several segments of keys and values.

use super::aligned::Aligned;
use super::hadamard::hadamard;
use super::level::Level;
use super::rows::RowsRef;
use super::steps::{self, Job, LANES, Packed, Steps, Weights};

#[cfg(test)]
mod tests;

/// Contiguous slots of one KV head, stored alike.
#[derive(Debug, Clone, Copy)]
pub struct Segment<'a> {
    /// `[len, head_dim]`. [`RowsRef::Int8`] keys lie rotated by [`hadamard`].
    pub keys: RowsRef<'a>,
    /// `[len, head_dim]`, never rotated.
    pub values: RowsRef<'a>,
    /// Slots.
    pub len: usize,
}

/// Buffers that one thread reuses from call to call; they grow to the longest call.
#[derive(Debug, Default)]
pub struct Scratch {
    pub(super) queries: Aligned,
    pub(super) rotated: Aligned,
    pub(super) weights: Aligned,
    totals: Vec<f64>,
}

/// Attention of one new token, for the `group` query heads that share one KV head (GQA,
/// <https://arxiv.org/abs/2305.13245>), with one softmax over the slots of all segments.
///
/// - `level`: the instructions; the best of the CPU when it lacks this one. The levels agree up to `f32` rounding.
/// - `queries`: `[group, head_dim]`, already scaled by `1 / sqrt(head_dim)` and not rotated by [`hadamard`]: where keys
///   are `Int8` the kernel rotates a copy.
/// - `bias`: one per slot over all segments in order, finite or `-inf`, added to the logits of every query. `-inf` hides
///   a slot: whatever its rows hold, it has no effect.
/// - `output`: `[group, head_dim]`, overwritten; zeros when every slot is hidden or there is none.
/// - `mass`: one per slot, set to the sum over the group of the softmax probability (what H2O accumulates,
///   <https://arxiv.org/abs/2306.14048>).
///
/// Rows are read fastest when they start on cache lines of 64 bytes, and when `head_dim` is a multiple of 16.
///
/// Rows that are not hidden must be finite; otherwise the output and the mass are unspecified.
///
/// # Panics
///
/// When `head_dim` is 0, `queries` is not whole rows of it, or any length differs from the shape above.
#[allow(
    clippy::too_many_arguments,
    reason = "inputs, then buffers, as the step has them"
)]
pub fn attend(
    level: Level,
    queries: &[f32],
    head_dim: usize,
    segments: &[Segment<'_>],
    bias: Option<&[f32]>,
    scratch: &mut Scratch,
    output: &mut [f32],
    mass: Option<&mut [f32]>,
) {
    assert!(head_dim > 0, "head_dim is 0");
    assert_eq!(queries.len() % head_dim, 0, "queries: rows of {head_dim}");
    assert_eq!(output.len(), queries.len(), "output: the shape of queries");
    for segment in segments {
        segment.keys.assert_shape("keys", segment.len, head_dim);
        segment.values.assert_shape("values", segment.len, head_dim);
    }
    let slots: usize = segments.iter().map(|segment| segment.len).sum();
    if let Some(bias) = bias {
        assert_eq!(bias.len(), slots, "bias: one per slot");
    }
    if let Some(mass) = &mass {
        assert_eq!(mass.len(), slots, "mass: one per slot");
    }
    output.fill(0.0);
    if queries.is_empty() || slots == 0 {
        if let Some(mass) = mass {
            mass.fill(0.0);
        }
        return;
    }

    let group = queries.len() / head_dim;
    let int8 = |segment: &Segment<'_>| matches!(segment.keys, RowsRef::Int8 { .. });
    let (queries, rotated) = pack_both(
        queries,
        head_dim,
        segments.iter().any(int8),
        (&mut scratch.queries, &mut scratch.rotated),
    );
    let weights_stride = slots.next_multiple_of(LANES);
    steps::run(
        level,
        Attend {
            queries,
            rotated,
            segments,
            slots,
            bias,
            weights: scratch.weights.take(group * weights_stride),
            weights_stride,
            totals: &mut scratch.totals,
            output,
            mass,
        },
    );
}

/// Queries for keys that lie as they are, and, where `int8` keys are among them, for those, which lie rotated.
pub(super) fn pack_both<'a>(
    queries: &[f32],
    head_dim: usize,
    int8: bool,
    (packed, rotated): (&'a mut Aligned, &'a mut Aligned),
) -> (Packed<'a>, Packed<'a>) {
    let stride = head_dim.next_multiple_of(LANES);
    let len = queries.len() / head_dim * stride;
    let rows = packed.take(len);
    pack(queries, head_dim, rows);
    let queries = Packed {
        rows,
        stride,
        head_dim,
    };
    if !int8 {
        return (queries, queries);
    }
    let rows = rotated.take(len);
    rows.copy_from_slice(queries.rows);
    for row in rows.chunks_exact_mut(stride) {
        hadamard(&mut row[..head_dim]);
    }
    (queries, Packed { rows, ..queries })
}

/// Copies rows of `head_dim` to distances of its next multiple of [`LANES`], so that each starts on a cache line.
pub(super) fn pack(rows: &[f32], head_dim: usize, packed: &mut [f32]) {
    let targets = packed.chunks_exact_mut(head_dim.next_multiple_of(LANES));
    for (target, row) in targets.zip(rows.chunks_exact(head_dim)) {
        target[..head_dim].copy_from_slice(row);
    }
}

struct Attend<'a> {
    queries: Packed<'a>,
    rotated: Packed<'a>,
    segments: &'a [Segment<'a>],
    slots: usize,
    bias: Option<&'a [f32]>,
    weights: &'a mut [f32],
    weights_stride: usize,
    totals: &'a mut Vec<f64>,
    output: &'a mut [f32],
    mass: Option<&'a mut [f32]>,
}

impl Job for Attend<'_> {
    fn run<S: Steps>(self, steps: S) {
        let head_dim = self.queries.head_dim;
        let stride = self.weights_stride;
        let mut start = 0;
        for segment in self.segments {
            let queries = match segment.keys {
                RowsRef::Int8 { .. } => self.rotated,
                RowsRef::F32(_) | RowsRef::Bf16(_) => self.queries,
            };
            if segment.len > 0 {
                steps.logits(queries, segment.keys, &mut self.weights[start..], stride);
            }
            start += segment.len;
        }

        let rows = self.weights.chunks_exact_mut(stride);
        self.totals.clear();
        self.totals.extend(rows.map(|row| {
            row[self.slots..].fill(f32::NEG_INFINITY);
            steps.softmax(row, self.bias)
        }));

        let mut start = 0;
        for segment in self.segments {
            let end = start + segment.len;
            let weights = Weights {
                rows: &self.weights[start..],
                stride,
                bias: self.bias.map(|bias| &bias[start..end]),
            };
            if segment.len > 0 {
                steps.values(weights, segment.values, head_dim, self.output);
            }
            start = end;
        }

        let factors = self.totals.iter().map(|total| {
            if *total == 0.0 {
                0.0
            } else {
                total.recip() as f32
            }
        });
        for (row, factor) in self.output.chunks_exact_mut(head_dim).zip(factors.clone()) {
            row.iter_mut().for_each(|x| *x *= factor);
        }
        if let Some(mass) = self.mass {
            mass.fill(0.0);
            for (row, factor) in self.weights.chunks_exact(stride).zip(factors) {
                steps.add_scaled(&row[..self.slots], factor, mass);
            }
        }
    }
}
