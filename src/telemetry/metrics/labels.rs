//! The values that labels have.

use crate::telemetry::StepRow;

/// How far a request had come when its client left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It waited.
    Queue,
    /// Its prompt was being read.
    Prefill,
    /// It was being answered.
    Decode,
}

impl Stage {
    pub(super) fn name(self) -> &'static str {
        match self {
            Stage::Queue => "queue",
            Stage::Prefill => "prefill",
            Stage::Decode => "decode",
        }
    }
}

/// Why a compute worker was replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// It panicked.
    Panicked,
    /// It hung.
    Stalled,
}

impl Lost {
    pub(super) fn name(self) -> &'static str {
        match self {
            Lost::Panicked => "panicked",
            Lost::Stalled => "stalled",
        }
    }
}

/// Where a replica is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In this process.
    Local,
    /// In another one.
    Remote,
}

impl Place {
    pub(super) fn name(self) -> &'static str {
        match self {
            Place::Local => "local",
            Place::Remote => "remote",
        }
    }
}

/// What one step computed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StepCount {
    /// Sequences whose prompt it read.
    pub prompt_rows: usize,
    /// Tokens of these prompts.
    pub prompt_tokens: usize,
    /// Sequences that it generated for.
    pub decode_rows: usize,
    /// Tokens that it computed for them.
    pub decode_tokens: usize,
}

impl StepCount {
    /// What these rows come to.
    pub fn of(rows: &[StepRow]) -> Self {
        let mut count = StepCount::default();
        for row in rows {
            let (rows, tokens) = match row.prompt {
                true => (&mut count.prompt_rows, &mut count.prompt_tokens),
                false => (&mut count.decode_rows, &mut count.decode_tokens),
            };
            *rows += 1;
            *tokens += row.tokens;
        }
        count
    }

    /// Its sequences.
    pub fn rows(&self) -> usize {
        self.prompt_rows + self.decode_rows
    }

    /// Its tokens.
    pub fn tokens(&self) -> usize {
        self.prompt_tokens + self.decode_tokens
    }

    /// `prefill`, `decode` or `mixed`; `none` of a step that only freed memory.
    pub fn phase(&self) -> &'static str {
        match (self.prompt_rows, self.decode_rows) {
            (0, 0) => "none",
            (_, 0) => "prefill",
            (0, _) => "decode",
            _ => "mixed",
        }
    }
}
