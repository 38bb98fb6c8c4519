//! A row whose last tokens are guesses: products are computed for all at once, the cache takes them in one by one.

use std::ops::Range;
use std::sync::Arc;

use tch::TchError;

use super::super::head::HeadCache;
use super::super::journal::Journal;
use super::super::kv_rows::Fresh;
use super::super::node::Node;
use super::super::reading::Reading;
use super::{Attention, Buffers, Strided};
use crate::kv::{Need, Policy, Select, When};

/// What one KV head takes in of a row.
pub(super) struct Written<'a> {
    pub(super) policy: &'a Policy,
    /// Tokens that the sequence has seen, and the rotation of the next.
    pub(super) at: (usize, usize),
    /// `[tokens, head_dim]`; keys rotated.
    pub(super) keys: Strided<'a>,
    pub(super) values: Strided<'a>,
}

impl<'a> Written<'a> {
    /// Stores some of the tokens.
    pub(super) fn write(&self, tokens: Range<usize>, head: &mut HeadCache) -> Result<(), TchError> {
        let fresh = |rows: Strided<'a>| Fresh {
            floats: &rows.floats[tokens.start * rows.stride..],
            stride: rows.stride,
            tokens: tokens.len(),
            tensor: None,
            dim: rows.len,
        };
        let at = |from: usize| (from + tokens.start) as u32;
        let start = (at(self.at.0), at(self.at.1));
        let (keys, values) = (fresh(self.keys), fresh(self.values));
        head.write(start, &keys, &values, 0, self.policy)
    }
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
        queries: Strided<'_>,
        written: &Written<'_>,
        shared: &[Arc<Node>],
        head: &mut HeadCache,
        (need, reading, select): (Need, &Reading, Option<Select>),
        buffers: &mut Buffers,
        output: &mut [f32],
    ) -> Result<(), TchError> {
        let mut journal = Journal::new(head)?;
        let part = self.group() * self.head_dim;
        for (token, output) in output.chunks_exact_mut(part).enumerate() {
            journal.note(head, need);
            written.write(token..token + 1, head)?;
            let how = (need, &reading.of_one(token), select);
            let own = Strided {
                floats: queries.row(token),
                ..queries
            };
            self.steps(index, own, shared, head, how, buffers, output)?;
            evict(head, written.policy, written.at.0 + token + 1, &mut journal)?;
        }
        head.journal = Some(journal);
        Ok(())
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
