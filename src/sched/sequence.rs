//! One request's life: waiting, reading its prompt, generating; paused in between when others go first.

use std::time::{Duration, Instant};

use crate::ids::{SeqId, SessionId, TokenId};
use crate::kv::{KvReport, Reading};

use super::batch::Claim;
use super::draft::Drafter;
use super::priority::Candidate;
use super::progress::{BadProgress, Progress};
use super::request::{FinishReason, OfPrompt, Request, Usage};
use super::stepper::Drawn;
use super::{Ended, LiveTokens, Open, Origin, Phase, Row, Want};

/// Most tokens of a prompt whose log-probabilities are told at once: each takes a row of logits.
const TOLD_ROWS: usize = 64;

/// A request inside the scheduler.
#[derive(Debug)]
pub(super) struct Sequence {
    pub(super) id: SeqId,
    pub(super) request: Request,
    /// How long its prompt was predicted to take when it arrived.
    pub(super) prefill: Duration,
    pub(super) submitted: Instant,
    /// The step with which it joined the batch last.
    pub(super) joined: u64,
    started: Option<Instant>,
    first_token: Option<Instant>,
    /// Tokens of the prompt, then those generated.
    progress: Progress,
    /// Of the prompt, how many were not computed because a cache held them.
    cached: usize,
    generated: Vec<TokenId>,
    kv: Option<KvReport>,
    drafter: Option<Drafter>,
    /// Guesses in the step that is under way.
    pub(super) drafting: usize,
    /// It is to end with that step.
    pub(super) ending: bool,
    drafted: usize,
    accepted: usize,
    paused_at: Option<Instant>,
    paused: Duration,
    preemptions: usize,
}

impl Sequence {
    pub(super) fn new(id: SeqId, request: Request, prefill: Duration, now: Instant) -> Self {
        Sequence {
            id,
            progress: Progress::new(request.prompt.len()),
            request,
            prefill,
            submitted: now,
            joined: 0,
            started: None,
            first_token: None,
            cached: 0,
            generated: Vec::new(),
            kv: None,
            drafter: None,
            drafting: 0,
            ending: false,
            drafted: 0,
            accepted: 0,
            paused_at: None,
            paused: Duration::ZERO,
            preemptions: 0,
        }
    }

    /// What a prioritizer sees of it.
    pub(super) fn candidate(&self) -> Candidate<'_> {
        Candidate {
            seq: self.id,
            standing: &self.request.standing,
            arrived: self.submitted,
            prompt: self.request.prompt.len(),
            left: self.progress.prompt_left(),
            max_tokens: self.request.max_tokens,
            prefill: self.prefill,
        }
    }

    /// Whether the whole prompt was fed.
    pub(super) fn decoding(&self) -> bool {
        self.progress.prompt_left() == 0
    }

    /// Whether it ever ran.
    pub(super) fn has_started(&self) -> bool {
        self.started.is_some()
    }

    /// Whether its caller still waits for a first token.
    pub(super) fn silent(&self) -> bool {
        self.first_token.is_none()
    }

    /// Tokens that it may still come to compute, when an answer has about `output`.
    pub(super) fn work_left(&self, output: usize) -> usize {
        let expected = self.request.max_tokens.min(output);
        self.progress.prompt_left() + expected.saturating_sub(self.generated.len())
    }

    /// Tokens that were computed for it and not taken from a cache.
    pub(super) fn computed(&self) -> usize {
        self.progress.processed().saturating_sub(self.cached)
    }

    /// Tokens that were generated.
    pub(super) fn outputs(&self) -> usize {
        self.generated.len()
    }

    /// How its prompt could be read on, when rows end at multiples of `grid` in the sequence at the latest: what is
    /// evicted after a row must not depend on who else is in the batch.
    pub(super) fn claim(&self, grid: usize) -> Claim {
        let at = self.before() + self.progress.staged();
        let line = (at / grid + 1) * grid;
        let most = match self.request.of_prompt {
            OfPrompt::Logprobs => TOLD_ROWS,
            OfPrompt::Nothing | OfPrompt::States => usize::MAX,
        };
        Claim {
            to_line: (line - at).min(self.progress.prompt_left()).min(most),
            whole: self.request.policy.reading == Reading::Streaming,
            context: self.kept(),
        }
    }

    /// Tokens of the session before the prompt.
    fn before(&self) -> usize {
        self.request.session.as_ref().map_or(0, |s| s.seen)
    }

    /// Tokens that its cache holds, as last reported.
    pub(super) fn kept(&self) -> usize {
        self.kv.as_ref().map_or(self.fed(), |kv| kv.tokens_kept)
    }

    /// Tokens that it has seen, those of its session too.
    pub(super) fn fed(&self) -> usize {
        self.before() + self.progress.processed()
    }

    /// The next row: `chunk` tokens of the prompt, or the token that was drawn last.
    pub(super) fn row(&mut self, chunk: usize, now: Instant) -> Row {
        let open = self.started.is_none().then(|| Open {
            policy: self.request.policy.clone(),
            sampling: self.request.sampling.clone(),
            origin: self.origin(),
        });
        self.started.get_or_insert(now);
        let from = self.progress.staged();
        let start = self.before() + from;
        if let (true, Some(&last)) = (self.decoding(), self.generated.last()) {
            counted(self.progress.stage(1));
            return Row {
                seq: self.id,
                open,
                tokens: vec![last],
                start,
                want: Want::Last,
                phase: Phase::Decode,
            };
        }
        counted(self.progress.stage(chunk));
        let left = self.progress.prompt_left();
        let end = self.progress.staged();
        Row {
            seq: self.id,
            open,
            tokens: self.request.prompt[from..end].to_vec(),
            start,
            want: match (self.request.of_prompt, left) {
                (OfPrompt::Logprobs, _) => Want::All,
                (OfPrompt::States, _) => Want::States,
                (OfPrompt::Nothing, 0) => Want::Last,
                (OfPrompt::Nothing, _) => Want::Nothing,
            },
            phase: Phase::Prompt { left },
        }
    }

    /// Adds guesses, at most `room`, to a row of this sequence that has its last token. Returns how many.
    pub(super) fn draft(&mut self, row: &mut Row, room: usize) -> usize {
        // Each guess that is right is a token more, and one comes without.
        let left = self
            .request
            .max_tokens
            .saturating_sub(self.generated.len() + 1);
        let drafter = self.drafter.get_or_insert_with(|| {
            let text = [self.request.prompt.as_slice(), &self.generated].concat();
            Drafter::new(&text)
        });
        let guesses = drafter.propose(room.min(left), &self.request.stop_ids);
        self.drafting = guesses.len();
        if !guesses.is_empty() {
            row.tokens.extend(guesses);
            row.want = Want::Drafts;
        }
        self.drafting
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

    /// Whether it is a turn of this session.
    pub(super) fn is_turn_of(&self, session: &SessionId) -> bool {
        let own = self.request.session.as_ref();
        own.is_some_and(|own| own.session == *session)
    }

    /// Its prompt and what was drawn, with the position of the first.
    pub(super) fn live(&self) -> LiveTokens {
        LiveTokens {
            start: self.before(),
            tokens: [self.request.prompt.as_slice(), &self.generated].concat(),
        }
    }

    /// What becomes of its cache when it is over.
    pub(super) fn end(&self) -> Ended {
        Ended {
            seq: self.id,
            park: self.request.session.as_ref().map(|s| s.session.clone()),
        }
    }

    /// It gives way to others.
    pub(super) fn pause(&mut self, now: Instant) {
        self.paused_at = Some(now);
        self.preemptions += 1;
    }

    /// It is in the batch, from this step on.
    pub(super) fn join(&mut self, step: u64, now: Instant) {
        self.joined = step;
        self.paused = self.paused_for(now);
        self.paused_at = None;
    }

    fn paused_for(&self, now: Instant) -> Duration {
        let since = self.paused_at.map(|at| now.saturating_duration_since(at));
        self.paused + since.unwrap_or_default()
    }

    /// Takes in what a step drew. Returns how many of its tokens are to be sent, and why the sequence ends if it does.
    pub(super) fn take(&mut self, drawn: &Drawn, now: Instant) -> (usize, Option<FinishReason>) {
        counted(self.progress.settle());
        self.cached += drawn.cached;
        self.skip_cached(drawn.kv.tokens_seen);
        self.kv = Some(drawn.kv.clone());
        self.drafting = 0;
        self.drafted += drawn.drafted;
        let before = self.generated.len();
        let mut end = None;
        if self.request.max_tokens == 0 && self.decoding() {
            end = Some(FinishReason::Length);
        }
        for choice in drawn.choices.iter().take(self.request.max_tokens) {
            self.first_token.get_or_insert(now);
            if self.generated.len() > before {
                // The one before was a guess that was right: it was fed already.
                counted(self.progress.stage(1));
                counted(self.progress.settle());
            }
            self.generated.push(choice.token);
            counted(self.progress.append(1));
            if self.request.stop_ids.contains(&choice.token) {
                end = Some(FinishReason::Stop);
            } else if self.generated.len() >= self.request.max_tokens {
                end = Some(FinishReason::Length);
            }
            if end.is_some() {
                break;
            }
        }
        let fresh = &self.generated[before..];
        self.accepted += fresh.len().saturating_sub(1);
        if let Some(drafter) = &mut self.drafter {
            drafter.learn(fresh, drawn.drafted);
        }
        let send = fresh.len() - usize::from(end == Some(FinishReason::Stop));
        let stopped = self.ending && !fresh.is_empty();
        (send, end.or(stopped.then_some(FinishReason::Stop)))
    }

    /// A cache that began with a shared prefix has seen more of the prompt than was fed: that part is not fed.
    fn skip_cached(&mut self, seen: usize) {
        // What follows the prompt is drawn after its last token, which is therefore always computed.
        let last = self.request.prompt.len() - 1;
        let seen = seen.saturating_sub(self.before()).min(last);
        match self.progress.skip_to(seen) {
            Ok(count) => self.cached += count,
            Err(error) => counted(Err(error)),
        }
    }

    pub(super) fn usage(&self, now: Instant) -> Usage {
        let since = |moment: Option<Instant>| {
            moment.map_or(Duration::ZERO, |m| {
                m.saturating_duration_since(self.submitted)
            })
        };
        Usage {
            prompt_tokens: self.before() + self.request.prompt.len(),
            cached_tokens: self.cached + self.before(),
            completion_tokens: self.generated.len(),
            drafted_tokens: self.drafted,
            accepted_tokens: self.accepted,
            queue: since(self.started),
            first_token: since(self.first_token),
            total: since(Some(now)),
            preemptions: self.preemptions,
            paused: self.paused_for(now),
        }
    }

    /// Bytes of its cache, as last reported.
    pub(super) fn kv_bytes(&self) -> usize {
        self.kv.as_ref().map_or(0, |kv| kv.bytes)
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

/// Counts that do not add up are a defect of this program, which a test shall find and a server survive.
fn counted(outcome: Result<(), BadProgress>) {
    if let Err(error) = outcome {
        debug_assert!(false, "{error}");
        tracing::error!(%error, "a sequence's count of its tokens is wrong");
    }
}
