//! Operands of products as panels of words: of some rows (or columns) word after word of the depth, so that a tile reads
//! both of its operands from front to back (GotoBLAS, <https://doi.org/10.1145/1356052.1356053>).
#![allow(
    unsafe_code,
    reason = "matrices are read by address, whose bounds their type and an assertion vouch for"
)]

use super::super::math::{SQUARE, Work};
use super::super::strided::Strided;
use super::multiplier::Multiplier;
use crate::kernels::lanes::Lanes;

/// Numbers of the depth between what is read and what is fetched, of matrices whose depth does not lie in a row: the
/// processor's own prefetching ends with the short rows of a block.
const AHEAD: usize = 8;

/// Packs the rows of `from` into panels of `WIDTH` of them, one after the other, each of the words of the whole depth.
/// Rows and numbers that are absent are 0. To pack columns, transpose first.
pub(in super::super) struct Pack<'a, const COLUMNS: bool> {
    pub(in super::super) from: Strided<'a>,
    pub(in super::super) to: &'a mut [f32],
}

/// Floats that `rows` of `depth` numbers take in panels of `width`.
pub(in super::super) fn packed_len<P: Multiplier>(
    rows: usize,
    width: usize,
    depth: usize,
) -> usize {
    rows.next_multiple_of(width) * depth.div_ceil(P::DEEP)
}

impl<P: Multiplier, const COLUMNS: bool> Work<P> for Pack<'_, COLUMNS> {
    type Output = ();

    #[inline(always)]
    fn run(self, multiplier: P) {
        let Pack { from, to } = self;
        let width = if COLUMNS { P::COLUMNS } else { P::ROWS };
        assert!(width.is_multiple_of(SQUARE) || SQUARE.is_multiple_of(width));
        let (rows, depth) = (from.rows(), from.cols());
        let words = depth.div_ceil(P::DEEP);
        assert_eq!(to.len(), packed_len::<P>(rows, width, depth));
        let padded = rows.next_multiple_of(width);
        // The rows of a square that one panel has.
        let piece = width.min(SQUARE);
        let to = to.as_mut_ptr();
        let start = from.start();
        let vectors = multiplier.vectors();
        // The first word of rows `first` and after, and how many pieces of them there are.
        let place = |first: usize| first / width * width * words + first % width;
        let pieces = |first: usize| (padded - first).min(SQUARE) / piece;
        if from.col_step() == 1 {
            let step = from.row_step();
            let mut square = [0.0; SQUARE * SQUARE];
            let mut turned = [0.0; SQUARE * SQUARE];
            for first in (0..padded).step_by(SQUARE) {
                let present = rows.saturating_sub(first).min(SQUARE);
                if present < SQUARE {
                    square.fill(0.0);
                }
                for word in (0..words).step_by(SQUARE) {
                    let number = word * P::DEEP;
                    for row in 0..present {
                        let at = start.wrapping_add((first + row) * step + number);
                        // SAFETY: the row has `depth - number` numbers from there on, and the square a row.
                        unsafe {
                            let to = square.as_mut_ptr().add(row * SQUARE);
                            multiplier.along(at, depth - number, to);
                        }
                    }
                    let count = (words - word).min(SQUARE);
                    // SAFETY: both squares are whole, and the panels have pieces of `count` words from `word` on.
                    unsafe {
                        let to = to.add(place(first) + word * width);
                        if width >= SQUARE && count == SQUARE {
                            vectors.transpose(square.as_ptr(), SQUARE, to, width);
                            continue;
                        }
                        vectors.transpose(square.as_ptr(), SQUARE, turned.as_mut_ptr(), SQUARE);
                        for i in 0..count {
                            let line = turned.as_ptr().add(i * SQUARE);
                            spread(line, piece, pieces(first), to.add(i * width), width * words);
                        }
                    }
                }
            }
            return;
        }
        let step = from.col_step();
        let mut line = [0.0; SQUARE];
        for word in 0..words {
            let number = word * P::DEEP;
            let deep = (depth - number).min(P::DEEP);
            for first in (0..padded).step_by(SQUARE) {
                let size = (deep, rows.saturating_sub(first).min(SQUARE));
                let at = start.wrapping_add(number * step + first);
                for i in 0..P::DEEP {
                    vectors.prefetch(at.wrapping_add((AHEAD + i) * step).cast());
                }
                // SAFETY: `deep` columns have as many numbers as `size` says from there on, and the panels have pieces of
                // this word.
                unsafe {
                    let to = to.add(place(first) + word * width);
                    if width >= SQUARE {
                        multiplier.across(at, step, size, to);
                        continue;
                    }
                    multiplier.across(at, step, size, line.as_mut_ptr());
                    spread(line.as_ptr(), piece, pieces(first), to, width * words);
                }
            }
        }
    }
}

/// Copies `pieces` of `piece` words to places `step` apart.
///
/// # Safety
///
/// The words can be read and written.
#[inline(always)]
unsafe fn spread(from: *const f32, piece: usize, pieces: usize, to: *mut f32, step: usize) {
    for i in 0..pieces {
        // SAFETY: the caller's.
        unsafe { std::ptr::copy_nonoverlapping(from.add(i * piece), to.add(i * step), piece) };
    }
}
