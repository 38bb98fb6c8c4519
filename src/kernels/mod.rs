//! CPU kernels on plain slices: fused decode attention over mixed storage, the transforms that prepare its rows, the
//! page bounds that choose which rows it reads, and products with weights at their own width over a pool of threads.
//!
//! All public functions are safe: they check every length and never run an instruction that the CPU lacks. Rows are
//! row-major, and arithmetic is in `f32` whatever the rows are stored as.

mod aligned;
mod attention;
mod chunk;
mod dense;
mod draw;
mod elementwise;
mod hadamard;
mod lanes;
mod level;
mod line;
mod matmul;
mod pages;
mod plain;
mod pool;
mod precision;
mod quantize;
mod rotate;
mod rows;
mod slabs;
mod steps;
pub mod training;
#[cfg(target_arch = "x86_64")]
mod x86;

/// How much of a test there is to be: less where an interpreter runs it (Miri), which takes a thousand times as long.
#[cfg(test)]
const fn amount(usual: usize, interpreted: usize) -> usize {
    if cfg!(miri) { interpreted } else { usual }
}

pub use aligned::Aligned;
pub use attention::{Scratch, Segment, attend};
pub use chunk::{Chunk, Received, Window, attend_chunk};
pub use draw::{Keys, draw};
pub use elementwise::{add_and_norm, gate, rms_norm, rotate_rows};
pub use hadamard::hadamard;
pub use level::Level;
pub use matmul::{Format, Matrix, MatrixError, expect, multiply, multiply_as};
pub use pages::{bounds, upper_bounds};
pub use pool::Pool;
pub use precision::Precision;
pub use quantize::{dequantize_row, quantize_row};
pub use rotate::rotate;
pub use rows::RowsRef;
pub use slabs::{Piece, Slabs};
