//! Operands of products as panels of words: of some rows (or columns) word after word of the depth, so that a tile reads
//! both of its operands from front to back (GotoBLAS, <https://doi.org/10.1145/1356052.1356053>).
#![allow(
    unsafe_code,
    reason = "matrices are read by address, whose bounds their type and an assertion vouch for"
)]

use super::super::math::{Math, SQUARE, Work};
use super::super::strided::Strided;
use super::multiplier::Multiplier;

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
        // Panels that share a square, and the rows of theirs that one has.
        let piece = width.min(SQUARE);
        let to = to.as_mut_ptr();
        let start = from.start();
        for first in (0..padded).step_by(SQUARE) {
            let present = rows.saturating_sub(first).min(SQUARE);
            let pieces = (padded - first).min(SQUARE) / piece;
            // SAFETY: reads elements of `from` only: `present` rows from `first` on, `depth` numbers each. Writes, of each
            // word, the pieces of rows `first` to `first + SQUARE` that the panels have: `padded` rows in all.
            unsafe {
                let to = to.add(first / width * width * words + first % width);
                if from.col_step() == 1 {
                    let start = start.wrapping_add(first * from.row_step());
                    let mut square = [0.0; SQUARE * SQUARE];
                    let mut turned = [0.0; SQUARE * SQUARE];
                    if present < SQUARE {
                        square.fill(0.0);
                    }
                    for word in (0..words).step_by(SQUARE) {
                        let number = word * P::DEEP;
                        for row in 0..present {
                            let at = start.wrapping_add(row * from.row_step() + number);
                            let to = square.as_mut_ptr().add(row * SQUARE);
                            multiplier.along(at, depth - number, to);
                        }
                        let count = (words - word).min(SQUARE);
                        if width >= SQUARE && count == SQUARE {
                            let to = to.add(word * width);
                            let vectors = multiplier.vectors();
                            vectors.transpose(square.as_ptr(), SQUARE, to, width);
                            continue;
                        }
                        let vectors = multiplier.vectors();
                        vectors.transpose(square.as_ptr(), SQUARE, turned.as_mut_ptr(), SQUARE);
                        for i in 0..count {
                            let line = turned.as_ptr().add(i * SQUARE);
                            spread(
                                line,
                                piece,
                                pieces,
                                to.add((word + i) * width),
                                width * words,
                            );
                        }
                    }
                } else {
                    let start = start.wrapping_add(first * from.row_step());
                    let mut line = [0.0; SQUARE];
                    for word in 0..words {
                        let number = word * P::DEEP;
                        let size = ((depth - number).min(P::DEEP), present);
                        let at = start.wrapping_add(number * from.col_step());
                        if width >= SQUARE {
                            multiplier.across(at, from.col_step(), size, to.add(word * width));
                            continue;
                        }
                        multiplier.across(at, from.col_step(), size, line.as_mut_ptr());
                        spread(
                            line.as_ptr(),
                            piece,
                            pieces,
                            to.add(word * width),
                            width * words,
                        );
                    }
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
