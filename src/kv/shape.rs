//! From a model's shape to bytes of KV cache.

use super::{HeadSlots, Policy, Reading};

/// What one token costs a model in KV cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvShape {
    /// Layers of the model.
    pub layers: usize,
    /// KV heads of a layer (fewer than query heads under grouped-query attention).
    pub kv_heads: usize,
    /// Values of a key, and of a value, in one head.
    pub head_dim: usize,
    /// Bytes of one stored value: 4 for float32, 2 for bfloat16.
    pub value_bytes: usize,
}

impl KvShape {
    /// Bytes of one slot in every layer and KV head: a key, a value, and the bookkeeping of [`HeadSlots`].
    pub fn slot_bytes(&self) -> usize {
        let rows = 2 * self.head_dim * self.value_bytes;
        self.layers * self.kv_heads * (rows + HeadSlots::SLOT_BYTES)
    }

    /// The most bytes that a sequence of `prompt` tokens with up to `output` more can hold under `policy`, when a
    /// prompt is read in chunks of `chunk` tokens.
    pub fn worst_case_bytes(
        &self,
        policy: &Policy,
        prompt: usize,
        output: usize,
        chunk: usize,
    ) -> usize {
        let streamed = (policy.reading == Reading::Streaming).then_some(chunk);
        policy.slots_at_most(prompt, output, streamed) * self.slot_bytes()
    }

    /// How many slots fit into `bytes`.
    pub fn slots_in(&self, bytes: usize) -> usize {
        bytes / self.slot_bytes().max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMOLLM2: KvShape = KvShape {
        layers: 30,
        kv_heads: 3,
        head_dim: 64,
        value_bytes: 4,
    };

    #[test]
    fn a_slot_of_smollm2_in_float32_is_45_kib_and_its_bookkeeping() {
        assert_eq!(SMOLLM2.slot_bytes(), 45 * 1024 + 90 * 16);
    }

    #[test]
    fn a_budget_bounds_what_decoding_adds_but_not_the_prompt() {
        let slot = SMOLLM2.slot_bytes();
        let h2o = Policy::h2o(8, 8).unwrap();
        assert_eq!(SMOLLM2.worst_case_bytes(&h2o, 4, 5, 8), 9 * slot);
        assert_eq!(SMOLLM2.worst_case_bytes(&h2o, 4, 500, 8), 17 * slot);
        assert_eq!(SMOLLM2.worst_case_bytes(&h2o, 100, 500, 8), 100 * slot);
        let mut streamed = h2o;
        streamed.reading = Reading::Streaming;
        assert_eq!(SMOLLM2.worst_case_bytes(&streamed, 100, 500, 8), 24 * slot);
        assert_eq!(
            SMOLLM2.worst_case_bytes(&Policy::full(), 100, 500, 8),
            600 * slot
        );
    }
}
