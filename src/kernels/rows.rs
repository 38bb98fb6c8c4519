//! Rows of keys or values as they are stored.

use half::bf16;

/// Borrowed rows, row-major `[len, head_dim]`.
#[derive(Debug, Clone, Copy)]
pub enum RowsRef<'a> {
    /// As computed.
    F32(&'a [f32]),
    /// The upper half of every `f32`.
    Bf16(&'a [bf16]),
    /// Symmetric 8-bit integers, see [`quantize_row`](super::quantize_row).
    Int8 {
        /// `[len, head_dim]`.
        values: &'a [i8],
        /// What one step of a row is worth, one per row.
        scales: &'a [f32],
    },
}

impl RowsRef<'_> {
    /// # Panics
    ///
    /// When these are not exactly `len` rows of `head_dim` elements.
    pub(super) fn assert_shape(&self, what: &str, len: usize, head_dim: usize) {
        let elements = match self {
            RowsRef::F32(rows) => rows.len(),
            RowsRef::Bf16(rows) => rows.len(),
            RowsRef::Int8 { values, scales } => {
                assert_eq!(scales.len(), len, "scales of the {what}: one per row");
                values.len()
            }
        };
        assert_eq!(
            Some(elements),
            len.checked_mul(head_dim),
            "elements of the {what}: {len} rows of {head_dim}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exact_shape_passes() {
        RowsRef::F32(&[0.0; 6]).assert_shape("keys", 2, 3);
        RowsRef::Bf16(&[]).assert_shape("keys", 0, 3);
        let (values, scales) = (&[0; 6][..], &[0.0; 2][..]);
        RowsRef::Int8 { values, scales }.assert_shape("keys", 2, 3);
    }

    #[test]
    #[should_panic(expected = "elements of the keys: 2 rows of 3")]
    fn a_missing_element_panics() {
        RowsRef::F32(&[0.0; 5]).assert_shape("keys", 2, 3);
    }

    #[test]
    #[should_panic(expected = "scales of the keys")]
    fn a_missing_scale_panics() {
        let (values, scales) = (&[0; 6][..], &[0.0; 1][..]);
        RowsRef::Int8 { values, scales }.assert_shape("keys", 2, 3);
    }

    #[test]
    #[should_panic(expected = "elements of the keys")]
    fn a_shape_that_overflows_panics() {
        RowsRef::F32(&[]).assert_shape("keys", usize::MAX, 2);
    }
}
