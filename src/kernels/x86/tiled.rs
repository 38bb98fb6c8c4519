//! Operands of products of tiles, from floats.
#![allow(
    unsafe_code,
    reason = "masked vector loads, whose bounds are asserted before the loops"
)]

use half::bf16;

use super::halves::{BLOCK, Halves, HalvesWork, Operands, STEP, TILE};
use crate::kernels::dense::{Dense, Panels, Rows};
use crate::kernels::line::{self, LINE_FLOATS, Line};

/// Tiles that a tile of numbers takes: one, or the larger halves and the rests.
pub(in crate::kernels) const fn halves_of(split: bool) -> usize {
    1 + split as usize
}

/// Lines of the tiles of [`TILE`] rows or columns of `depth` numbers.
pub(in crate::kernels) const fn lines(depth: usize, split: bool) -> usize {
    depth.div_ceil(STEP) * halves_of(split) * TILE
}

/// Packs up to [`TILE`] rows of `depth` floats that lie `stride` apart as rows of tiles; absent rows are 0.
pub(in crate::kernels) struct PackRows<'a, const SPLIT: bool> {
    pub(in crate::kernels) from: &'a [f32],
    pub(in crate::kernels) stride: usize,
    pub(in crate::kernels) rows: usize,
    pub(in crate::kernels) depth: usize,
    pub(in crate::kernels) to: &'a mut [Line],
}

impl<const SPLIT: bool> HalvesWork for PackRows<'_, SPLIT> {
    #[inline(always)]
    fn run(self, cpu: Halves) {
        assert!(self.rows <= TILE && self.depth > 0);
        assert_eq!(self.to.len(), lines(self.depth, SPLIT));
        assert!(self.rows == 0 || (self.rows - 1) * self.stride + self.depth <= self.from.len());
        let tiles = self.to.chunks_exact_mut(halves_of(SPLIT) * TILE);
        for (tile, column) in tiles.zip((0..self.depth).step_by(STEP)) {
            let left = self.depth - column;
            let (first, second) = (left.min(LINE_FLOATS), left.saturating_sub(LINE_FLOATS));
            for row in 0..TILE {
                if row >= self.rows {
                    tile[row] = Line::default();
                    if SPLIT {
                        tile[TILE + row] = Line::default();
                    }
                    continue;
                }
                let at = row * self.stride + column;
                // SAFETY: the row has `depth` floats from `row * stride` on, of which `left` remain.
                let floats = unsafe {
                    let from = self.from.as_ptr().add(at);
                    [
                        cpu.load_first(from, first),
                        cpu.load_first(from.wrapping_add(LINE_FLOATS), second),
                    ]
                };
                let rounded = cpu.halves(floats);
                cpu.store(&mut tile[row], rounded);
                if SPLIT {
                    cpu.store(&mut tile[TILE + row], cpu.rest(rounded, floats));
                }
            }
        }
    }
}

/// Packs lines of [`TILE`] columns, one for each of the depth, as columns of tiles; lines beyond are 0.
pub(in crate::kernels) struct PackColumns<'a, const SPLIT: bool> {
    pub(in crate::kernels) from: &'a [Line],
    pub(in crate::kernels) to: &'a mut [Line],
}

impl<const SPLIT: bool> HalvesWork for PackColumns<'_, SPLIT> {
    #[inline(always)]
    fn run(self, cpu: Halves) {
        assert_eq!(self.to.len(), lines(self.from.len(), SPLIT));
        let zero = Line::default();
        let tiles = self.to.chunks_exact_mut(halves_of(SPLIT) * TILE);
        for (tile, from) in tiles.zip(self.from.chunks(STEP)) {
            for pair in 0..TILE {
                let line = |i: usize| cpu.load(from.get(i).unwrap_or(&zero));
                let (low, high) = (line(2 * pair), line(2 * pair + 1));
                let rounded = cpu.pairs(low, high);
                cpu.store(&mut tile[pair], rounded);
                if SPLIT {
                    cpu.store(&mut tile[TILE + pair], cpu.rests(rounded, low, high));
                }
            }
        }
    }
}

/// Packs [`TILE`] rows of `depth` numbers, whole steps, as columns of tiles: pairs of neighbours stay together, so it is a
/// transposition of words. The rests are 0.
struct Transpose<'a, const SPLIT: bool> {
    rows: &'a [bf16],
    depth: usize,
    to: &'a mut [Line],
}

impl<const SPLIT: bool> HalvesWork for Transpose<'_, SPLIT> {
    #[inline(always)]
    fn run(self, cpu: Halves) {
        assert_eq!(self.rows.len(), TILE * self.depth);
        assert!(self.depth.is_multiple_of(STEP));
        assert_eq!(self.to.len(), lines(self.depth, SPLIT));
        for (step, tile) in self
            .to
            .chunks_exact_mut(halves_of(SPLIT) * TILE)
            .enumerate()
        {
            // SAFETY: each of the rows has a whole step from `step * STEP` on.
            let rows = std::array::from_fn(|row| unsafe {
                cpu.load_halves(self.rows.as_ptr().add(row * self.depth + step * STEP))
            });
            let columns = cpu.transpose(rows);
            for (line, column) in tile.iter_mut().zip(columns) {
                cpu.store(line, column);
            }
            tile[TILE..].fill(Line::default());
        }
    }
}

/// Packs [`TILE`] columns from `first` on of rows of `width` numbers as columns of tiles. The rests are 0.
struct Interleave<'a, const SPLIT: bool> {
    rows: &'a [bf16],
    width: usize,
    first: usize,
    to: &'a mut [Line],
}

impl<const SPLIT: bool> HalvesWork for Interleave<'_, SPLIT> {
    #[inline(always)]
    fn run(self, cpu: Halves) {
        let depth = self.rows.len() / self.width;
        assert!(self.first + TILE <= self.width && depth.is_multiple_of(STEP));
        assert_eq!(self.to.len(), lines(depth, SPLIT));
        for (step, tile) in self
            .to
            .chunks_exact_mut(halves_of(SPLIT) * TILE)
            .enumerate()
        {
            for (pair, line) in tile[..TILE].iter_mut().enumerate() {
                let at = (step * STEP + 2 * pair) * self.width + self.first;
                // SAFETY: both rows have as many as a tile's columns from `first` on.
                let both = unsafe {
                    let row = self.rows.as_ptr().add(at);
                    cpu.interleave(row, row.add(self.width))
                };
                cpu.store(line, both);
            }
            tile[TILE..].fill(Line::default());
        }
    }
}

/// In tiles of `bf16`, or of two halves.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Tiled<const SPLIT: bool>(pub(in crate::kernels) Halves);

impl<const SPLIT: bool> Dense for Tiled<SPLIT> {
    fn lines(self, depth: usize) -> usize {
        lines(depth, SPLIT)
    }

    fn pack(self, from: &[Line], to: &mut [Line]) {
        self.0.run(PackColumns::<SPLIT> { from, to });
    }

    fn pack_columns(self, rows: &[bf16], depth: usize, to: &mut [Line]) -> bool {
        let fits = depth > 0 && depth.is_multiple_of(STEP) && rows.len() == TILE * depth;
        if fits {
            self.0.run(Transpose::<SPLIT> { rows, depth, to });
        }
        fits
    }

    fn pack_rows(self, rows: &[bf16], width: usize, first: usize, to: &mut [Line]) -> bool {
        let depth = rows.len() / width;
        let fits = first + TILE <= width && depth.is_multiple_of(STEP);
        if fits {
            self.0.run(Interleave::<SPLIT> {
                rows,
                width,
                first,
                to,
            });
        }
        fits
    }

    fn product(
        self,
        rows: Rows<'_>,
        panels: Panels<'_>,
        depth: usize,
        scratch: &mut Vec<Line>,
        out: &mut [f32],
        stride: usize,
    ) {
        if panels.count == 0 || depth == 0 {
            return;
        }
        let group = lines(depth, SPLIT);
        let packed = line::take(scratch, 2 * group);
        for (i, to) in packed.chunks_exact_mut(group).enumerate() {
            let first = (i * TILE).min(rows.count);
            self.0.run(PackRows::<SPLIT> {
                from: &rows.floats[(first * rows.stride).min(rows.floats.len())..],
                stride: rows.stride,
                rows: (rows.count - first).min(TILE),
                depth,
                to,
            });
        }
        assert!(rows.count <= BLOCK && panels.count.is_multiple_of(2) && group <= panels.lines);
        assert!((panels.count - 1) * panels.lines + group <= panels.all.len());
        assert!(
            panels.count * TILE <= stride
                && (BLOCK - 1) * stride + panels.count * TILE <= out.len()
        );
        let (first, second) = packed.split_at(group);
        let tiles = self.0.blocks();
        for pair in 0..panels.count / 2 {
            let column = |i: usize| panels.all[(2 * pair + i) * panels.lines..].as_ptr();
            let operands = Operands {
                rows: [first.as_ptr(), second.as_ptr()],
                columns: [column(0), column(1)],
                steps: depth.div_ceil(STEP),
            };
            // SAFETY: the rows are as long as all steps, and by the assertions so are the columns, and the block lies
            // within `out`.
            unsafe {
                tiles.product::<SPLIT>(operands, out.as_mut_ptr().add(pair * BLOCK), stride, false)
            };
        }
    }
}
