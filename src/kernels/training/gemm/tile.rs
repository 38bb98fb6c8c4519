//! Tiles of sums that stay in registers.
#![allow(
    unsafe_code,
    reason = "vector loads and stores, whose bounds are asserted before the loops"
)]

use super::super::math::{Math, Work};
use super::multiplier::Multiplier;
use crate::kernels::lanes::Lanes;
use crate::kernels::line::Line;

/// Sets or adds to `out`, rows `step` apart, the products of packed rows and packed columns over some of their depth.
pub(in super::super) struct Product<'a> {
    /// Panels of rows, `depth` words each.
    pub(in super::super) rows: &'a [f32],
    /// Panels of columns, of which only the first `depth` words.
    pub(in super::super) columns: &'a [f32],
    /// Floats from panel to panel of columns.
    pub(in super::super) panel: usize,
    /// How many rows and columns there are.
    pub(in super::super) size: (usize, usize),
    /// Words.
    pub(in super::super) depth: usize,
    pub(in super::super) out: Out,
}

/// Where sums go.
#[derive(Clone, Copy)]
pub(in super::super) struct Out {
    start: *mut f32,
    step: usize,
    add: bool,
}

impl Out {
    /// Rows `step` apart from `start` on, which are added to or overwritten.
    ///
    /// # Safety
    ///
    /// What [`Product::size`] says can be read and written there while this is used, and nobody else does.
    pub(in super::super) unsafe fn new(start: *mut f32, step: usize, add: bool) -> Self {
        Out { start, step, add }
    }
}

impl<P: Multiplier> Work<P> for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self, multiplier: P) {
        let Product {
            rows,
            columns,
            panel,
            size: (height, width),
            depth,
            out,
        } = self;
        assert!(height.next_multiple_of(P::ROWS) * depth <= rows.len());
        let panels = width.div_ceil(P::COLUMNS);
        let last = panels.saturating_sub(1).checked_mul(panel);
        let end = last.and_then(|last| last.checked_add(depth * P::COLUMNS));
        assert!(panels == 0 || end.is_some_and(|end| end <= columns.len()));
        for (j, left) in (0..width).step_by(P::COLUMNS).enumerate() {
            let present = (width - left).min(P::COLUMNS);
            let lanes = P::Vectors::LANES;
            for top in (0..height).step_by(P::ROWS) {
                let tile = Tile {
                    depth,
                    present: ((height - top).min(P::ROWS), present),
                };
                // SAFETY: by the assertions the panels have `depth` words, and by the caller of `Out::new` rows `top` and
                // after, columns `left` and after, as many as are present, are there to be written.
                unsafe {
                    let a = rows.as_ptr().add(top * depth);
                    let b = columns.as_ptr().add(j * panel);
                    let to = Out {
                        start: out.start.add(top * out.step + left),
                        ..out
                    };
                    match (P::ROWS, present.div_ceil(lanes)) {
                        (8, 3) => tile.run::<P, 8, 3>(multiplier, a, b, to),
                        (8, 2) => tile.run::<P, 8, 2>(multiplier, a, b, to),
                        (8, 1) => tile.run::<P, 8, 1>(multiplier, a, b, to),
                        (4, 2) => tile.run::<P, 4, 2>(multiplier, a, b, to),
                        (4, 1) => tile.run::<P, 4, 1>(multiplier, a, b, to),
                        other => unreachable!("no tile of {other:?}"),
                    }
                }
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Tile {
    depth: usize,
    present: (usize, usize),
}

impl Tile {
    /// # Safety
    ///
    /// `a` has `depth` times R words, `b` as many lines of a panel of columns, and the rows and columns that are present
    /// are to be written.
    #[inline(always)]
    #[allow(
        clippy::needless_range_loop,
        reason = "iterators over arrays keep the sums out of registers"
    )]
    unsafe fn run<P: Multiplier, const R: usize, const V: usize>(
        self,
        multiplier: P,
        a: *const f32,
        b: *const f32,
        out: Out,
    ) {
        let vectors = multiplier.vectors();
        let lanes = P::Vectors::LANES;
        let mut sums = [[vectors.splat(0.0); V]; R];
        for k in 0..self.depth {
            // SAFETY: the caller's.
            unsafe {
                let mut columns = [vectors.splat(0.0); V];
                for j in 0..V {
                    columns[j] = vectors.load(b.add(k * P::COLUMNS + j * lanes));
                }
                for i in 0..R {
                    let x = vectors.splat(*a.add(k * R + i));
                    for j in 0..V {
                        sums[i][j] = multiplier.multiply(x, columns[j], sums[i][j]);
                    }
                }
            }
        }
        // Through memory: to be indexed by what is present, the sums would have to be there all along.
        let mut words = [[Line::default(); V]; R];
        for i in 0..R {
            for j in 0..V {
                // SAFETY: a line is as long as the longest vector.
                unsafe { vectors.store(words[i][j].0.as_mut_ptr(), sums[i][j]) };
            }
        }
        let (rows, cols) = self.present;
        for (i, words) in words[..rows].iter().enumerate() {
            for (j, words) in words.iter().enumerate() {
                let left = cols - j * lanes;
                // SAFETY: the caller's, and as above.
                unsafe {
                    let to = out.start.add(i * out.step + j * lanes);
                    let mut sum = vectors.load(words.0.as_ptr());
                    if out.add {
                        sum = vectors.add(vectors.load_first(to, left), sum);
                    }
                    vectors.store_first(to, sum, left);
                }
            }
        }
    }
}
