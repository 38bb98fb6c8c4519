//! One step's work for the device, and what comes back: ids and numbers, no tensors.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use crate::ids::{SeqId, SessionId, TokenId};
use crate::kv::tree::Miss;
use crate::kv::{HeadChoice, KvReport, KvShape, Picture, Policy};
use crate::sample::SamplingParams;
use serde::Serialize;

/// One step: the rows to compute, and the sequences whose memory can go, for good or for now.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// At most one row a sequence.
    pub rows: Vec<Row>,
    /// Sequences that give way: their caches are parked before the rows are computed, and a later row of theirs takes
    /// them up where they were.
    pub paused: Vec<SeqId>,
    /// Sequences that are over; their caches are freed or parked before the rows are computed.
    pub ended: Vec<Ended>,
}

/// A run of tokens of one sequence.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The sequence.
    pub seq: SeqId,
    /// Present in a sequence's first row.
    pub open: Option<Open>,
    /// The tokens to feed, at least one.
    pub tokens: Vec<TokenId>,
    /// The position of the first of them.
    pub start: usize,
    /// Which logits to return.
    pub want: Want,
    /// What the tokens are: it decides what they are scored by, and when the cache is brought down to its budget.
    pub phase: Phase,
}

/// What a row's tokens are to their sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Part of a prompt, of which `left` tokens follow in later rows. A prompt is read whole before anything is
    /// evicted, unless its policy reads in bounded memory.
    Prompt {
        /// Prompt tokens after this row.
        left: usize,
    },
    /// Generated: the budget holds after this row.
    Decode,
}

/// What a new sequence brings along.
#[derive(Debug, Clone, PartialEq)]
pub struct Open {
    /// How its KV cache is bounded.
    pub policy: Policy,
    /// How its tokens are drawn.
    pub sampling: SamplingParams,
    /// What it starts from.
    pub origin: Origin,
}

/// What a new sequence starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// An empty cache.
    Empty,
    /// An empty cache, or what earlier prompts of the tenant have left of this prompt's beginning. Rows that are
    /// wholly in there cost nothing.
    Prefix {
        /// The whole prompt.
        prompt: Arc<[TokenId]>,
        /// Who may share it.
        tenant: String,
    },
    /// A copy of another open sequence.
    Fork(SeqId),
    /// A parked session.
    Session(SessionId),
}

/// A sequence that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Which.
    pub seq: SeqId,
    /// The session that its cache is parked for; without one it is freed.
    pub park: Option<SessionId>,
}

impl From<SeqId> for Ended {
    fn from(seq: SeqId) -> Self {
        Ended { seq, park: None }
    }
}

/// Which logits of a row are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// None: more of the prompt follows.
    Nothing,
    /// Those after the last token.
    Last,
    /// Those after every token.
    All,
    /// None, but the hidden state of every token.
    States,
    /// Those after every token. All tokens but the first are guesses: the device computes as many of them as it can take
    /// back again, and [`Forward::keep`] says how many came true.
    Drafts,
}

/// What a step computed, row by row.
#[derive(Debug, Clone, Default)]
pub struct Outputs {
    /// One a row of the plan, and of those under way, that is done.
    pub rows: Vec<RowOutput>,
    /// How long of the step what can be put off was computed, where the device knows.
    pub prompts: Option<Duration>,
}

/// What one row computed.
#[derive(Debug, Clone)]
pub struct RowOutput {
    /// The sequence.
    pub seq: SeqId,
    /// Wanted logits, `[positions, vocabulary]` in row-major order; empty for [`Want::Nothing`].
    pub logits: Vec<f32>,
    /// For [`Want::States`] what the head is given, `[positions, hidden]` in row-major order.
    pub states: Vec<f32>,
    /// The cache after the row.
    pub kv: KvReport,
    /// Tokens of the row that were not computed, because a shared prefix or the sequence's own past held them.
    pub cached: usize,
    /// Guesses of a [`Want::Drafts`] row that were computed, its first ones.
    pub drafted: usize,
    /// In a prompt's first row, why the prefix cache did not hold more of it.
    pub missed: Option<Miss>,
}

/// Why a step could not be computed. The sequences of the plan are lost with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForwardError {
    /// A row names a sequence that was never opened, or was lost.
    #[error("{0} is not open on this device")]
    UnknownSequence(SeqId),
    /// A token id that the vocabulary does not have.
    #[error("token {token} of {seq} is outside of the vocabulary of {vocab}")]
    BadToken {
        /// The sequence.
        seq: SeqId,
        /// The offending id.
        token: TokenId,
        /// Size of the vocabulary.
        vocab: usize,
    },
    /// The tensor library refused.
    #[error("the tensor library failed: {0}")]
    Tensor(String),
    /// A session that is not parked on this device.
    #[error("session {0} is not parked here: list the sessions to see which are, or start it anew")]
    UnknownSession(SessionId),
    /// A parked session could not be read back, or not be stored.
    #[error("session {session}: {message}")]
    Session {
        /// The session.
        session: SessionId,
        /// What happened, and what to do.
        message: String,
    },
    /// A paused sequence could not be taken up again.
    #[error("{seq} was paused and cannot be taken up again: {message}")]
    Paused {
        /// The sequence.
        seq: SeqId,
        /// What happened, and what to do.
        message: String,
    },
    /// Nothing more fits, and the policy does not let go of what is there.
    #[error(
        "{seq} reaches position {reached} and the context has {context}: shorten it, or let the kv policy run beyond \
         the context (kv.beyond_context)"
    )]
    ContextFull {
        /// The sequence.
        seq: SeqId,
        /// The position that it would reach.
        reached: usize,
        /// Positions that there are.
        context: usize,
    },
    /// Logits that are not numbers.
    #[error("the model produced logits that are not numbers for {0}")]
    NotFinite(SeqId),
}

/// What a model leaves behind when its weights are dropped: parked sessions and shared prefixes. Only a model of the
/// same file, on the same thread, can take it over.
pub struct Kept {
    /// The model's own.
    pub parts: Box<dyn Any>,
    /// What it takes.
    pub memory: MemoryReport,
}

/// A model on a device: the one thing that the runtime knows about tensors. It stays on the thread that made it.
pub trait Forward {
    /// Computes a step, and what is under way, to their ends; see [`Forward::forward_within`].
    fn forward(&mut self, plan: &Plan) -> Result<Outputs, ForwardError> {
        self.forward_within(plan, None)
    }

    /// Computes a step. After an error no sequence of the plan is usable.
    ///
    /// With `slice`, rows of prompts compute about so long, after the other rows. Those that are not done then are under
    /// way: [`Outputs`] lacks them, every step that follows computes them further in its own slice, or to their end if it
    /// has none, and the step in which they are done puts them out. No row of theirs may be in a plan meanwhile.
    fn forward_within(
        &mut self,
        plan: &Plan,
        slice: Option<Duration>,
    ) -> Result<Outputs, ForwardError>;

    /// Into about how many slices a row can be cut, all alike; 1 when `slice` is without effect.
    fn slices(&self) -> usize {
        1
    }

    /// Keeps the first `tokens` of the row that was computed last for a sequence with guesses in it, and takes back
    /// the others: the cache is what it would be if they had never been fed. To be called before the next step when
    /// the row's [`RowOutput::drafted`] is not 0. Returns the cache as it is then.
    ///
    /// # Errors
    /// [`ForwardError::UnknownSequence`] when nothing of the sequence can be taken back.
    fn keep(&mut self, seq: SeqId, tokens: usize) -> Result<KvReport, ForwardError>;

    /// What a token costs in KV cache.
    fn kv_shape(&self) -> KvShape;

    /// Bytes of the weights in memory.
    fn weight_bytes(&self) -> usize;

    /// Does something with parked sessions.
    fn session(&mut self, order: SessionOrder) -> Result<SessionReply, ForwardError>;

    /// What is kept by open sequences and beyond them.
    fn memory(&self) -> MemoryReport;

    /// Another one over the same weights, without sequences; `None` when the weights cannot be shared.
    fn twin(&self) -> Option<Box<dyn Forward>> {
        None
    }

    /// Takes out what outlives sequences; what is left is of no use but to be dropped. `None` when it cannot be kept.
    fn take_kept(&mut self) -> Option<Kept> {
        None
    }

    /// Takes over what an earlier model of the same file has kept. Returns whether it could.
    fn put_kept(&mut self, _kept: Kept) -> bool {
        false
    }
}

/// What can be done with parked sessions. Their text is the caller's business; here they are caches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionOrder {
    /// Name all of them.
    List,
    /// Forget one, in memory and on disk.
    Erase(SessionId),
    /// Copy one under another name.
    Fork {
        /// The original.
        from: SessionId,
        /// The copy.
        to: SessionId,
    },
    /// Write one to a file that outlives the process, with the caller's own notes.
    Save {
        /// Which.
        session: SessionId,
        /// What the caller wants back with it.
        notes: String,
    },
    /// Read a saved one back.
    Restore(SessionId),
    /// Say what the cache of one holds.
    Picture {
        /// Which.
        session: SessionId,
        /// The sequence that goes on with it, when one does: then it is that one's.
        open: Option<SeqId>,
        /// The heads to look at.
        which: HeadChoice,
    },
}

/// What came of a [`SessionOrder`].
#[derive(Debug, Clone, PartialEq)]
pub enum SessionReply {
    /// Parked and saved sessions.
    Sessions(Vec<SessionReport>),
    /// It is done.
    Done,
    /// It is back, with the notes that were saved with it.
    Restored {
        /// The notes.
        notes: String,
    },
    /// What a cache holds.
    Picture {
        /// See there.
        picture: Picture,
        /// Of one that a sequence goes on with, the tokens of that sequence. The engine adds them.
        live: Option<LiveTokens>,
    },
}

/// The tokens of a sequence that runs: its prompt and what was drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveTokens {
    /// The position of the first.
    pub start: usize,
    /// The ids. The last ones may not have been fed yet.
    pub tokens: Vec<TokenId>,
}

/// One parked session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SessionReport {
    /// Its name.
    pub name: String,
    /// `memory`, `disk` (spilled by the byte budget) or `saved` (in a file only).
    pub place: &'static str,
    /// Bytes of its cache.
    pub bytes: u64,
    /// Whether a file of it outlives the process.
    pub saved: bool,
}

/// Bytes that are kept by open sequences and beyond them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct MemoryReport {
    /// Of shared prefixes and snapshots.
    pub prefix_bytes: usize,
    /// How many blocks those are.
    pub prefix_blocks: usize,
    /// How many of them open sequences use.
    pub prefix_in_use: usize,
    /// Of parked sessions in memory.
    pub parked_bytes: usize,
    /// Of parked sessions on disk.
    pub spilled_session_bytes: usize,
    /// Open sequences: those that run, and those whose end the device was not yet told.
    pub open_sequences: usize,
    /// Bytes of their caches.
    pub open_bytes: usize,
}
