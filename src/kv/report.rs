//! What an answer says about its KV cache.

use serde::{Deserialize, Serialize};

/// The state of one sequence's KV cache, as every answer reports it. Counts are per layer and KV head; where heads
/// differ, their mean.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KvReport {
    /// The policy's name.
    pub policy: String,
    /// Positions kept, or `null` when nothing is ever evicted.
    pub budget: Option<usize>,
    /// Tokens that were fed, prompt and output.
    pub tokens_seen: usize,
    /// Positions held now.
    pub tokens_kept: usize,
    /// Positions evicted: `tokens_seen - tokens_kept`.
    pub evicted: usize,
    /// Positions that cannot be evicted because they are pinned or sinks.
    pub pinned: usize,
    /// Evicted positions that this turn attends to again.
    pub recalled: usize,
    /// Times that kept keys were rotated to new positions, because the context was at its end.
    pub rebased: usize,
    /// Bytes allocated for this sequence, keys, values, positions and scores of all layers.
    pub bytes: usize,
    /// The most of them that there ever were, while a prompt was read.
    pub peak_bytes: usize,
    /// Bytes of it that other sequences may share: prompt prefixes.
    pub shared_bytes: usize,
    /// Bytes of evicted tokens that were spilled.
    pub spilled_bytes: usize,
}
