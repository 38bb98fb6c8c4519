//! What a policy must be told about attention, and what it sees of a head when it decides.

/// The second, short-lived score of a slot: what it follows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fast {
    /// It is not kept.
    Nothing,
    /// The attention of the last queries of a prompt, this many; nothing while decoding.
    Window(usize),
    /// Each step's attention, after what was there is multiplied by this factor.
    Decay(f32),
    /// The last query's attention, averaged over all heads of the layer.
    LastRow,
    /// In a prompt as [`Fast::Window`], brought to the scale of a decayed sum; while decoding as [`Fast::Decay`].
    WindowThenDecay {
        /// Queries at the prompt's end.
        window: usize,
        /// The factor of a decode step.
        decay: f32,
    },
}

impl Fast {
    /// What a decode step keeps of the score before it adds the step's attention; `None` when it leaves it alone.
    pub fn step(self) -> Option<f32> {
        match self {
            Fast::Nothing | Fast::Window(_) => None,
            Fast::LastRow => Some(0.0),
            Fast::Decay(decay) | Fast::WindowThenDecay { decay, .. } => Some(decay),
        }
    }
}

/// What attention and the cache have to hand over for a policy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Need {
    /// For each key, the sum of the attention it received from all queries so far, over the query group.
    pub sums: bool,
    /// The second score.
    pub fast: Fast,
    /// The length of each value.
    pub norms: bool,
    /// The keys themselves, when something is evicted.
    pub keys: bool,
    /// Mean and covariance of the queries.
    pub queries: bool,
}

impl Need {
    /// Nothing: positions decide.
    pub const NOTHING: Need = Need {
        sums: false,
        fast: Fast::Nothing,
        norms: false,
        keys: false,
        queries: false,
    };

    /// Whether any attention weight is needed.
    pub fn attention(&self) -> bool {
        self.sums || self.fast != Fast::Nothing
    }

    /// Queries at the end of a prompt that are observed on their own.
    pub fn window(&self) -> usize {
        match self.fast {
            Fast::Window(window) | Fast::WindowThenDecay { window, .. } => window,
            Fast::LastRow => 1,
            Fast::Nothing | Fast::Decay(_) => 0,
        }
    }
}

/// Statistics of one KV head's queries before rotation, over its query group: what `expected` estimates from.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct QueryStats {
    /// Queries seen.
    pub count: f64,
    /// Their sum, `[head_dim]`.
    pub sum: Vec<f32>,
    /// The sum of their outer products, `[head_dim, head_dim]`.
    pub outer: Vec<f32>,
}

/// One head as a policy sees it; all slices are by slot and of one length, or empty where not needed.
#[derive(Debug, Clone, Copy, Default)]
pub struct HeadView<'a> {
    /// Positions in the sequence, distinct, in any order.
    pub positions: &'a [u32],
    /// Attention received, summed.
    pub sums: &'a [f32],
    /// The second score.
    pub fast: &'a [f32],
    /// Lengths of values.
    pub norms: &'a [f32],
    /// Keys as stored (rotated), `[slots, head_dim]`.
    pub keys: &'a [f32],
    /// The queries so far, with the rotation of the positions to come already averaged in.
    pub queries: Option<&'a QueryStats>,
    /// Tokens that the sequence has seen.
    pub seen: u32,
}

impl HeadView<'_> {
    /// Queries that have seen the key at `position`: its own and all later ones.
    pub(super) fn age(&self, position: u32) -> f32 {
        // Positions are below 2^31, and a signed number converts in one instruction.
        self.seen.saturating_sub(position).max(1) as i32 as f32
    }
}
