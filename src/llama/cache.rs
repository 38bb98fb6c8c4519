//! The KV arena of one sequence: per layer one tensor of keys and one of values, contiguous, with every KV head's
//! slots managed on its own by [`HeadSlots`]. Keys lie rotated at their original positions.

use tch::{Device, Kind, TchError, Tensor};

use crate::kv::{HeadSlots, KvReport, KvShape, Policy};

/// Slots that an unbounded arena starts with.
const FIRST_SLOTS: usize = 64;

/// All layers of one sequence.
#[derive(Debug)]
pub(super) struct SequenceCache {
    policy: Policy,
    layers: Vec<LayerCache>,
    seen: usize,
}

/// Keys and values of one layer.
#[derive(Debug)]
pub(super) struct LayerCache {
    /// `[kv_heads, allocated, head_dim]`.
    keys: Tensor,
    /// Likewise.
    values: Tensor,
    /// One a KV head; all of one length.
    heads: Vec<HeadSlots>,
}

/// Where a row's tokens went, for the causal mask.
#[derive(Debug, Clone, Copy)]
pub(super) struct Written {
    /// Slots in use now.
    pub(super) len: usize,
    /// Slots that were in use, or took the row's first token in an old place: what every query of the row sees.
    pub(super) before: usize,
}

impl SequenceCache {
    pub(super) fn new(
        policy: Policy,
        shape: KvShape,
        kind: Kind,
        device: Device,
    ) -> Result<Self, TchError> {
        let layers = (0..shape.layers).map(|_| LayerCache::new(shape, kind, device));
        Ok(SequenceCache {
            policy,
            layers: layers.collect::<Result<_, _>>()?,
            seen: 0,
        })
    }

    pub(super) fn policy(&self) -> Policy {
        self.policy
    }

    pub(super) fn seen(&self) -> usize {
        self.seen
    }

    pub(super) fn layer(&mut self, index: usize) -> &mut LayerCache {
        &mut self.layers[index]
    }

    /// Counts `tokens` as fed, and brings every head down to the budget if `evict`.
    pub(super) fn finish_row(&mut self, tokens: usize, evict: bool) -> Result<(), TchError> {
        self.seen += tokens;
        if evict {
            for layer in &mut self.layers {
                layer.evict(self.policy)?;
            }
        }
        Ok(())
    }

    pub(super) fn report(&self, shape: KvShape) -> KvReport {
        let kept = self.layers.first().map_or(0, |layer| layer.heads[0].kept());
        let slots: usize = self.layers.iter().map(LayerCache::allocated).sum();
        KvReport {
            policy: self.policy.name().to_owned(),
            budget: self.policy.capacity(),
            tokens_seen: self.seen,
            tokens_kept: kept,
            evicted: self.seen - kept,
            bytes: slots * shape.slot_bytes() / shape.layers.max(1),
        }
    }
}

impl LayerCache {
    fn new(shape: KvShape, kind: Kind, device: Device) -> Result<Self, TchError> {
        let size = [shape.kv_heads as i64, 0, shape.head_dim as i64];
        Ok(LayerCache {
            keys: Tensor::f_empty(size, (kind, device))?,
            values: Tensor::f_empty(size, (kind, device))?,
            heads: vec![HeadSlots::default(); shape.kv_heads],
        })
    }

    fn allocated(&self) -> usize {
        self.keys.size()[1] as usize
    }

    /// Stores keys and values, `[tokens, kv_heads, head_dim]`, of tokens at positions `start..`.
    pub(super) fn write(
        &mut self,
        start: usize,
        keys: &Tensor,
        values: &Tensor,
        policy: Policy,
    ) -> Result<Written, TchError> {
        let tokens = keys.size()[0];
        let placements: Vec<_> = self
            .heads
            .iter_mut()
            .map(|head| head.place(start as u32, tokens as usize))
            .collect();
        // Budgets are the same for all heads, so either all have a vacant slot or none has.
        let appended = placements[0].appended;
        let reused: Vec<usize> = placements.iter().filter_map(|p| p.reused).collect();
        let recycled = usize::from(!reused.is_empty());
        let len = self.heads[0].len();
        self.reserve(len, policy)?;
        let keys = keys.f_transpose(0, 1)?;
        let values = values.f_transpose(0, 1)?;
        if recycled == 1 {
            let stride = self.allocated();
            let rows: Vec<i64> = reused
                .iter()
                .enumerate()
                .map(|(head, slot)| (head * stride + slot) as i64)
                .collect();
            let rows = Tensor::f_from_slice(&rows)?.f_to_device(self.keys.device())?;
            overwrite(&mut self.keys, &rows, &keys.f_select(1, 0)?)?;
            overwrite(&mut self.values, &rows, &values.f_select(1, 0)?)?;
        }
        let fresh = tokens - recycled as i64;
        if fresh > 0 {
            let from = recycled as i64;
            let at = appended as i64;
            self.keys
                .f_narrow(1, at, fresh)?
                .f_copy_(&keys.f_narrow(1, from, fresh)?)?;
            self.values
                .f_narrow(1, at, fresh)?
                .f_copy_(&values.f_narrow(1, from, fresh)?)?;
        }
        Ok(Written {
            len,
            before: len - tokens as usize,
        })
    }

    /// Keys and values of the first `len` slots, `[kv_heads, len, head_dim]` each.
    pub(super) fn view(&self, len: usize) -> Result<(Tensor, Tensor), TchError> {
        let len = len as i64;
        Ok((
            self.keys.f_narrow(1, 0, len)?,
            self.values.f_narrow(1, 0, len)?,
        ))
    }

    /// Positions by slot of one head.
    pub(super) fn positions(&self, head: usize) -> &[u32] {
        self.heads[head].positions()
    }

    /// Adds the attention that slots received: `mass` is `[kv_heads, len]`, row-major.
    pub(super) fn add(&mut self, mass: &[f32], len: usize) {
        for (head, mass) in self.heads.iter_mut().zip(mass.chunks_exact(len)) {
            head.add(mass);
        }
    }

    fn evict(&mut self, policy: Policy) -> Result<(), TchError> {
        let Some(capacity) = policy.capacity() else {
            return Ok(());
        };
        match self.heads[0].len().saturating_sub(capacity) {
            0 => Ok(()),
            1 if self.allocated() <= capacity + 1 => {
                for head in &mut self.heads {
                    head.recycle(policy);
                }
                Ok(())
            }
            _ => self.cut(policy, capacity),
        }
    }

    /// Gathers what is kept into an arena of the budget's size.
    fn cut(&mut self, policy: Policy, capacity: usize) -> Result<(), TchError> {
        let size = self.keys.size();
        let mut rows = Vec::with_capacity(self.heads.len() * (capacity + 1));
        for (head, slots) in self.heads.iter_mut().enumerate() {
            let kept = slots.cut(policy).unwrap_or_default();
            let base = head as i64 * size[1];
            rows.extend(kept.iter().map(|&slot| base + slot as i64));
            // The one slot beyond the capacity is for the next token; until then it holds any row.
            rows.push(base);
        }
        let rows = Tensor::f_from_slice(&rows)?.f_to_device(self.keys.device())?;
        for tensor in [&mut self.keys, &mut self.values] {
            let flat = tensor.f_view([-1, size[2]])?;
            *tensor =
                flat.f_index_select(0, &rows)?
                    .f_view([size[0], capacity as i64 + 1, size[2]])?;
        }
        Ok(())
    }

    /// Makes room for `len` slots. A bounded arena grows to its budget and one slot more, and only a prompt that is
    /// longer makes it larger for a while.
    fn reserve(&mut self, len: usize, policy: Policy) -> Result<(), TchError> {
        let allocated = self.allocated();
        if len <= allocated {
            return Ok(());
        }
        let roomy = (allocated + allocated / 2).max(FIRST_SLOTS);
        let roomy = policy
            .capacity()
            .map_or(roomy, |capacity| roomy.min(capacity + 1));
        let target = roomy.max(len) as i64;
        for tensor in [&mut self.keys, &mut self.values] {
            let size = tensor.size();
            let larger =
                Tensor::f_zeros([size[0], target, size[2]], (tensor.kind(), tensor.device()))?;
            larger.f_narrow(1, 0, size[1])?.f_copy_(tensor)?;
            *tensor = larger;
        }
        Ok(())
    }
}

/// Overwrites rows of `arena` seen as `[kv_heads * allocated, head_dim]`.
fn overwrite(arena: &mut Tensor, rows: &Tensor, source: &Tensor) -> Result<(), TchError> {
    let dim = arena.size()[2];
    let _ = arena
        .f_view([-1, dim])?
        .f_index_copy_(0, rows, &source.f_contiguous()?)?;
    Ok(())
}
