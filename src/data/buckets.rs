//! Samples of about one length in a batch, padded to a multiple.

use super::{Piece, Row};

/// Batches of `size` samples, short with short and long with long, each row padded to a multiple of `multiple` tokens.
pub(super) fn batches(samples: &[(u32, u32)], size: usize, multiple: u32) -> Vec<Vec<Row>> {
    let mut sorted = samples.to_vec();
    // Stable, so that equal lengths stay in the order of the epoch.
    sorted.sort_by_key(|(_, length)| *length);
    let row = |&(sample, len): &(u32, u32)| {
        let piece = Piece {
            sample,
            from: 0,
            len,
        };
        Row {
            pieces: vec![piece],
            padding: len.next_multiple_of(multiple.max(1)) - len,
        }
    };
    let batch = |batch: &[(u32, u32)]| batch.iter().map(row).collect();
    sorted.chunks(size.max(1)).map(batch).collect()
}
