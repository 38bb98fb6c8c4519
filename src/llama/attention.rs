//! Grouped-query attention over an arena, and the attention that every key received.
//!
//! On a CPU the exact column sums cost little on top of an eager softmax, which beats the fused kernel there for
//! bfloat16; so scores are never approximated.

use tch::{Kind, TchError, Tensor};

use super::cache::{LayerCache, Written};
use crate::kv::Need;

/// The constant part of a model's attention.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attention {
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) head_dim: usize,
    /// Attention sees only this many last positions.
    pub(super) sliding_window: Option<usize>,
    /// Queries that are computed together: bounds the memory of a long prompt.
    pub(super) tile: usize,
}

impl Attention {
    /// Attends `queries` `[tokens, heads, head_dim]`, rotated, of positions `start..` that were just written to
    /// `cache`. Returns `[tokens, heads * head_dim]`, and adds the mass that each slot received to the cache when
    /// `need` asks for it.
    pub(super) fn forward(
        &self,
        queries: &Tensor,
        cache: &mut LayerCache,
        written: Written,
        start: usize,
        need: Need,
    ) -> Result<Tensor, TchError> {
        let tokens = queries.size()[0] as usize;
        let scaled = queries.f_mul_scalar(1.0 / (self.head_dim as f64).sqrt())?;
        let mut outputs = Vec::with_capacity(tokens.div_ceil(self.tile));
        let mut from = 0;
        while from < tokens {
            let count = self.tile.min(tokens - from);
            let tile = scaled.f_narrow(0, from as i64, count as i64)?;
            // Causal: the tile's queries see what came before and themselves, which lie at the end.
            let visible = written.before + from + count;
            let (output, mass) = self.tile(&tile, cache, visible, start + from, need)?;
            if let Some(mass) = mass {
                cache.add(&mass, visible);
            }
            outputs.push(output);
            from += count;
        }
        debug_assert_eq!(written.len, written.before + tokens);
        match outputs.len() {
            1 => Ok(outputs.swap_remove(0)),
            _ => Tensor::f_cat(&outputs, 0),
        }
    }

    /// One tile of queries against the first `visible` slots.
    fn tile(
        &self,
        queries: &Tensor,
        cache: &LayerCache,
        visible: usize,
        start: usize,
        need: Need,
    ) -> Result<(Tensor, Option<Vec<f32>>), TchError> {
        let tokens = queries.size()[0];
        let (kv_heads, dim) = (self.kv_heads as i64, self.head_dim as i64);
        let group = (self.heads / self.kv_heads) as i64;
        let (keys, values) = cache.view(visible)?;
        let grouped = queries
            .f_view([tokens, kv_heads, group, dim])?
            .f_permute([1, 2, 0, 3])?
            .f_reshape([kv_heads, group * tokens, dim])?;
        let logits = grouped.f_bmm(&keys.f_transpose(1, 2)?)?.f_view([
            kv_heads,
            group,
            tokens,
            visible as i64,
        ])?;
        let logits = self.mask(logits, cache, start)?;
        let probabilities = logits.f_softmax(-1, Kind::Float)?;
        let mass = match need {
            Need::Nothing => None,
            Need::ColumnSum => {
                let sums = probabilities.f_sum_dim_intlist(&[1i64, 2][..], false, Kind::Float)?;
                let mut mass = vec![0.0f32; self.kv_heads * visible];
                sums.f_contiguous()?
                    .f_copy_data(&mut mass, self.kv_heads * visible)?;
                Some(mass)
            }
        };
        let weights = super::weights::to_kind(&probabilities, values.f_kind()?)?;
        let output = weights
            .f_view([kv_heads, group * tokens, visible as i64])?
            .f_bmm(&values)?
            .f_view([kv_heads, group, tokens, dim])?
            .f_permute([2, 0, 1, 3])?
            .f_reshape([tokens, kv_heads * group * dim])?;
        Ok((output, mass))
    }

    /// Hides what a query must not see: later tokens of its own tile, which are the last columns, and positions
    /// that a sliding window has passed.
    fn mask(&self, logits: Tensor, cache: &LayerCache, start: usize) -> Result<Tensor, TchError> {
        let size = logits.size();
        let (tokens, visible) = (size[2], size[3]);
        if tokens > 1 {
            let future =
                Tensor::f_ones([tokens, tokens], (Kind::Bool, logits.device()))?.f_triu(1)?;
            let _ = logits
                .f_narrow(3, visible - tokens, tokens)?
                .f_masked_fill_(&future, f64::NEG_INFINITY)?;
        }
        let Some(window) = self.sliding_window else {
            return Ok(logits);
        };
        let last = start + tokens as usize - 1;
        if last < window {
            return Ok(logits);
        }
        // Slots are in no order of time, so a window is cut by position.
        let mut hidden = Vec::with_capacity(self.kv_heads * (tokens * visible) as usize);
        for head in 0..self.kv_heads {
            let positions = &cache.positions(head)[..visible as usize];
            for query in start..=last {
                hidden.extend(positions.iter().map(|&p| p as usize + window <= query));
            }
        }
        let hidden = Tensor::f_from_slice(&hidden)?
            .f_view([self.kv_heads as i64, 1, tokens, visible])?
            .f_to_device(logits.device())?;
        logits.f_masked_fill(&hidden, f64::NEG_INFINITY)
    }
}
