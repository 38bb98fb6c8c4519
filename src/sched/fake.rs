//! A model without tensors, for tests and examples of everything above the tensors.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::ids::{SeqId, SessionId, TokenId};
use crate::kv::{HeadSlots, KvReport, KvShape, Picture, Policy};

use super::{
    Forward, ForwardError, Kept, MemoryReport, Origin, Outputs, Phase, Plan, Row, RowOutput,
    SessionOrder, SessionReply, SessionReport, Want,
};

/// Its vocabulary is small, its next token is always the last one plus one (modulo the vocabulary), and it keeps
/// real slots under the real policy, with attention spread evenly.
pub struct FakeModel {
    vocab: usize,
    delay: Duration,
    panic_on: Option<TokenId>,
    stall: Option<(TokenId, Arc<AtomicBool>)>,
    /// Steps that a prompt's row takes where it may be put off.
    slices: usize,
    /// Rows that were, and slices that are left of them.
    under_way: Vec<(Row, usize)>,
    sequences: HashMap<SeqId, Held>,
    /// After each token of the last row of a sequence, when that had guesses.
    drafted: HashMap<SeqId, Vec<Held>>,
    /// Those that gave way.
    paused: HashMap<SeqId, Held>,
    sessions: Parked,
    /// As files would be, but for outliving the process.
    saved: Saved,
}

/// One sequence: its policy, its slots, and tokens seen.
type Held = (Policy, HeadSlots, usize);
type Parked = BTreeMap<SessionId, Held>;
/// With their notes.
type Saved = BTreeMap<SessionId, (Held, String)>;

impl FakeModel {
    /// A model with `vocab` tokens that answers at once.
    pub fn new(vocab: usize) -> Self {
        FakeModel {
            vocab,
            delay: Duration::ZERO,
            panic_on: None,
            stall: None,
            slices: 1,
            under_way: Vec::new(),
            sequences: HashMap::new(),
            drafted: HashMap::new(),
            paused: HashMap::new(),
            sessions: BTreeMap::new(),
            saved: BTreeMap::new(),
        }
    }

    /// Takes this long for a step.
    #[must_use]
    pub fn with_delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Takes so many slices for every row of a prompt.
    #[must_use]
    pub fn with_slices(mut self, slices: usize) -> Self {
        self.slices = slices;
        self
    }

    /// Panics when it is fed this token.
    #[must_use]
    pub fn panicking_on(mut self, token: TokenId) -> Self {
        self.panic_on = Some(token);
        self
    }

    /// Hangs when it is fed this token, for as long as the flag is set.
    #[must_use]
    pub fn stalling_on(mut self, token: TokenId, hangs: Arc<AtomicBool>) -> Self {
        self.stall = Some((token, hangs));
        self
    }

    /// Computes nothing while it is told to hang.
    fn hang(&self, row: &Row) {
        let Some((token, hangs)) = &self.stall else {
            return;
        };
        while row.tokens.contains(token) && hangs.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A row with guesses, token by token.
    fn drafts(&mut self, row: &Row) -> Result<RowOutput, ForwardError> {
        let mut after = Vec::with_capacity(row.tokens.len());
        let mut logits = Vec::new();
        let mut last = None;
        for (index, &token) in row.tokens.iter().enumerate() {
            let one = Row {
                open: row.open.clone().filter(|_| index == 0),
                tokens: vec![token],
                start: row.start + index,
                want: Want::Last,
                ..row.clone()
            };
            let output = self.row(&one)?;
            logits.extend_from_slice(&output.logits);
            after.extend(self.sequences.get(&row.seq).cloned());
            last = Some(output);
        }
        self.drafted.insert(row.seq, after);
        let last = last.ok_or(ForwardError::UnknownSequence(row.seq))?;
        Ok(RowOutput {
            logits,
            drafted: row.tokens.len() - 1,
            ..last
        })
    }

    fn report(&self, seq: SeqId) -> Result<KvReport, ForwardError> {
        let kept = self.sequences.get(&seq);
        let (policy, head, seen) = kept.ok_or(ForwardError::UnknownSequence(seq))?;
        Ok(KvReport {
            policy: policy.name().to_owned(),
            budget: policy.capacity(),
            tokens_seen: *seen,
            tokens_kept: head.len(),
            evicted: *seen - head.len(),
            bytes: head.len() * self.kv_shape().slot_bytes(),
            ..KvReport::default()
        })
    }

    fn row(&mut self, row: &Row) -> Result<RowOutput, ForwardError> {
        self.hang(row);
        if let Some(open) = &row.open {
            let kept = match &open.origin {
                Origin::Session(session) => self
                    .sessions
                    .get(session)
                    .cloned()
                    .ok_or_else(|| ForwardError::UnknownSession(session.clone()))?,
                Origin::Fork(from) => self
                    .sequences
                    .get(from)
                    .cloned()
                    .ok_or(ForwardError::UnknownSequence(*from))?,
                Origin::Empty | Origin::Prefix { .. } => {
                    (open.policy.clone(), HeadSlots::default(), 0)
                }
            };
            self.sequences.insert(row.seq, kept);
        } else if let Some(kept) = self.paused.remove(&row.seq) {
            self.sequences.insert(row.seq, kept);
        }
        let (policy, head, seen) = self
            .sequences
            .get_mut(&row.seq)
            .ok_or(ForwardError::UnknownSequence(row.seq))?;
        let (mut logits, mut states) = (Vec::new(), Vec::new());
        // What the sequence has seen is not computed again.
        let held = seen.saturating_sub(row.start).min(row.tokens.len());
        for (index, &token) in row.tokens.iter().enumerate().skip(held) {
            assert!(
                Some(token) != self.panic_on,
                "injected panic on token {token}"
            );
            if token as usize >= self.vocab {
                return Err(ForwardError::BadToken {
                    seq: row.seq,
                    token,
                    vocab: self.vocab,
                });
            }
            let wanted = match row.want {
                Want::States => {
                    states.extend([token as f32, (row.start + index) as f32]);
                    false
                }
                Want::Nothing => false,
                Want::Last => index + 1 == row.tokens.len(),
                Want::All | Want::Drafts => true,
            };
            if wanted {
                let next = (token as usize + 1) % self.vocab;
                logits.extend((0..self.vocab).map(|id| if id == next { 10.0 } else { 0.0 }));
            }
        }
        let start = (row.start + held) as u32;
        head.place(start, start, row.tokens.len() - held);
        let even = vec![1.0 / head.len() as f32; head.len()];
        head.step(&policy.need(), &even);
        *seen += row.tokens.len() - held;
        let due = row.phase == Phase::Decode || row.phase == Phase::Prompt { left: 0 };
        if let Some(capacity) = policy.capacity().filter(|_| due) {
            let kept = policy.keep(&head.view(*seen, &[], None), capacity);
            head.gather(&kept);
        }
        Ok(RowOutput {
            seq: row.seq,
            logits,
            states,
            kv: self.report(row.seq)?,
            cached: held,
            drafted: 0,
            missed: None,
        })
    }
}

impl Forward for FakeModel {
    fn forward_within(
        &mut self,
        plan: &Plan,
        slice: Option<Duration>,
    ) -> Result<Outputs, ForwardError> {
        if !self.delay.is_zero() {
            std::thread::sleep(self.delay);
        }
        for seq in &plan.paused {
            let kept = self.sequences.remove(seq);
            self.paused
                .insert(*seq, kept.ok_or(ForwardError::UnknownSequence(*seq))?);
        }
        for ended in &plan.ended {
            let kept = self.sequences.remove(&ended.seq);
            let kept = kept.or_else(|| self.paused.remove(&ended.seq));
            if let (Some(session), Some(kept)) = (&ended.park, kept) {
                self.sessions.insert(session.clone(), kept);
            }
        }
        self.under_way
            .retain(|(row, _)| !plan.ended.iter().any(|ended| ended.seq == row.seq));
        let mut now = Vec::new();
        for row in &plan.rows {
            let prompt = matches!(row.phase, Phase::Prompt { .. });
            match slice {
                Some(_) if prompt && self.slices > 1 => {
                    self.under_way.push((row.clone(), self.slices));
                }
                _ => now.push(row.clone()),
            }
        }
        for (_, left) in &mut self.under_way {
            *left = slice.map_or(0, |_| left.saturating_sub(1));
        }
        let done = self.under_way.extract_if(.., |(_, left)| *left == 0);
        now.extend(done.map(|(row, _)| row));
        let rows = now.iter().map(|row| match row.want {
            Want::Drafts => self.drafts(row),
            Want::Nothing | Want::Last | Want::All | Want::States => self.row(row),
        });
        Ok(Outputs {
            rows: rows.collect::<Result<_, _>>()?,
            prompts: None,
        })
    }

    fn slices(&self) -> usize {
        self.slices
    }

    fn keep(&mut self, seq: SeqId, tokens: usize) -> Result<KvReport, ForwardError> {
        let after = self.drafted.remove(&seq);
        let mut after = after.ok_or(ForwardError::UnknownSequence(seq))?;
        if tokens > 0 && tokens <= after.len() {
            self.sequences.insert(seq, after.swap_remove(tokens - 1));
        }
        self.report(seq)
    }

    fn kv_shape(&self) -> KvShape {
        KvShape {
            layers: 1,
            kv_heads: 1,
            head_dim: 8,
            value_bytes: 4,
        }
    }

    fn weight_bytes(&self) -> usize {
        1 << 20
    }

    fn session(&mut self, order: SessionOrder) -> Result<SessionReply, ForwardError> {
        let known = |session: &SessionId| {
            self.sessions
                .get(session)
                .cloned()
                .ok_or_else(|| ForwardError::UnknownSession(session.clone()))
        };
        match order {
            SessionOrder::List => {
                let bytes = |kept: &Held| (kept.1.len() * self.kv_shape().slot_bytes()) as u64;
                let parked = self.sessions.iter().map(|(name, kept)| SessionReport {
                    name: name.to_string(),
                    place: "memory",
                    bytes: bytes(kept),
                    saved: self.saved.contains_key(name),
                });
                let only_saved = self.saved.iter();
                let only_saved = only_saved.filter(|(name, _)| !self.sessions.contains_key(name));
                let saved = only_saved.map(|(name, (kept, _))| SessionReport {
                    name: name.to_string(),
                    place: "saved",
                    bytes: bytes(kept),
                    saved: true,
                });
                Ok(SessionReply::Sessions(parked.chain(saved).collect()))
            }
            SessionOrder::Erase(session) => {
                let parked = self.sessions.remove(&session).is_some();
                match self.saved.remove(&session).is_some() || parked {
                    true => Ok(SessionReply::Done),
                    false => Err(ForwardError::UnknownSession(session)),
                }
            }
            SessionOrder::Fork { from, to } => {
                let copy = known(&from)?;
                self.sessions.insert(to, copy);
                Ok(SessionReply::Done)
            }
            SessionOrder::Save { session, notes } => {
                let copy = known(&session)?;
                self.saved.insert(session, (copy, notes));
                Ok(SessionReply::Done)
            }
            SessionOrder::Restore(session) => {
                let saved = self.saved.get(&session).cloned();
                let (kept, notes) =
                    saved.ok_or_else(|| ForwardError::UnknownSession(session.clone()))?;
                self.sessions.insert(session, kept);
                Ok(SessionReply::Restored { notes })
            }
            SessionOrder::Picture {
                session,
                open,
                which,
            } => {
                let open = open.and_then(|seq| {
                    let paused = self.paused.get(&seq);
                    self.sequences.get(&seq).or(paused)
                });
                let (policy, slots, seen) = match open {
                    Some(held) => held.clone(),
                    None => known(&session)?,
                };
                let heads = which.has(0, 0).then_some(&slots).into_iter();
                let picture = Picture::draw(&policy, (1, 1), seen, heads);
                Ok(SessionReply::Picture {
                    picture,
                    live: None,
                })
            }
        }
    }

    fn memory(&self) -> MemoryReport {
        let open: usize = self.sequences.values().map(|kept| kept.1.len()).sum();
        let parked = self.sessions.values().chain(self.paused.values());
        let slots: usize = parked.map(|kept| kept.1.len()).sum();
        MemoryReport {
            parked_bytes: slots * self.kv_shape().slot_bytes(),
            open_sequences: self.sequences.len(),
            open_bytes: open * self.kv_shape().slot_bytes(),
            ..MemoryReport::default()
        }
    }

    fn twin(&self) -> Option<Box<dyn Forward>> {
        Some(Box::new(FakeModel {
            panic_on: self.panic_on,
            ..FakeModel::new(self.vocab).with_delay(self.delay)
        }))
    }

    fn take_kept(&mut self) -> Option<Kept> {
        let memory = self.memory();
        let parts = (
            std::mem::take(&mut self.sessions),
            std::mem::take(&mut self.saved),
        );
        Some(Kept {
            parts: Box::new(parts),
            memory,
        })
    }

    fn put_kept(&mut self, kept: Kept) -> bool {
        let Ok(parts) = kept.parts.downcast::<(Parked, Saved)>() else {
            return false;
        };
        (self.sessions, self.saved) = *parts;
        true
    }
}
