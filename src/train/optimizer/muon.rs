//! Muon: momentum whose matrix is made orthogonal (<https://kellerjordan.github.io/posts/muon/>), by the polynomials of
//! Polar Express (<https://arxiv.org/abs/2505.16932>), which bring small singular values up faster than fixed ones.

use crate::kernels::Aligned;
use crate::kernels::training::{Arithmetic, Strided, gemm, sum_of_squares};
use crate::train::network::{ParameterMut, Processor};

/// `a, b, c` of `a·X + b·(XXᵀ)X + c·(XXᵀ)²X`, one after the other; from table 1 of the paper, for singular values from
/// 0.001 to 1 and with its safety factor.
const POLYNOMIALS: [(f32, f32, f32); 5] = [
    (8.156_554, -22.483_293, 15.878_77),
    (4.042_93, -2.808_917_5, 0.500_017_8),
    (3.891_667_9, -2.772_484_2, 0.506_064_8),
    (3.285_753_7, -2.368_129_5, 0.464_490_24),
    (2.346_541_3, -1.709_782_8, 0.423_235_5),
];
/// What the norm is enlarged by, so that rounding cannot bring a singular value past 1.
const MARGIN: f32 = 1.02;

/// The rates of one matrix.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    pub(super) lr: f32,
    pub(super) weight_decay: f32,
    pub(super) momentum: f32,
    /// What the gradient is multiplied by first.
    pub(super) scale: f32,
}

/// Memory that matrices take turns in.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    update: Aligned,
    next: Aligned,
    square: Aligned,
    polynomial: Aligned,
}

/// Values that a thread works on at a time.
const PIECE: usize = 1 << 14;

/// Moves one matrix. The update is as large as its orthogonal matrix times `√max(1, rows / cols)`.
pub(super) fn step(
    processor: &Processor,
    step: Step,
    parameter: &mut ParameterMut<'_>,
    momentum: &mut [f32],
    scratch: &mut Scratch,
) {
    let (rows, cols) = match parameter.shape.as_slice() {
        [rows, cols] => (*rows, *cols),
        // What is no matrix is a row of one.
        _ => (1, parameter.values.len()),
    };
    let beta = step.momentum;
    let gradient = &*parameter.gradient;
    processor.for_pieces(momentum, PIECE, |from, momentum| {
        for (m, g) in momentum.iter_mut().zip(&gradient[from..]) {
            *m = beta * *m + (1.0 - beta) * step.scale * g;
        }
    });
    let mut update = std::mem::take(&mut scratch.update);
    let direction = update.take(rows * cols);
    let held = &*momentum;
    // Nesterov's: the gradient counts once more.
    processor.for_pieces(direction, PIECE, |from, out| {
        for ((u, m), g) in out.iter_mut().zip(&held[from..]).zip(&gradient[from..]) {
            *u = (1.0 - beta) * step.scale * g + beta * m;
        }
    });
    orthogonal(processor, direction, (rows, cols), scratch);
    let rate = step.lr * (rows as f32 / cols as f32).max(1.0).sqrt();
    let keep = 1.0 - step.lr * step.weight_decay;
    let direction = &*direction;
    processor.for_pieces(parameter.values, PIECE, |from, values| {
        for (w, u) in values.iter_mut().zip(&direction[from..]) {
            *w = keep * *w - rate * u;
        }
    });
    scratch.update = update;
}

/// Replaces `x`, `[rows, cols]`, by nearly the orthogonal matrix that is closest to its direction.
pub(super) fn orthogonal(
    processor: &Processor,
    x: &mut [f32],
    (rows, cols): (usize, usize),
    scratch: &mut Scratch,
) {
    let (level, pool) = (processor.level, &*processor.pool);
    let norm = sum_of_squares(level, pool, x).sqrt() as f32;
    // A matrix of zeros stays one; one that is not finite, too, and the caller has seen its norm.
    let shrink = 1.0 / (norm * MARGIN + 1e-6);
    crate::kernels::training::scale(level, pool, x, shrink);
    // The smaller of XXᵀ and XᵀX.
    let small = rows.min(cols);
    let flip = rows > cols;
    let gemm = |a: Strided<'_>, b: Strided<'_>, c: &mut [f32], step: usize| {
        gemm(level, pool, Arithmetic::Float32, a, b, c, step, false);
    };
    let next = scratch.next.take(rows * cols);
    let square = scratch.square.take(small * small);
    let polynomial = scratch.polynomial.take(small * small);
    for (a, b, c) in POLYNOMIALS {
        let matrix = Strided::new(x, rows, cols);
        match flip {
            false => gemm(matrix, matrix.transposed(), square, small),
            true => gemm(matrix.transposed(), matrix, square, small),
        }
        let squared = Strided::new(square, small, small);
        gemm(squared, squared, polynomial, small);
        let entries = polynomial.iter_mut().zip(&*square).enumerate();
        for (index, (p, s)) in entries {
            let diagonal = if index / small == index % small {
                a
            } else {
                0.0
            };
            *p = c * *p + b * s + diagonal;
        }
        let polynomial = Strided::new(polynomial, small, small);
        match flip {
            false => gemm(polynomial, matrix, next, cols),
            true => gemm(matrix, polynomial, next, cols),
        }
        x.copy_from_slice(next);
    }
}
