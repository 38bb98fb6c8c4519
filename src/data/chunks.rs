//! Samples end to end, cut into rows of one length.

use super::order::{Use, below, stream};
use super::plan::Layout;
use super::{Piece, Row};

/// Cuts `(sample, length)` in order into rows of exactly `context` tokens, after the first `skip`. Also gives how many
/// tokens were left at the end.
///
/// A row that is exactly full is given out; llama-recipes holds it back and loses it at the end. A row holds a piece of
/// each sample that it touches, and attention stays within a piece, as Llama 3 was trained
/// (<https://arxiv.org/abs/2407.21783>, section 3.2).
pub(super) fn rows(samples: &[(u32, u32)], context: u32, skip: u64) -> (Vec<Row>, u64) {
    let mut rows = Vec::new();
    let mut row = Row::default();
    let mut room = context;
    let mut skip = skip;
    for &(sample, length) in samples {
        let skipped = skip.min(length.into()) as u32;
        skip -= u64::from(skipped);
        let mut from = skipped;
        while from < length {
            let len = room.min(length - from);
            row.pieces.push(Piece { sample, from, len });
            from += len;
            room -= len;
            if room == 0 {
                rows.push(std::mem::take(&mut row));
                room = context;
            }
        }
    }
    (rows, row.tokens() as u64)
}

/// How many tokens an epoch skips, so that rows are not cut at the same places in each: none in the first.
pub(super) fn skipped(layout: &Layout, epoch: u64, samples: &[(u32, u32)]) -> u64 {
    let tokens: u64 = samples.iter().map(|(_, length)| u64::from(*length)).sum();
    let spare = tokens
        .saturating_sub(layout.context.into())
        .min(layout.context.into());
    match layout.shuffle && epoch > 0 {
        true => below(&mut stream(layout.seed, epoch, Use::Start), spare as usize) as u64,
        false => 0,
    }
}
