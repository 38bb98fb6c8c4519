//! Whole chunks of queries through libtorch's products.

use std::sync::Arc;

use tch::{Kind, TchError, Tensor};

use super::super::head::HeadCache;
use super::super::kv_rows::{self, KvRows, Pair};
use super::super::node::Node;
use super::super::reading::Reading;
use super::super::weights::to_kind;
use super::Attention;
use crate::kv::{Fast, Need, Paid, Rows, Summary};

impl Attention {
    /// One KV head, all queries of a chunk at once.
    pub(super) fn chunk(
        &self,
        index: usize,
        queries: &Tensor,
        shared: &[Arc<Node>],
        head: &mut HeadCache,
        need: Need,
        reading: &Reading,
    ) -> Result<Tensor, TchError> {
        let (group, dim) = (self.group() as i64, self.head_dim as i64);
        let tokens = queries.size()[0] as usize;
        let kind = queries.f_kind()?;
        let device = queries.device();
        let scale = 1.0 / (self.head_dim as f64).sqrt();
        // `[group, tokens, dim]`.
        let own = queries
            .f_narrow(1, index as i64 * group, group)?
            .f_transpose(0, 1)?
            .f_mul_scalar(scale)?;
        let means = means(head, self.head_dim);
        let recalled = head.recalled.iter().map(|recalled| &recalled.rows);
        let pairs = head.segments(shared, (self.layer, index));
        // Means and recalled rows first: the last columns stay the chunk's own, where the causal mask is.
        let pairs: Vec<&Pair> = means.iter().chain(recalled).chain(pairs).collect();
        let keys: Vec<_> = pairs.iter().map(|pair| &pair.keys).collect();
        let values: Vec<_> = pairs.iter().map(|pair| &pair.values).collect();
        let keys = kv_rows::concat(&keys, self.head_dim, kind, device)?.f_transpose(0, 1)?;
        let values = kv_rows::concat(&values, self.head_dim, kind, device)?;
        let summarised = head.summary.as_ref().map_or(0, Summary::len);
        let extra = summarised + head.recalled_len();
        let counts: Vec<f32> = head.summary.iter().flat_map(Summary::bias).collect();
        let counts = Tensor::f_from_slice(&counts)?.f_to_device(device)?;
        let before = head.slots.len() - tokens;
        let mut outputs = Vec::with_capacity(tokens.div_ceil(self.tile));
        let mut received = Received::new(head.slots.len(), need);
        let mut from = 0;
        while from < tokens {
            let count = self.tile.min(tokens - from);
            let visible = before + from + count;
            let columns = (extra + visible) as i64;
            let tile = own
                .f_narrow(1, from as i64, count as i64)?
                .f_reshape([group * count as i64, dim])?;
            let logits = tile.f_matmul(&keys.f_narrow(1, 0, columns)?)?;
            let logits = logits.f_view([group, count as i64, columns])?;
            if summarised > 0 {
                let _ = logits.f_narrow(2, 0, summarised as i64)?.f_add_(&counts)?;
            }
            let logits = self.mask(logits, head, visible, extra)?;
            let weights = logits.f_softmax(-1, Kind::Float)?;
            received.add(&weights, &reading.weights[from..from + count], extra)?;
            let flat = to_kind(&weights, kind)?.f_view([group * count as i64, columns])?;
            let output = flat
                .f_matmul(&values.f_narrow(0, 0, columns)?)?
                .f_view([group, count as i64, dim])?
                .f_transpose(0, 1)?
                .f_reshape([count as i64, group * dim])?;
            outputs.push(output);
            from += count;
        }
        received.pay(head, reading.keep_row);
        match outputs.len() {
            1 => Ok(outputs.swap_remove(0)),
            _ => Tensor::f_cat(&outputs, 0),
        }
    }

    /// Hides what a query must not see: later tokens of its own tile, which are the last columns, and positions
    /// that a sliding window has passed. `logits` is `[group, tokens, columns]`.
    fn mask(
        &self,
        logits: Tensor,
        head: &HeadCache,
        visible: usize,
        extra: usize,
    ) -> Result<Tensor, TchError> {
        let (_, tokens, columns) = logits.size3()?;
        if tokens > 1 {
            let future =
                Tensor::f_ones([tokens, tokens], (Kind::Bool, logits.device()))?.f_triu(1)?;
            let _ = logits
                .f_narrow(2, columns - tokens, tokens)?
                .f_masked_fill_(&future, f64::NEG_INFINITY)?;
        }
        let Some(window) = self.sliding_window else {
            return Ok(logits);
        };
        let positions = &head.slots.positions()[..visible];
        let last = positions[visible - 1] as usize;
        if last < window {
            return Ok(logits);
        }
        let mut hidden = Vec::with_capacity((tokens * columns) as usize);
        for query in last + 1 - tokens as usize..=last {
            hidden.extend(std::iter::repeat_n(false, extra));
            hidden.extend(positions.iter().map(|&p| p as usize + window <= query));
        }
        let hidden = Tensor::f_from_slice(&hidden)?
            .f_view([1, tokens, columns])?
            .f_to_device(logits.device())?;
        logits.f_masked_fill(&hidden, f64::NEG_INFINITY)
    }

    /// Adds queries `[tokens, heads, head_dim]`, not rotated, to the statistics of a head.
    pub(super) fn observe(
        &self,
        head: &mut HeadCache,
        queries: &Tensor,
        index: usize,
    ) -> Result<(), TchError> {
        let (group, dim) = (self.group() as i64, self.head_dim as i64);
        let own = queries
            .f_narrow(1, index as i64 * group, group)?
            .f_reshape([-1, dim])?
            .f_to_kind(Kind::Float)?;
        let sum: Vec<f32> =
            Vec::try_from(own.f_sum_dim_intlist(&[0i64][..], false, Kind::Float)?)?;
        let outer = own.f_transpose(0, 1)?.f_matmul(&own)?.f_flatten(0, -1)?;
        let outer: Vec<f32> = Vec::try_from(outer)?;
        let stats = &mut head.stats;
        stats.sum.resize(sum.len(), 0.0);
        stats.outer.resize(outer.len(), 0.0);
        stats.count += own.size()[0] as f64;
        stats.sum.iter_mut().zip(sum).for_each(|(a, b)| *a += b);
        stats.outer.iter_mut().zip(outer).for_each(|(a, b)| *a += b);
        Ok(())
    }
}

/// The means of what a head has evicted, as rows.
fn means(head: &HeadCache, dim: usize) -> Option<Pair> {
    let means = head.summary.as_ref().filter(|means| !means.is_empty())?;
    let rows = |floats: &[f32]| Rows::from_float32(dim, floats.to_vec()).map(KvRows::Host);
    Some(Pair {
        keys: rows(means.keys())?,
        values: rows(means.values())?,
    })
}

/// What the slots of one head received from a chunk of queries.
struct Received {
    need: Need,
    sums: Vec<f32>,
    fast: Vec<f32>,
}

impl Received {
    fn new(slots: usize, need: Need) -> Self {
        Received {
            need,
            sums: vec![0.0; if need.sums { slots } else { 0 }],
            fast: vec![0.0; if need.fast == Fast::Nothing { 0 } else { slots }],
        }
    }

    /// `weights` is `[group, tokens, columns]`, of which the first `skip` columns are no slots.
    fn add(&mut self, weights: &Tensor, queries: &[f32], skip: usize) -> Result<(), TchError> {
        if !self.need.attention() {
            return Ok(());
        }
        let by_query = |t: &Tensor| t.f_sum_dim_intlist(&[0i64, 1][..], false, Kind::Float);
        if self.need.sums {
            add_from(&mut self.sums, &by_query(weights)?, skip)?;
        }
        if !self.fast.is_empty() && queries.iter().any(|&w| w != 0.0) {
            let factors = Tensor::f_from_slice(queries)?
                .f_view([1, -1, 1])?
                .f_to_device(weights.device())?;
            add_from(&mut self.fast, &by_query(&weights.f_mul(&factors)?)?, skip)?;
        }
        Ok(())
    }

    fn pay(&self, head: &mut HeadCache, keep: f32) {
        head.slots.pay(&Paid {
            sums: &self.sums,
            fast: &self.fast,
            keep,
        });
    }
}

fn add_from(to: &mut [f32], from: &Tensor, skip: usize) -> Result<(), TchError> {
    let mut found = vec![0.0f32; from.numel()];
    let len = found.len();
    from.f_contiguous()?.f_copy_data(&mut found, len)?;
    for (to, from) in to.iter_mut().zip(&found[skip..]) {
        *to += from;
    }
    Ok(())
}
