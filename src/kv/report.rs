//! What an answer says about its KV cache.

use serde::{Deserialize, Serialize};

/// The state of one sequence's KV cache, as every answer reports it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvReport {
    /// The policy's name: `full`, `window`, `streaming` or `h2o`.
    pub policy: String,
    /// Positions kept per layer and KV head, or `null` when nothing is ever evicted.
    pub budget: Option<usize>,
    /// Tokens that were fed, prompt and output.
    pub tokens_seen: usize,
    /// Positions held per layer and KV head now.
    pub tokens_kept: usize,
    /// Positions evicted per layer and KV head: `tokens_seen - tokens_kept`.
    pub evicted: usize,
    /// Bytes allocated for this sequence, keys, values, positions and scores of all layers.
    pub bytes: usize,
}
