//! Many queries of one row at once, through the kernels.

use tch::TchError;

use super::super::block::Span;
use super::super::head::HeadCache;
use super::super::kv_rows::Pair;
use super::Attention;
use super::steps::Projected;
use crate::kernels::{Chunk, Level, Pool, Precision, RowsRef, Segment, Window, attend_chunk};
use crate::kv::{Fast, Paid, Summary};

/// What one KV head's queries read. Means and recalled rows first: the last columns are the row's own.
struct HeadInput<'a> {
    segments: Vec<Segment<'a>>,
    bias: Option<Vec<f32>>,
    /// Where a sliding window hides some.
    positions: Option<Vec<u32>>,
}

impl Attention {
    /// All heads of one span, whose tokens were just written; its rows of `output` `[tokens of all, heads * head_dim]`
    /// are set.
    pub(super) fn long(
        &self,
        projected: &Projected<'_>,
        span: &mut Span<'_>,
        pool: &Pool,
        precision: Precision,
        output: &mut [f32],
    ) -> Result<(), TchError> {
        let (part, dim) = (self.group() * self.head_dim, self.head_dim);
        let stride = self.heads * dim;
        let need = span.cache.policy().need();
        let reading = &span.reading;
        let (shared, heads) = span.cache.layer(self.layer);
        let inputs = heads.iter().enumerate().map(|(index, head)| {
            let pairs: Vec<&Pair> = head.segments(shared, (self.layer, index)).collect();
            self.input(head, &pairs)
        });
        let inputs: Vec<HeadInput<'_>> = inputs.collect();
        let weights: &[f32] = match need.fast {
            Fast::Nothing => &[],
            _ => &reading.weights,
        };
        let rows = &projected.rows[span.offset * projected.width..];
        let chunks: Vec<Chunk<'_>> = inputs
            .iter()
            .enumerate()
            .map(|(index, input)| Chunk {
                queries: &rows[index * part..],
                stride: projected.width,
                scale: 1.0 / (dim as f32).sqrt(),
                segments: &input.segments,
                bias: input.bias.as_deref(),
                window: input
                    .positions
                    .as_deref()
                    .zip(self.sliding_window)
                    .map(|(positions, width)| Window { positions, width }),
                sums: need.sums,
                weights,
            })
            .collect();
        let output = &mut output[span.offset * stride..(span.offset + span.tokens) * stride];
        let shape = (span.tokens, self.group(), dim);
        let found = attend_chunk(Level::best(), precision, pool, &chunks, shape, output);
        drop(chunks);
        drop(inputs);
        for (head, found) in heads.iter_mut().zip(found) {
            let extra = extra(head);
            head.slots.pay(&Paid {
                sums: found.sums.get(extra..).unwrap_or_default(),
                fast: found.weighed.get(extra..).unwrap_or_default(),
                keep: reading.keep_row,
            });
        }
        Ok(())
    }

    fn input<'a>(&self, head: &'a HeadCache, pairs: &[&'a Pair]) -> HeadInput<'a> {
        let extra = extra(head);
        let mut segments = Vec::with_capacity(pairs.len() + 2);
        let means = head.summary.as_ref().filter(|means| !means.is_empty());
        if let Some(means) = means {
            segments.push(Segment {
                keys: RowsRef::F32(means.keys()),
                values: RowsRef::F32(means.values()),
                len: means.len(),
            });
        }
        let recalled = head.recalled.iter().map(|recalled| &recalled.rows);
        for pair in recalled.chain(pairs.iter().copied()) {
            let len = pair.len();
            if let Some((keys, values)) = pair.keys.view(0..len).zip(pair.values.view(0..len)) {
                segments.push(Segment { keys, values, len });
            }
        }
        let bias = means.map(|means| {
            let mut bias: Vec<f32> = means.bias().collect();
            bias.resize(extra + head.slots.len(), 0.0);
            bias
        });
        let slots = head.slots.positions();
        let last = slots.last().map_or(0, |&position| position as usize);
        let positions = self
            .sliding_window
            .filter(|&window| last >= window)
            .map(|_| {
                // What was recalled on purpose, and means, are seen from everywhere.
                let mut positions = vec![u32::MAX; extra];
                positions.extend_from_slice(slots);
                positions
            });
        HeadInput {
            segments,
            bias,
            positions,
        }
    }
}

/// Columns in front of the slots.
fn extra(head: &HeadCache) -> usize {
    head.recalled_len() + head.summary.as_ref().map_or(0, Summary::len)
}
