//! A weight and its gradient; the weights of linears with the same input lie below each other in one tensor.

use super::parameter::{Parameter, ParameterMut, Role};
use super::processor::Processor;
use crate::kernels::Aligned;
use crate::kernels::training::{Arithmetic, Strided, gemm};
use crate::store::quant::{self, DType};

/// Values that are widened together: 4 MiB, which stay in the caches until they are used.
const PANEL: usize = 1 << 20;
/// Values that a thread widens at a time.
const PIECE: usize = 1 << 15;

/// What one tensor of a file holds of a stacked one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    /// As Hugging Face calls it, with `.weight` or `.bias`.
    pub(super) name: String,
    pub(super) rows: usize,
}

/// The elements of a tensor.
#[derive(Debug)]
enum Values {
    Float(Vec<f32>),
    /// Of each piece, row by row as its type stores them.
    Blocks(Vec<(DType, Vec<u8>)>),
}

/// A piece's values on their way into a tensor.
#[derive(Debug)]
pub(super) enum Held {
    Float(Vec<f32>),
    Blocks(DType, Vec<u8>),
}

/// A vector, or a matrix of `cols` columns.
#[derive(Debug)]
pub(super) struct Tensor {
    values: Values,
    gradient: Vec<f32>,
    pieces: Vec<Piece>,
    cols: Option<usize>,
    role: Role,
}

impl Tensor {
    /// Stacks pieces, all of them floats or all of them blocks: mixed ones are widened. A tensor that is trained is of
    /// floats.
    pub(super) fn new(
        pieces: Vec<(Piece, Held)>,
        cols: Option<usize>,
        role: Role,
        trained: bool,
    ) -> Tensor {
        let blocks = pieces
            .iter()
            .all(|(_, held)| matches!(held, Held::Blocks(..)));
        let mut names = Vec::with_capacity(pieces.len());
        let (mut floats, mut stored) = (Vec::new(), Vec::new());
        for (piece, held) in pieces {
            let count = piece.rows * cols.unwrap_or(1);
            names.push(piece);
            match held {
                Held::Blocks(dtype, bytes) if blocks => stored.push((dtype, bytes)),
                Held::Blocks(dtype, bytes) => {
                    let from = floats.len();
                    floats.resize(from + count, 0.0);
                    widen(dtype, &bytes, &mut floats[from..]);
                }
                Held::Float(values) if floats.is_empty() => floats = values,
                Held::Float(values) => floats.extend(values),
            }
        }
        let gradient = vec![0.0; if trained { floats.len() } else { 0 }];
        Tensor {
            values: match blocks {
                true => Values::Blocks(stored),
                false => Values::Float(floats),
            },
            gradient,
            pieces: names,
            cols,
            role,
        }
    }

    pub(super) fn is_trained(&self) -> bool {
        !self.gradient.is_empty()
    }

    pub(super) fn cols(&self) -> usize {
        self.cols.unwrap_or(1)
    }

    pub(super) fn rows(&self) -> usize {
        self.pieces.iter().map(|piece| piece.rows).sum()
    }

    /// Bytes of the values.
    pub(super) fn bytes(&self) -> usize {
        match &self.values {
            Values::Float(values) => size_of_val(values.as_slice()),
            Values::Blocks(blocks) => blocks.iter().map(|(_, bytes)| bytes.len()).sum(),
        }
    }

    /// The elements of a tensor that is held as floats, as vectors and trained ones are; empty for others.
    pub(super) fn floats(&self) -> &[f32] {
        match &self.values {
            Values::Float(values) => values,
            Values::Blocks(_) => &[],
        }
    }

    /// The elements and their gradient, which is `None` when it is not trained.
    pub(super) fn floats_and_gradient(&mut self) -> (&[f32], Option<&mut [f32]>) {
        let values = match &self.values {
            Values::Float(values) => values.as_slice(),
            Values::Blocks(_) => &[],
        };
        let gradient = self.gradient.as_mut_slice();
        (values, (!gradient.is_empty()).then_some(gradient))
    }

    /// Copies row `row` into `out`.
    pub(super) fn row(&self, row: usize, out: &mut [f32]) {
        self.copy_rows(row, out);
    }

    /// Copies as many rows as `out` takes, from row `from` of one piece on.
    fn copy_rows(&self, from: usize, out: &mut [f32]) {
        let cols = self.cols();
        match &self.values {
            Values::Float(values) => out.copy_from_slice(&values[from * cols..][..out.len()]),
            Values::Blocks(blocks) => {
                let mut first = 0;
                for (piece, (dtype, bytes)) in self.pieces.iter().zip(blocks) {
                    if from < first + piece.rows {
                        let row_bytes = bytes.len() / piece.rows;
                        let start = (from - first) * row_bytes;
                        let length = out.len() / cols * row_bytes;
                        return widen(*dtype, &bytes[start..start + length], out);
                    }
                    first += piece.rows;
                }
            }
        }
    }

    /// Calls `each` with runs of rows as floats: the first row and the values.
    fn panels(
        &self,
        processor: &Processor,
        scratch: &mut Aligned,
        mut each: impl FnMut(usize, &[f32]),
    ) {
        if let Values::Float(values) = &self.values {
            return each(0, values);
        }
        let cols = self.cols();
        let step = (PANEL / cols).max(1);
        let piece_rows = (PIECE / cols).max(1);
        let mut first = 0;
        for piece in &self.pieces {
            let end = first + piece.rows;
            while first < end {
                let rows = step.min(end - first);
                let panel = scratch.take(rows * cols);
                processor.for_pieces(panel, piece_rows * cols, |at, out| {
                    self.copy_rows(first + at / cols, out);
                });
                each(first, panel);
                first += rows;
            }
        }
    }

    /// `y` (+)= `x` · `W`ᵀ: `[n, cols]` -> `[n, rows]`.
    pub(super) fn forward(
        &self,
        (processor, arithmetic): (&Processor, Arithmetic),
        x: &[f32],
        y: &mut [f32],
        add: bool,
        scratch: &mut Aligned,
    ) {
        let (cols, width) = (self.cols(), self.rows());
        let x = Strided::new(x, x.len() / cols, cols);
        self.panels(processor, scratch, |first, panel| {
            let panel = Strided::new(panel, panel.len() / cols, cols).transposed();
            let (level, pool) = (processor.level, &processor.pool);
            gemm(
                level,
                pool,
                arithmetic,
                x,
                panel,
                &mut y[first..],
                width,
                add,
            );
        });
    }

    /// `dx` (+)= `dy` · `W`: `[n, rows]` -> `[n, cols]`.
    pub(super) fn back(
        &self,
        (processor, arithmetic): (&Processor, Arithmetic),
        dy: &[f32],
        dx: &mut [f32],
        add: bool,
        scratch: &mut Aligned,
    ) {
        let (cols, width) = (self.cols(), self.rows());
        let n = dy.len() / width;
        self.panels(processor, scratch, |first, panel| {
            let rows = panel.len() / cols;
            let dy = Strided::with_step(&dy[first..], n, rows, width);
            let panel = Strided::new(panel, rows, cols);
            let (level, pool) = (processor.level, &processor.pool);
            gemm(
                level,
                pool,
                arithmetic,
                dy,
                panel,
                dx,
                cols,
                add || first > 0,
            );
        });
    }

    /// Adds `dy`ᵀ · `x` to the gradient, if it is trained.
    pub(super) fn learn(
        &mut self,
        (processor, arithmetic): (&Processor, Arithmetic),
        dy: &[f32],
        x: &[f32],
    ) {
        let (cols, width) = (self.cols(), self.rows());
        if !self.is_trained() {
            return;
        }
        let n = x.len() / cols;
        let dy = Strided::new(dy, n, width).transposed();
        let x = Strided::new(x, n, cols);
        let (level, pool) = (processor.level, &processor.pool);
        gemm(
            level,
            pool,
            arithmetic,
            dy,
            x,
            &mut self.gradient,
            cols,
            true,
        );
    }

    pub(super) fn zero_gradient(&mut self) {
        self.gradient.fill(0.0);
    }

    /// Each piece with a copy of its values.
    pub(super) fn copies(&self) -> Vec<(&Piece, Vec<usize>, Vec<f32>)> {
        let mut first = 0;
        let mut copies = Vec::with_capacity(self.pieces.len());
        for piece in &self.pieces {
            let mut values = vec![0.0; piece.rows * self.cols()];
            self.copy_rows(first, &mut values);
            copies.push((piece, self.shape(piece), values));
            first += piece.rows;
        }
        copies
    }

    fn shape(&self, piece: &Piece) -> Vec<usize> {
        [Some(piece.rows), self.cols]
            .into_iter()
            .flatten()
            .collect()
    }

    /// Its pieces, unless it is held as blocks.
    pub(super) fn parameters(&self) -> Vec<Parameter<'_>> {
        let Values::Float(floats) = &self.values else {
            return Vec::new();
        };
        let mut values = floats.as_slice();
        let mut gradient = self.gradient.as_slice();
        let mut found = Vec::with_capacity(self.pieces.len());
        for piece in &self.pieces {
            let count = piece.rows * self.cols();
            let (own, rest) = values.split_at(count);
            let (own_gradient, rest_gradient) = gradient.split_at(count.min(gradient.len()));
            (values, gradient) = (rest, rest_gradient);
            found.push(Parameter {
                name: &piece.name,
                shape: self.shape(piece),
                values: own,
                gradient: own_gradient,
                trainable: self.is_trained(),
                role: self.role,
            });
        }
        found
    }

    /// Its pieces, unless it is held as blocks.
    pub(super) fn parameters_mut(&mut self) -> Vec<ParameterMut<'_>> {
        let (trainable, cols) = (self.is_trained(), self.cols);
        let Values::Float(floats) = &mut self.values else {
            return Vec::new();
        };
        let mut values = floats.as_mut_slice();
        let mut gradient = self.gradient.as_mut_slice();
        let mut found = Vec::with_capacity(self.pieces.len());
        for piece in &self.pieces {
            let count = piece.rows * cols.unwrap_or(1);
            let (own, rest) = values.split_at_mut(count);
            let (own_gradient, rest_gradient) = gradient.split_at_mut(count.min(gradient.len()));
            (values, gradient) = (rest, rest_gradient);
            found.push(ParameterMut {
                name: &piece.name,
                shape: [Some(piece.rows), cols].into_iter().flatten().collect(),
                values: own,
                gradient: own_gradient,
                trainable,
                role: self.role,
            });
        }
        found
    }
}

/// The lengths were checked when the tensor was made, of what a checked file or this program stored.
fn widen(dtype: DType, bytes: &[u8], out: &mut [f32]) {
    if let Err(error) = quant::dequantize(dtype, bytes, out) {
        unreachable!("blocks that were checked when they were read: {error}");
    }
}
