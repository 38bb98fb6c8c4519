//! Where the beginning of the prompt was sent before.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::{Call, Load, Router, least_loaded};
use crate::ids::TokenId;

/// Tokens that are compared at once.
pub(super) const BLOCK: usize = 16;
/// Beginnings that are remembered of one replica: with blocks of 16 tokens, those of 256k tokens, in some 400 KiB.
pub(super) const MOST: usize = 1 << 14;

/// The replica that was recently sent the longest beginning of the prompt, since its prefix cache may still hold it.
/// When that one has so much more to do than the least loaded that the prompt would be read there sooner, the least
/// loaded.
#[derive(Debug, Default)]
pub(super) struct PrefixAffinity {
    sent: Vec<Sent>,
    now: u64,
}

/// What one replica was sent: hashes of all beginnings, a block longer each, and when each was last sent.
#[derive(Debug, Default)]
struct Sent(HashMap<u64, u64>);

impl Sent {
    /// Tokens of the longest beginning that was sent before.
    fn known(&self, beginnings: &[u64]) -> usize {
        let known = |beginning: &&u64| self.0.contains_key(beginning);
        beginnings.iter().take_while(known).count() * BLOCK
    }

    fn remember(&mut self, beginnings: &[u64], now: u64) {
        // A longer prompt than there is room for is remembered by its beginning.
        for &beginning in beginnings.iter().take(MOST / 2) {
            self.0.insert(beginning, now);
        }
        if self.0.len() > MOST {
            let mut times: Vec<u64> = self.0.values().copied().collect();
            times.sort_unstable();
            // Whole prompts are forgotten, the oldest first, down to half: each insert is paid for but once. A beginning
            // is as young as the youngest prompt that has it, so what is left has its own beginnings.
            let oldest = times.get(times.len() / 2).copied().unwrap_or(now);
            self.0.retain(|_, &mut time| time > oldest || time == now);
        }
    }
}

impl PrefixAffinity {
    /// Entries that are remembered of the replica that remembers most.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.sent
            .iter()
            .map(|sent| sent.0.len())
            .max()
            .unwrap_or_default()
    }
}

impl Router for PrefixAffinity {
    fn choose(&mut self, call: &Call<'_>, replicas: &[Load]) -> Option<usize> {
        self.sent.resize_with(replicas.len(), Sent::default);
        self.now += 1;
        let beginnings = beginnings(call.prompt);
        let least = least_loaded(replicas)?;
        let mut chosen = least;
        let mut most = 0;
        for (place, (sent, load)) in self.sent.iter().zip(replicas).enumerate() {
            let known = sent.known(&beginnings);
            if load.up && known > most {
                (chosen, most) = (place, known);
            }
        }
        let cost = |place: usize| replicas.get(place).map_or(0.0, Load::cost);
        if cost(chosen) - cost(least) > most as f64 {
            chosen = least;
        }
        if let Some(sent) = self.sent.get_mut(chosen) {
            sent.remember(&beginnings, self.now);
        }
        Some(chosen)
    }
}

/// A hash of every beginning of whole blocks, the shortest first.
fn beginnings(prompt: &[TokenId]) -> Vec<u64> {
    let mut before = 0u64;
    let blocks = prompt.chunks_exact(BLOCK);
    blocks
        .map(|block| {
            let mut hasher = DefaultHasher::new();
            (before, block).hash(&mut hasher);
            before = hasher.finish();
            before
        })
        .collect()
}
