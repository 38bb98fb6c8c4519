//! A row whose last tokens are guesses: products are computed for all at once, the cache takes them in one by one.

use std::sync::Arc;

use tch::TchError;

use super::super::head::HeadCache;
use super::super::journal::Journal;
use super::super::kv_rows::Fresh;
use super::super::node::Node;
use super::super::reading::Reading;
use super::Attention;
use crate::kernels::Scratch;
use crate::kv::{Need, Policy, Select, When};

/// One KV head's part of such a row.
pub(super) struct Guessed<'a> {
    pub(super) policy: &'a Policy,
    /// Tokens that the sequence has seen, and the rotation of the next.
    pub(super) at: (usize, usize),
    /// Rotated, `[tokens, head_dim]`.
    pub(super) keys: Vec<f32>,
    /// Likewise, not rotated.
    pub(super) values: Vec<f32>,
}

impl Attention {
    /// As [`Attention::steps`], but each token is written before it attends and its eviction follows at once, as if it
    /// had been fed alone. The journal of it stays with the head.
    #[allow(
        clippy::too_many_arguments,
        reason = "those of a plain row, and the row's own keys and values"
    )]
    pub(super) fn one_by_one(
        &self,
        index: usize,
        queries: &[f32],
        guessed: &Guessed<'_>,
        shared: &[Arc<Node>],
        head: &mut HeadCache,
        (need, reading, select): (Need, &Reading, Option<Select>),
        scratch: &mut Scratch,
    ) -> Result<Vec<f32>, TchError> {
        let dim = self.head_dim;
        let mut journal = Journal::new(head)?;
        let mut output = Vec::with_capacity(queries.len());
        for (token, own) in queries.chunks_exact(self.group() * dim).enumerate() {
            let fresh = |floats| Fresh {
                floats,
                tensor: None,
                heads: 1,
                dim,
            };
            let rows = token * dim..(token + 1) * dim;
            let keys = fresh(&guessed.keys[rows.clone()]);
            let values = fresh(&guessed.values[rows]);
            let (seen, next) = (guessed.at.0 + token, guessed.at.1 + token);
            journal.note(head, need);
            head.write(
                (seen as u32, next as u32),
                &keys,
                &values,
                0,
                guessed.policy,
            )?;
            let how = (need, &reading.of_one(token), select);
            output.extend(self.steps(index, own, shared, head, how, scratch)?);
            evict(head, guessed.policy, seen + 1, &mut journal)?;
        }
        head.journal = Some(journal);
        Ok(output)
    }
}

/// Brings a head that has one token too many back to its capacity, when the policy does so at each step.
fn evict(
    head: &mut HeadCache,
    policy: &Policy,
    seen: usize,
    journal: &mut Journal,
) -> Result<(), TchError> {
    if policy.when != When::EachStep {
        return Ok(());
    }
    let Some(slot) = head.victim(policy, seen) else {
        return Ok(());
    };
    journal.evicts(head, slot)?;
    // Nothing is shared and nothing remembered: see `HeadCache::undoable`.
    head.evict(slot, 0, 0)
}
