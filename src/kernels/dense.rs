//! Products of a few rows of floats with panels of columns, for attention of long rows.
#![allow(
    unsafe_code,
    reason = "vector loads and stores, whose bounds are asserted before the loops"
)]

use half::bf16;

use super::lanes::{Lanes, Work};
use super::line::{LINE_FLOATS, Line};

/// Rows that are multiplied together, at most.
pub(super) const ROWS: usize = 32;

/// Columns of a panel; panels come in pairs.
pub(super) const COLUMNS: usize = LINE_FLOATS;

/// How deep panels can be cut: a multiple of what every implementation sums over at a time.
pub(super) const DEPTH: usize = 32;

/// Rows of floats, `stride` apart.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) floats: &'a [f32],
    pub(super) stride: usize,
    pub(super) count: usize,
}

/// Panels of packed columns, `lines` lines apart.
#[derive(Clone, Copy)]
pub(super) struct Panels<'a> {
    pub(super) all: &'a [Line],
    pub(super) lines: usize,
    pub(super) count: usize,
}

/// How operands are multiplied.
pub(super) trait Dense: Copy + Sync {
    /// Lines of a packed panel of `depth`, which grow with it: a prefix of a panel, cut at a multiple of [`DEPTH`], is
    /// a panel.
    fn lines(self, depth: usize) -> usize;

    /// Packs a panel: line `k` holds element `k` of each of its columns.
    fn pack(self, from: &[Line], to: &mut [Line]);

    /// Packs a panel whose columns are these [`COLUMNS`] rows of `bf16`, `depth` each; false when it cannot, and then
    /// `to` is as it was.
    fn pack_columns(self, _rows: &[bf16], _depth: usize, _to: &mut [Line]) -> bool {
        false
    }

    /// Packs a panel of whole multiples of [`DEPTH`] that is columns `first` and the [`COLUMNS`] - 1 after it of `rows`,
    /// `width` each; false as in [`Dense::pack_columns`].
    fn pack_rows(self, _rows: &[bf16], _width: usize, _first: usize, _to: &mut [Line]) -> bool {
        false
    }

    /// Sets `out[r * stride + c]` to the sum over `depth` of row `r` times column `c`, of an even number of panels.
    /// Rows of `out` beyond those of `rows`, up to [`ROWS`], may be written too. `scratch` is overwritten.
    fn product(
        self,
        rows: Rows<'_>,
        panels: Panels<'_>,
        depth: usize,
        scratch: &mut Vec<Line>,
        out: &mut [f32],
        stride: usize,
    );
}

/// In single precision.
#[derive(Clone, Copy)]
pub(super) struct Floats<L>(pub(super) L);

impl<L: Lanes> Dense for Floats<L> {
    fn lines(self, depth: usize) -> usize {
        depth.next_multiple_of(DEPTH)
    }

    fn pack(self, from: &[Line], to: &mut [Line]) {
        let (used, rest) = to.split_at_mut(from.len());
        used.copy_from_slice(from);
        rest.fill(Line::default());
    }

    fn product(
        self,
        rows: Rows<'_>,
        panels: Panels<'_>,
        depth: usize,
        _: &mut Vec<Line>,
        out: &mut [f32],
        stride: usize,
    ) {
        self.0.run(Product {
            rows,
            panels,
            depth,
            out,
            stride,
        });
    }
}

struct Product<'a> {
    rows: Rows<'a>,
    panels: Panels<'a>,
    depth: usize,
    out: &'a mut [f32],
    stride: usize,
}

impl<L: Lanes> Work<L> for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self, lanes: L) {
        let Product {
            rows,
            panels,
            depth,
            out,
            stride,
        } = self;
        if rows.count == 0 || panels.count == 0 {
            return;
        }
        assert!((rows.count - 1) * rows.stride + depth <= rows.floats.len());
        assert!((panels.count - 1) * panels.lines + depth <= panels.all.len());
        assert!(depth <= panels.lines && panels.count * COLUMNS <= stride);
        assert!((rows.count - 1) * stride + panels.count * COLUMNS <= out.len());
        assert!(COLUMNS.is_multiple_of(L::LANES));
        for panel in 0..panels.count {
            let columns = panels.all[panel * panels.lines..].as_ptr().cast::<f32>();
            let mut row = 0;
            while row < rows.count {
                let left = rows.count - row;
                for lane in (0..COLUMNS).step_by(L::LANES) {
                    let place = (panel * COLUMNS) + lane;
                    // SAFETY: by the assertions, `left` rows of `depth` floats follow, `depth` lines of the panel, and
                    // the columns of this panel in as many rows of `out`.
                    unsafe {
                        let a = rows.floats.as_ptr().add(row * rows.stride);
                        let b = columns.add(lane);
                        let to = out.as_mut_ptr().add(row * stride + place);
                        let shape = (rows.stride, depth, stride);
                        match left {
                            8.. if L::SUMS >= 8 => sum::<L, 8>(lanes, a, b, to, shape),
                            4.. => sum::<L, 4>(lanes, a, b, to, shape),
                            _ => sum::<L, 1>(lanes, a, b, to, shape),
                        }
                    }
                }
                row += match left {
                    8.. if L::SUMS >= 8 => 8,
                    4.. => 4,
                    _ => 1,
                };
            }
        }
    }
}

/// One vector of columns for `N` rows.
///
/// # Safety
///
/// `a` has N rows of `depth` floats, `row_stride` apart; `b` has as many lines, of which a vector can be read at the same
/// place of each; `to` has a vector in each of N rows.
#[inline(always)]
#[allow(
    clippy::needless_range_loop,
    reason = "iterators over arrays keep the sums out of registers"
)]
unsafe fn sum<L: Lanes, const N: usize>(
    lanes: L,
    a: *const f32,
    b: *const f32,
    to: *mut f32,
    (row_stride, depth, stride): (usize, usize, usize),
) {
    let mut sums = [lanes.splat(0.0); N];
    for k in 0..depth {
        // SAFETY: the caller's.
        unsafe {
            let columns = lanes.load(b.add(k * COLUMNS));
            for i in 0..N {
                let x = lanes.splat(*a.add(i * row_stride + k));
                sums[i] = lanes.fma(x, columns, sums[i]);
            }
        }
    }
    for i in 0..N {
        // SAFETY: the caller's.
        unsafe { lanes.store(to.add(i * stride), sums[i]) };
    }
}
