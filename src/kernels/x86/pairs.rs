//! Products of blocks of `bf16` in vectors: of pairs, where there are no tiles.
#![allow(
    unsafe_code,
    reason = "intrinsics, on a CPU that was asked for them, at addresses that the caller answers for"
)]

use std::arch::x86_64::*;

use super::halves::{BLOCK, Halves, HalvesWork, Operands, TILE};
use crate::kernels::line::Line;

/// Rows whose sums, with two vectors each, are in registers.
const ROWS: usize = 8;

/// See [`Blocks::product`](super::halves::Blocks::product).
pub(super) struct Product<const SPLIT: bool> {
    pub(super) operands: Operands,
    pub(super) out: *mut f32,
    pub(super) stride: usize,
    pub(super) add: bool,
}

impl<const SPLIT: bool> HalvesWork for Product<SPLIT> {
    #[inline(always)]
    fn run(self, cpu: Halves) {
        let Product {
            operands:
                Operands {
                    rows,
                    columns,
                    steps,
                },
            out,
            stride,
            add,
        } = self;
        // Lines of a step.
        let step_lines = TILE * (1 + SPLIT as usize);
        for first in (0..BLOCK).step_by(ROWS) {
            // SAFETY: the features were detected. By the caller, all steps of both groups of rows and columns can be read,
            // and BLOCK rows of as many floats at `out` written; `first` and the ROWS - 1 after it are rows of one group.
            unsafe {
                let out = out.add(first * stride);
                let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
                if add {
                    for (row, sums) in sums.iter_mut().enumerate() {
                        let from = out.add(row * stride);
                        *sums = [_mm512_loadu_ps(from), _mm512_loadu_ps(from.add(TILE))];
                    }
                }
                let rows = rows[first / TILE].add(first % TILE);
                for step in 0..steps {
                    let at = step * step_lines;
                    let row = rows.add(at);
                    let [a, b] = [columns[0].add(at), columns[1].add(at)];
                    if SPLIT {
                        // The product of the two rests is left out: it is about as large as their rounding.
                        add_step(cpu, &mut sums, row.add(TILE), [a, b]);
                        add_step(cpu, &mut sums, row, [a.add(TILE), b.add(TILE)]);
                    }
                    add_step(cpu, &mut sums, row, [a, b]);
                }
                for (row, sums) in sums.into_iter().enumerate() {
                    let to = out.add(row * stride);
                    _mm512_storeu_ps(to, sums[0]);
                    _mm512_storeu_ps(to.add(TILE), sums[1]);
                }
            }
        }
    }
}

/// Adds the products of a tile of columns of each group with [`ROWS`] lines of rows.
///
/// # Safety
///
/// The lines can be read.
#[inline(always)]
unsafe fn add_step(
    cpu: Halves,
    sums: &mut [[__m512; 2]; ROWS],
    rows: *const Line,
    columns: [*const Line; 2],
) {
    for pair in 0..TILE {
        // SAFETY: the caller's; a line has as many pairs as a tile has lines.
        unsafe {
            let [a, b] = columns.map(|line| cpu.load(&*line.add(pair)));
            for (row, sums) in sums.iter_mut().enumerate() {
                let both = *rows.add(row).cast::<i32>().add(pair);
                let x = _mm512_castsi512_ps(_mm512_set1_epi32(both));
                sums[0] = cpu.dot(x, a, sums[0]);
                sums[1] = cpu.dot(x, b, sums[1]);
            }
        }
    }
}
