//! Weights in memory.

use std::ops::Range;

use super::format::Format;
use super::packing::ROWS;
use super::panels::Panels;
use super::tile;
use crate::kernels::slabs::Slabs;

/// `[rows, cols]` weights at their own width, in the order in which the CPU reads them.
pub struct Matrix {
    parts: Vec<Panels>,
    rows: usize,
    cols: usize,
}

/// Weights that make no matrix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MatrixError {
    /// No elements.
    #[error(
        "a matrix of {rows} rows and {cols} columns has no elements: give it at least one of each"
    )]
    Empty {
        /// Rows given.
        rows: usize,
        /// Columns given.
        cols: usize,
    },
    /// Rows that are not whole blocks.
    #[error("rows of {cols} are not whole blocks of {format:?}: the columns must be a multiple of {}", format.block_elements())]
    Columns {
        /// The type.
        format: Format,
        /// Columns given.
        cols: usize,
    },
    /// Too few or too many bytes.
    #[error(
        "{bytes} bytes are not {rows} rows of {cols} columns in {format:?}: check the shape and the type of the tensor"
    )]
    Bytes {
        /// The type.
        format: Format,
        /// Rows given.
        rows: usize,
        /// Columns given.
        cols: usize,
        /// Bytes given.
        bytes: usize,
    },
    /// Matrices of different widths in a stack.
    #[error(
        "part {part} has {cols} columns and the first has {expected}: stack matrices of equal width"
    )]
    Widths {
        /// Index of the part.
        part: usize,
        /// Its columns.
        cols: usize,
        /// Columns of the first.
        expected: usize,
    },
}

impl Matrix {
    /// Repacks weights from `bytes`, the blocks of a GGUF file, row-major and little-endian.
    ///
    /// # Errors
    ///
    /// When there are no elements, when rows are not whole blocks, or when `bytes` has another length than the shape.
    pub fn from_blocks(
        format: Format,
        rows: usize,
        cols: usize,
        bytes: &[u8],
    ) -> Result<Matrix, MatrixError> {
        Matrix::from_blocks_in(&Slabs::new(0), format, rows, cols, bytes)
    }

    /// Likewise, in memory beside that of other matrices.
    ///
    /// # Errors
    ///
    /// As [`Matrix::from_blocks`].
    pub fn from_blocks_in(
        slabs: &Slabs,
        format: Format,
        rows: usize,
        cols: usize,
        bytes: &[u8],
    ) -> Result<Matrix, MatrixError> {
        if rows == 0 || cols == 0 {
            return Err(MatrixError::Empty { rows, cols });
        }
        if !cols.is_multiple_of(format.block_elements()) {
            return Err(MatrixError::Columns { format, cols });
        }
        let row = (cols / format.block_elements()).checked_mul(format.block_bytes());
        if row.and_then(|row| row.checked_mul(rows)) != Some(bytes.len()) {
            return Err(MatrixError::Bytes {
                format,
                rows,
                cols,
                bytes: bytes.len(),
            });
        }
        Ok(Matrix {
            parts: vec![Panels::pack(slabs, format, rows, cols, bytes)],
            rows,
            cols,
        })
    }

    /// The rows of all `parts`, one below the other; each keeps its format.
    ///
    /// # Errors
    ///
    /// When there is no part, or when their columns differ.
    pub fn stacked(parts: Vec<Matrix>) -> Result<Matrix, MatrixError> {
        let cols = parts.first().map_or(0, |part| part.cols);
        if cols == 0 {
            return Err(MatrixError::Empty { rows: 0, cols });
        }
        if let Some(part) = parts.iter().position(|part| part.cols != cols) {
            return Err(MatrixError::Widths {
                part,
                cols: parts[part].cols,
                expected: cols,
            });
        }
        Ok(Matrix {
            rows: parts.iter().map(|part| part.rows).sum(),
            cols,
            parts: parts.into_iter().flat_map(|part| part.parts).collect(),
        })
    }

    /// Reorders the rows: row `i` of the result is row `order[i]` of the source. Permute before stacking.
    ///
    /// # Panics
    ///
    /// When `order` is not a permutation of the rows, or when the matrix is a stack of several.
    pub fn permute_rows(&mut self, order: &[usize]) {
        let [part] = &mut self.parts[..] else {
            panic!(
                "a stack of {} matrices: permute them before",
                self.parts.len()
            );
        };
        let mut seen = vec![false; self.rows];
        for row in order {
            assert!(!std::mem::replace(&mut seen[*row], true), "row {row} twice");
        }
        assert_eq!(order.len(), self.rows, "order: one per row");
        part.permute(order);
    }

    /// Rows, the width of a product.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns, the width of what it is multiplied with.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Whether all of its weights are.
    pub fn is_quantised(&self) -> bool {
        let mut parts = self.parts.iter();
        parts.all(|part| part.format.is_quantised())
    }

    /// Bytes of memory, which a product reads.
    pub fn bytes(&self) -> usize {
        self.parts.iter().map(Panels::bytes).sum()
    }

    /// Writes row `index` as floats, `[cols]`.
    ///
    /// # Panics
    ///
    /// When there is no such row, or `out` is not as long as one.
    pub fn row(&self, index: usize, out: &mut [f32]) {
        assert!(index < self.rows, "row {index} of {}", self.rows);
        assert_eq!(out.len(), self.cols, "out: one row");
        let mut first = 0;
        for part in &self.parts {
            if index < first + part.rows {
                let row = index - first;
                let panel = part.panel(row / ROWS);
                return tile::decode(part.format, panel, row % ROWS, out);
            }
            first += part.rows;
        }
    }

    pub(super) fn parts(&self) -> &[Panels] {
        &self.parts
    }

    /// Panels of all parts.
    pub(super) fn panels(&self) -> usize {
        self.parts.iter().map(Panels::len).sum()
    }

    /// The memory of the first of some panels and of those after it in the same part.
    pub(super) fn stretch(&self, panels: Range<usize>) -> &[u8] {
        let mut first = 0;
        for part in &self.parts {
            if panels.start < first + part.len() {
                return part.stretch(panels.start - first..(panels.end - first).min(part.len()));
            }
            first += part.len();
        }
        &[]
    }
}
