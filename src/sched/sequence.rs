//! One request's life: waiting, reading its prompt, generating.

use std::time::Instant;

use crate::ids::{SeqId, TokenId};
use crate::kv::KvReport;

use super::request::{FinishReason, Request, Usage};
use super::stepper::Drawn;
use super::{Open, Row, Want};

/// A request inside the scheduler.
#[derive(Debug)]
pub(super) struct Sequence {
    pub(super) id: SeqId,
    pub(super) request: Request,
    /// Bytes reserved for its KV cache.
    pub(super) reserved: usize,
    pub(super) submitted: Instant,
    started: Option<Instant>,
    first_token: Option<Instant>,
    /// Prompt tokens fed.
    fed: usize,
    generated: Vec<TokenId>,
    kv: Option<KvReport>,
}

impl Sequence {
    pub(super) fn new(id: SeqId, request: Request, reserved: usize, now: Instant) -> Self {
        Sequence {
            id,
            request,
            reserved,
            submitted: now,
            started: None,
            first_token: None,
            fed: 0,
            generated: Vec::new(),
            kv: None,
        }
    }

    /// Whether the whole prompt was fed.
    pub(super) fn decoding(&self) -> bool {
        self.fed == self.request.prompt.len()
    }

    /// The next row, of at most `budget` tokens (at least 1).
    pub(super) fn row(&mut self, budget: usize, now: Instant) -> Row {
        let open = self.started.is_none().then(|| Open {
            policy: self.request.policy,
            sampling: self.request.sampling.clone(),
        });
        self.started.get_or_insert(now);
        if let (true, Some(&last)) = (self.decoding(), self.generated.last()) {
            return Row {
                seq: self.id,
                open,
                tokens: vec![last],
                start: self.request.prompt.len() + self.generated.len() - 1,
                want: Want::Last,
                evict: true,
            };
        }
        let start = self.fed;
        let end = self.request.prompt.len().min(start + budget.max(1));
        let complete = end == self.request.prompt.len();
        self.fed = end;
        Row {
            seq: self.id,
            open,
            tokens: self.request.prompt[start..end].to_vec(),
            start,
            want: if complete { Want::Last } else { Want::Nothing },
            evict: complete,
        }
    }

    /// Takes in what a step drew. Returns whether a token is to be sent, and why the sequence ends if it does.
    pub(super) fn take(&mut self, drawn: &Drawn, now: Instant) -> (bool, Option<FinishReason>) {
        self.kv = Some(drawn.kv.clone());
        let Some(choice) = &drawn.choice else {
            return (false, None);
        };
        self.first_token.get_or_insert(now);
        self.generated.push(choice.token);
        if self.request.stop_ids.contains(&choice.token) {
            return (false, Some(FinishReason::Stop));
        }
        let full = self.generated.len() >= self.request.max_tokens;
        (true, full.then_some(FinishReason::Length))
    }

    pub(super) fn usage(&self, now: Instant) -> Usage {
        let since = |moment: Option<Instant>| {
            moment.map_or(std::time::Duration::ZERO, |m| {
                m.saturating_duration_since(self.submitted)
            })
        };
        Usage {
            prompt_tokens: self.request.prompt.len(),
            cached_tokens: 0,
            completion_tokens: self.generated.len(),
            queue: since(self.started),
            first_token: since(self.first_token),
            total: since(Some(now)),
        }
    }

    /// The cache as last reported; before the first row, empty.
    pub(super) fn kv(&self) -> KvReport {
        self.kv.clone().unwrap_or_else(|| KvReport {
            policy: self.request.policy.name().to_owned(),
            budget: self.request.policy.capacity(),
            tokens_seen: 0,
            tokens_kept: 0,
            evicted: 0,
            bytes: 0,
        })
    }
}
