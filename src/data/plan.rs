//! Which samples make which row of which batch of an epoch, told from their lengths alone.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::order::{Use, shuffle, stream};
use super::{DataError, best_fit, buckets, chunks};

/// How samples become rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Packing {
    /// Whole samples side by side, as many as fit; nothing is cut. For fine-tuning.
    BestFit,
    /// One sample a row, samples of about one length in a batch, each padded to a multiple of this many tokens.
    Padding(u32),
    /// All samples end to end, cut every `context` tokens. For pretraining.
    Chunks,
}

/// A part of a sample within a row. Attention does not look beyond it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// The sample.
    pub sample: u32,
    /// Its first token.
    pub from: u32,
    /// How many tokens.
    pub len: u32,
}

/// A row of a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Row {
    /// What is in it, in order.
    pub pieces: Vec<Piece>,
    /// Tokens of padding after the last piece.
    pub padding: u32,
}

impl Row {
    /// Tokens of the row, padding included.
    pub fn tokens(&self) -> usize {
        let pieces: usize = self.pieces.iter().map(|piece| piece.len as usize).sum();
        pieces + self.padding as usize
    }
}

/// What a plan is made by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    pub(super) packing: Packing,
    pub(super) context: u32,
    pub(super) rows: usize,
    pub(super) shuffle: bool,
    pub(super) drop_last: bool,
    pub(super) seed: u64,
}

impl Layout {
    pub(super) fn check(&self) -> Result<(), DataError> {
        let option = |option, found: u64, allowed| {
            Err(DataError::Option {
                option,
                found: found.to_string(),
                allowed,
            })
        };
        if self.context < 2 {
            return option(
                "context",
                self.context.into(),
                "a row needs 2 tokens or more",
            );
        }
        if self.rows == 0 {
            return option("rows of a batch", 0, "choose 1 or more");
        }
        match self.packing {
            Packing::Padding(multiple) if multiple == 0 || multiple > self.context => option(
                "multiple of padding",
                multiple.into(),
                "choose from 1 to the context",
            ),
            _ => Ok(()),
        }
    }
}

/// The batches of an epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Rows, batch by batch.
    pub batches: Vec<Vec<Row>>,
    /// Tokens at the end (and, in shuffled chunks, at the start) that fill no row, and are not seen in this epoch.
    pub dropped_tokens: u64,
    /// Rows of a last batch that is not full, where such are dropped.
    pub dropped_rows: usize,
}

impl Plan {
    /// The plan of an epoch: `lengths` has one entry a sample, `order` the samples that are drawn.
    pub(super) fn of_epoch(lengths: &[u32], order: &[u32], layout: &Layout, epoch: u64) -> Plan {
        let length = |sample: u32| lengths.get(sample as usize).copied().unwrap_or(0);
        let sized: Vec<(u32, u32)> = order
            .iter()
            .map(|sample| (*sample, length(*sample)))
            .collect();
        let mut rng = stream(layout.seed, epoch, Use::Rows);
        let mut dropped_tokens = 0;
        let mut batches = match layout.packing {
            Packing::BestFit => group(best_fit::rows(&sized, layout.context), layout.rows),
            Packing::Padding(multiple) => buckets::batches(&sized, layout.rows, multiple),
            Packing::Chunks => {
                let skip = chunks::skipped(layout, epoch, &sized);
                let (mut rows, left) = chunks::rows(&sized, layout.context, skip);
                dropped_tokens = left + skip;
                if layout.shuffle {
                    shuffle(&mut rows, &mut rng);
                }
                group(rows, layout.rows)
            }
        };
        let mut dropped_rows = 0;
        if layout.drop_last {
            batches.retain(|batch| {
                let full = batch.len() == layout.rows;
                dropped_rows += if full { 0 } else { batch.len() };
                full
            });
        }
        // Chunks are shuffled already; other rows follow the samples' order, which length buckets undo.
        if layout.shuffle && matches!(layout.packing, Packing::Padding(_)) {
            shuffle(&mut batches, &mut rng);
        }
        Plan {
            batches,
            dropped_tokens,
            dropped_rows,
        }
    }

    /// What one of `world` processes takes of the plan: every `world`th batch from its own on, equally many each.
    pub fn share(&self, rank: usize, world: usize) -> Vec<&[Row]> {
        let each = self.batches.len().checked_div(world).unwrap_or(0);
        let own = self.batches.iter().skip(rank).step_by(world.max(1));
        own.take(each).map(Vec::as_slice).collect()
    }

    /// Tokens of all rows, padding included.
    pub fn tokens(&self) -> u64 {
        let rows = self.batches.iter().flatten();
        rows.map(|row| row.tokens() as u64).sum()
    }
}

fn group(rows: Vec<Row>, size: usize) -> Vec<Vec<Row>> {
    rows.chunks(size.max(1)).map(<[Row]>::to_vec).collect()
}

#[cfg(test)]
mod tests;
