//! One request's life: waiting, reading its prompt, generating.

use std::time::Instant;

use crate::ids::{SeqId, SessionId, TokenId};
use crate::kv::KvReport;

use super::request::{FinishReason, Request, Usage};
use super::stepper::Drawn;
use super::{Ended, Open, Origin, Phase, Row, Want};

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
    /// Of them, how many were not computed because a cache held them.
    cached: usize,
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
            cached: 0,
            generated: Vec::new(),
            kv: None,
        }
    }

    /// Whether the whole prompt was fed.
    pub(super) fn decoding(&self) -> bool {
        self.fed == self.request.prompt.len()
    }

    /// How many tokens the next row of the prompt has, when chunks end at multiples of `grid` in the sequence:
    /// what is evicted after a chunk must not depend on who else is in the batch.
    pub(super) fn chunk(&self, grid: usize) -> usize {
        let at = self.before() + self.fed;
        let end = (at / grid + 1) * grid;
        (end - at).min(self.request.prompt.len() - self.fed)
    }

    /// Tokens of the session before the prompt.
    fn before(&self) -> usize {
        self.request.session.as_ref().map_or(0, |s| s.seen)
    }

    /// The next row: a chunk of the prompt, or the token that was drawn last.
    pub(super) fn row(&mut self, grid: usize, now: Instant) -> Row {
        let open = self.started.is_none().then(|| Open {
            policy: self.request.policy.clone(),
            sampling: self.request.sampling.clone(),
            origin: self.origin(),
        });
        self.started.get_or_insert(now);
        let prompt = self.request.prompt.len();
        if let (true, Some(&last)) = (self.decoding(), self.generated.last()) {
            return Row {
                seq: self.id,
                open,
                tokens: vec![last],
                start: self.before() + prompt + self.generated.len() - 1,
                want: Want::Last,
                phase: Phase::Decode,
            };
        }
        let start = self.fed;
        let end = start + self.chunk(grid);
        self.fed = end;
        Row {
            seq: self.id,
            open,
            tokens: self.request.prompt[start..end].to_vec(),
            start: self.before() + start,
            want: if end == prompt {
                Want::Last
            } else {
                Want::Nothing
            },
            phase: Phase::Prompt { left: prompt - end },
        }
    }

    fn origin(&self) -> Origin {
        match (self.continued(), &self.request.tenant) {
            (Some(session), _) => Origin::Session(session.clone()),
            (_, Some(tenant)) => Origin::Prefix {
                prompt: self.request.prompt.as_slice().into(),
                tenant: tenant.clone(),
            },
            (_, None) => Origin::Empty,
        }
    }

    /// The session whose parked cache it goes on with.
    pub(super) fn continued(&self) -> Option<&SessionId> {
        let session = self.request.session.as_ref();
        session.filter(|s| s.seen > 0).map(|s| &s.session)
    }

    /// What becomes of its cache when it is over.
    pub(super) fn end(&self) -> Ended {
        Ended {
            seq: self.id,
            park: self.request.session.as_ref().map(|s| s.session.clone()),
        }
    }

    /// Takes in what a step drew. Returns whether a token is to be sent, and why the sequence ends if it does.
    pub(super) fn take(&mut self, drawn: &Drawn, now: Instant) -> (bool, Option<FinishReason>) {
        self.kv = Some(drawn.kv.clone());
        self.cached += drawn.cached;
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
            prompt_tokens: self.before() + self.request.prompt.len(),
            cached_tokens: self.cached + self.before(),
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
            ..KvReport::default()
        })
    }
}
