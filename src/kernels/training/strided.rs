//! Matrices where they lie.

/// A matrix that is read where it lies: its rows or its columns are contiguous, and equally far apart.
#[derive(Debug, Clone, Copy)]
pub struct Strided<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_step: usize,
    col_step: usize,
}

impl<'a> Strided<'a> {
    /// `[rows, cols]`, row by row without gaps.
    ///
    /// # Panics
    ///
    /// When `data` is not `rows * cols` long.
    pub fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        assert_eq!(
            Some(data.len()),
            rows.checked_mul(cols),
            "data: {rows} rows of {cols}"
        );
        Strided::with_step(data, rows, cols, cols)
    }

    /// `[rows, cols]`, each row `row_step` floats after the one before: some columns of a wider matrix.
    ///
    /// # Panics
    ///
    /// When rows overlap, or `data` ends before the last row does.
    pub fn with_step(data: &'a [f32], rows: usize, cols: usize, row_step: usize) -> Self {
        assert!(
            rows <= 1 || row_step >= cols,
            "row_step: rows of {cols} overlap"
        );
        let end = rows.checked_sub(1).map_or(Some(0), |before| {
            before
                .checked_mul(row_step)
                .and_then(|start| start.checked_add(cols))
        });
        assert!(
            end.is_some_and(|end| end <= data.len()),
            "data: {rows} rows of {cols}, {row_step} apart"
        );
        Strided {
            data,
            rows,
            cols,
            row_step,
            col_step: 1,
        }
    }

    /// Rows as columns.
    pub fn transposed(self) -> Self {
        Strided {
            data: self.data,
            rows: self.cols,
            cols: self.rows,
            row_step: self.col_step,
            col_step: self.row_step,
        }
    }

    /// How many rows it has.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// How many columns it has.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Rows `first` to `first + rows`, of which only columns `from` to `from + cols`.
    pub(super) fn cut(self, (first, rows): (usize, usize), (from, cols): (usize, usize)) -> Self {
        assert!(
            first + rows <= self.rows && from + cols <= self.cols,
            "a cut beyond the matrix"
        );
        let start = if rows == 0 || cols == 0 {
            0
        } else {
            first * self.row_step + from * self.col_step
        };
        Strided {
            data: &self.data[start..],
            rows,
            cols,
            ..self
        }
    }

    /// Where it starts; element `(r, c)` is `r * row_step() + c * col_step()` floats further, one of which is 1.
    pub(super) fn start(&self) -> *const f32 {
        self.data.as_ptr()
    }

    pub(super) fn row_step(&self) -> usize {
        self.row_step
    }

    pub(super) fn col_step(&self) -> usize {
        self.col_step
    }
}

#[cfg(test)]
impl Strided<'_> {
    pub(super) fn at(&self, row: usize, col: usize) -> f32 {
        assert!(row < self.rows && col < self.cols);
        self.data[row * self.row_step + col * self.col_step]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_of_a_wider_matrix_and_their_transpose() {
        let data: Vec<f32> = (0..12).map(|i| i as f32).collect();
        let all = Strided::new(&data, 3, 4);
        assert_eq!((all.rows(), all.cols(), all.at(2, 3)), (3, 4, 11.0));
        let columns = Strided::with_step(&data[1..], 3, 2, 4);
        assert_eq!((columns.at(0, 0), columns.at(2, 1)), (1.0, 10.0));
        let turned = columns.transposed();
        assert_eq!(
            (turned.rows(), turned.cols(), turned.at(1, 2)),
            (2, 3, 10.0)
        );
        let cut = turned.cut((1, 1), (1, 2));
        assert_eq!((cut.at(0, 0), cut.at(0, 1)), (6.0, 10.0));
        assert_eq!(Strided::new(&[], 0, 7).cut((0, 0), (3, 4)).cols(), 4);
    }

    #[test]
    #[should_panic(expected = "3 rows of 2, 4 apart")]
    fn a_matrix_that_ends_early_panics() {
        Strided::with_step(&[0.0; 9], 3, 2, 4);
    }

    #[test]
    #[should_panic(expected = "overlap")]
    fn overlapping_rows_panic() {
        Strided::with_step(&[0.0; 9], 3, 2, 1);
    }
}
