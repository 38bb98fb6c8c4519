//! Keys or values of one KV head in memory: rows of one length, in the type they are stored in.

use std::ops::Range;

use half::bf16;

use crate::kernels::{RowsRef, dequantize_row, hadamard, quantize_row};

/// The type of stored keys and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RowKind {
    /// 4 bytes a value.
    Float32,
    /// 2 bytes a value.
    Bfloat16,
    /// 1 byte a value and a scale a row.
    Int8,
    /// Likewise, after a Hadamard rotation of the row, which spreads the few large channels that keys have
    /// (<https://arxiv.org/abs/2404.00456>).
    Int8Rotated,
}

impl RowKind {
    /// Bytes of a row of `dim` values.
    pub fn row_bytes(self, dim: usize) -> usize {
        match self {
            RowKind::Float32 => 4 * dim,
            RowKind::Bfloat16 => 2 * dim,
            RowKind::Int8 | RowKind::Int8Rotated => dim + size_of::<f32>(),
        }
    }
}

/// Rows of `dim` values.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    dim: usize,
    data: Data,
}

/// Rows as they lie in memory.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Stored<'a> {
    /// Values, row by row.
    Float32(&'a [f32]),
    /// Likewise.
    Bfloat16(&'a [bf16]),
    /// Values, and one scale a row.
    Int8(&'a [i8], &'a [f32]),
}

#[derive(Debug, Clone, PartialEq)]
enum Data {
    Float32(Vec<f32>),
    Bfloat16(Vec<bf16>),
    Int8 {
        values: Vec<i8>,
        scales: Vec<f32>,
        rotated: bool,
    },
}

impl Rows {
    /// No rows.
    pub fn new(kind: RowKind, dim: usize) -> Self {
        let data = match kind {
            RowKind::Float32 => Data::Float32(Vec::new()),
            RowKind::Bfloat16 => Data::Bfloat16(Vec::new()),
            RowKind::Int8 | RowKind::Int8Rotated => Data::Int8 {
                values: Vec::new(),
                scales: Vec::new(),
                rotated: kind == RowKind::Int8Rotated,
            },
        };
        Rows { dim, data }
    }

    /// Their type.
    pub fn kind(&self) -> RowKind {
        match &self.data {
            Data::Float32(_) => RowKind::Float32,
            Data::Bfloat16(_) => RowKind::Bfloat16,
            Data::Int8 { rotated: false, .. } => RowKind::Int8,
            Data::Int8 { rotated: true, .. } => RowKind::Int8Rotated,
        }
    }

    /// Values of a row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// How many.
    pub fn len(&self) -> usize {
        match &self.data {
            Data::Float32(values) => values.len() / self.dim,
            Data::Bfloat16(values) => values.len() / self.dim,
            Data::Int8 { scales, .. } => scales.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes allocated.
    pub fn bytes(&self) -> usize {
        match &self.data {
            Data::Float32(values) => values.capacity() * 4,
            Data::Bfloat16(values) => values.capacity() * 2,
            Data::Int8 { values, scales, .. } => values.capacity() + scales.capacity() * 4,
        }
    }

    /// Makes room for `rows` in all, exactly: an arena of known size is allocated once.
    pub fn reserve(&mut self, rows: usize) {
        let more = rows.saturating_sub(self.len());
        match &mut self.data {
            Data::Float32(values) => values.reserve_exact(more * self.dim),
            Data::Bfloat16(values) => values.reserve_exact(more * self.dim),
            Data::Int8 { values, scales, .. } => {
                values.reserve_exact(more * self.dim);
                scales.reserve_exact(more);
            }
        }
    }

    /// Gives back what is allocated beyond the rows.
    pub fn shrink(&mut self) {
        match &mut self.data {
            Data::Float32(values) => values.shrink_to_fit(),
            Data::Bfloat16(values) => values.shrink_to_fit(),
            Data::Int8 { values, scales, .. } => {
                values.shrink_to_fit();
                scales.shrink_to_fit();
            }
        }
    }

    /// Rows that fit without another allocation.
    pub fn room(&self) -> usize {
        match &self.data {
            Data::Float32(values) => values.capacity() / self.dim,
            Data::Bfloat16(values) => values.capacity() / self.dim,
            Data::Int8 { values, scales, .. } => {
                (values.capacity() / self.dim).min(scales.capacity())
            }
        }
    }

    /// Adds a row, converted.
    pub fn push(&mut self, row: &[f32]) {
        debug_assert_eq!(row.len(), self.dim);
        match &mut self.data {
            Data::Float32(values) => values.extend_from_slice(row),
            Data::Bfloat16(values) => values.extend(row.iter().map(|&x| bf16::from_f32(x))),
            Data::Int8 {
                values,
                scales,
                rotated,
            } => {
                let from = values.len();
                values.resize(from + self.dim, 0);
                let scale = if *rotated {
                    let mut turned = row.to_vec();
                    hadamard(&mut turned);
                    quantize_row(&turned, &mut values[from..])
                } else {
                    quantize_row(row, &mut values[from..])
                };
                scales.push(scale);
            }
        }
    }

    /// Adds row `slot` of `other`: bit for bit when the types are the same.
    pub fn push_from(&mut self, other: &Rows, slot: usize) {
        let span = slot * self.dim..(slot + 1) * self.dim;
        match (&mut self.data, &other.data) {
            (Data::Float32(to), Data::Float32(from)) => to.extend_from_slice(&from[span]),
            (Data::Bfloat16(to), Data::Bfloat16(from)) => to.extend_from_slice(&from[span]),
            (
                Data::Int8 {
                    values,
                    scales,
                    rotated,
                },
                Data::Int8 {
                    values: from,
                    scales: from_scales,
                    rotated: from_rotated,
                },
            ) if rotated == from_rotated => {
                values.extend_from_slice(&from[span]);
                scales.push(from_scales[slot]);
            }
            _ => {
                let mut row = vec![0.0; self.dim];
                other.read(slot, &mut row);
                self.push(&row);
            }
        }
    }

    /// Row `slot` as floats.
    pub fn read(&self, slot: usize, row: &mut [f32]) {
        let span = slot * self.dim..(slot + 1) * self.dim;
        match &self.data {
            Data::Float32(values) => row.copy_from_slice(&values[span]),
            Data::Bfloat16(values) => row
                .iter_mut()
                .zip(&values[span])
                .for_each(|(x, v)| *x = v.to_f32()),
            Data::Int8 {
                values,
                scales,
                rotated,
            } => {
                dequantize_row(&values[span], scales[slot], row);
                if *rotated {
                    hadamard(row);
                }
            }
        }
    }

    /// Replaces row `slot`.
    pub fn write(&mut self, slot: usize, row: &[f32]) {
        let span = slot * self.dim..(slot + 1) * self.dim;
        match &mut self.data {
            Data::Float32(values) => values[span].copy_from_slice(row),
            Data::Bfloat16(values) => values[span]
                .iter_mut()
                .zip(row)
                .for_each(|(v, &x)| *v = bf16::from_f32(x)),
            Data::Int8 {
                values,
                scales,
                rotated,
            } => {
                let mut turned = row.to_vec();
                if *rotated {
                    hadamard(&mut turned);
                }
                scales[slot] = quantize_row(&turned, &mut values[span]);
            }
        }
    }

    /// Rows `range` as floats, appended to `out`.
    pub fn read_all(&self, range: Range<usize>, out: &mut Vec<f32>) {
        if let Data::Float32(values) = &self.data {
            out.extend_from_slice(&values[range.start * self.dim..range.end * self.dim]);
            return;
        }
        for slot in range {
            let from = out.len();
            out.resize(from + self.dim, 0.0);
            self.read(slot, &mut out[from..]);
        }
    }

    /// Gives up row `slot`; the last row takes its place.
    pub fn swap_remove(&mut self, slot: usize) {
        fn out<T: Copy>(values: &mut Vec<T>, slot: usize, dim: usize) {
            let last = values.len() - dim;
            values.copy_within(last.., slot * dim);
            values.truncate(last);
        }
        match &mut self.data {
            Data::Float32(values) => out(values, slot, self.dim),
            Data::Bfloat16(values) => out(values, slot, self.dim),
            Data::Int8 { values, scales, .. } => {
                out(values, slot, self.dim);
                scales.swap_remove(slot);
            }
        }
    }

    /// Undoes [`Rows::swap_remove`] of `slot`, whose row is row `from` of `other`, of the same type.
    pub fn restore(&mut self, slot: usize, other: &Rows, from: usize) {
        fn swap<T>(values: &mut [T], slot: usize, dim: usize) {
            let last = values.len() - dim;
            for (i, j) in (slot * dim..(slot + 1) * dim).zip(last..) {
                values.swap(i, j);
            }
        }
        self.push_from(other, from);
        match &mut self.data {
            Data::Float32(values) => swap(values, slot, self.dim),
            Data::Bfloat16(values) => swap(values, slot, self.dim),
            Data::Int8 { values, scales, .. } => {
                swap(values, slot, self.dim);
                swap(scales, slot, 1);
            }
        }
    }

    /// Gives up the rows of `range`; those behind move down.
    pub fn remove(&mut self, range: Range<usize>) {
        let span = range.start * self.dim..range.end * self.dim;
        match &mut self.data {
            Data::Float32(values) => drop(values.drain(span)),
            Data::Bfloat16(values) => drop(values.drain(span)),
            Data::Int8 { values, scales, .. } => {
                values.drain(span);
                scales.drain(range);
            }
        }
    }

    /// The rows as they are stored: values, and the scales of int8.
    pub fn stored(&self) -> Stored<'_> {
        match &self.data {
            Data::Float32(values) => Stored::Float32(values),
            Data::Bfloat16(values) => Stored::Bfloat16(values),
            Data::Int8 { values, scales, .. } => Stored::Int8(values, scales),
        }
    }

    /// Rows from what [`Rows::stored`] gave; `None` when lengths do not fit.
    pub fn from_float32(dim: usize, values: Vec<f32>) -> Option<Self> {
        (dim > 0 && values.len().is_multiple_of(dim)).then_some(Rows {
            dim,
            data: Data::Float32(values),
        })
    }

    /// Likewise.
    pub fn from_bfloat16(dim: usize, values: Vec<bf16>) -> Option<Self> {
        (dim > 0 && values.len().is_multiple_of(dim)).then_some(Rows {
            dim,
            data: Data::Bfloat16(values),
        })
    }

    /// Likewise; `rotated` for keys.
    pub fn from_int8(dim: usize, values: Vec<i8>, scales: Vec<f32>, rotated: bool) -> Option<Self> {
        (dim > 0 && values.len() == scales.len() * dim).then_some(Rows {
            dim,
            data: Data::Int8 {
                values,
                scales,
                rotated,
            },
        })
    }

    /// The bytes of rows at full precision, little endian; of int8 rows, as float32.
    pub fn encode(&self) -> Vec<u8> {
        match &self.data {
            Data::Bfloat16(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            _ => {
                let mut floats = Vec::with_capacity(self.len() * self.dim);
                self.read_all(0..self.len(), &mut floats);
                floats.iter().flat_map(|v| v.to_le_bytes()).collect()
            }
        }
    }

    /// What [`Rows::encode`] wrote for rows of this kind; whole rows only.
    pub fn decode(kind: RowKind, dim: usize, bytes: &[u8]) -> Self {
        let data = match kind {
            RowKind::Bfloat16 => Data::Bfloat16(
                bytes
                    .as_chunks::<2>()
                    .0
                    .iter()
                    .map(|&b| bf16::from_le_bytes(b))
                    .collect(),
            ),
            _ => Data::Float32(
                bytes
                    .as_chunks::<4>()
                    .0
                    .iter()
                    .map(|&b| f32::from_le_bytes(b))
                    .collect(),
            ),
        };
        Rows { dim, data }
    }

    /// Rows `range` for the kernels.
    pub fn view(&self, range: Range<usize>) -> RowsRef<'_> {
        let span = range.start * self.dim..range.end * self.dim;
        match &self.data {
            Data::Float32(values) => RowsRef::F32(&values[span]),
            Data::Bfloat16(values) => RowsRef::Bf16(&values[span]),
            Data::Int8 { values, scales, .. } => RowsRef::Int8 {
                values: &values[span],
                scales: &scales[range],
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KINDS: [RowKind; 4] = [
        RowKind::Float32,
        RowKind::Bfloat16,
        RowKind::Int8,
        RowKind::Int8Rotated,
    ];

    fn all(rows: &Rows) -> Vec<Vec<f32>> {
        (0..rows.len())
            .map(|slot| {
                let mut row = vec![0.0; rows.dim()];
                rows.read(slot, &mut row);
                row
            })
            .collect()
    }

    proptest! {
        #[test]
        fn rows_move_like_a_list_of_rows(
            kind in prop::sample::select(&KINDS[..]),
            rows in prop::collection::vec(prop::collection::vec(-3.0f32..3.0, 6), 4..12),
            slot in 0usize..4,
        ) {
            let mut stored = Rows::new(kind, 6);
            rows.iter().for_each(|row| stored.push(row));
            let mut list = all(&stored);
            for (found, row) in list.iter().flatten().zip(rows.iter().flatten()) {
                prop_assert!((found - row).abs() < 0.06, "{} {}", found, row);
            }
            stored.swap_remove(slot);
            list.swap_remove(slot);
            prop_assert_eq!(all(&stored), list.clone());
            stored.remove(1..3);
            list.drain(1..3);
            prop_assert_eq!(all(&stored), list.clone());
            let mut copy = Rows::new(kind, 6);
            copy.push_from(&stored, 0);
            prop_assert_eq!(all(&copy), list[..1].to_vec());
        }
    }

    #[test]
    fn rows_survive_their_bytes() {
        for kind in [RowKind::Float32, RowKind::Bfloat16] {
            let mut rows = Rows::new(kind, 3);
            rows.push(&[0.1, -2.0, 3.5]);
            rows.push(&[7.0, 0.0, -0.25]);
            assert_eq!(Rows::decode(kind, 3, &rows.encode()), rows);
        }
        assert!(Rows::from_float32(2, vec![0.0; 3]).is_none());
        assert!(Rows::from_int8(2, vec![0; 4], vec![1.0; 2], true).is_some());
    }

    #[test]
    fn bytes_are_what_was_reserved() {
        for kind in KINDS {
            let mut rows = Rows::new(kind, 8);
            rows.reserve(10);
            assert_eq!(rows.bytes(), 10 * kind.row_bytes(8), "{kind:?}");
            (0..10).for_each(|_| rows.push(&[1.0; 8]));
            assert_eq!(rows.bytes(), 10 * kind.row_bytes(8), "{kind:?}");
        }
    }
}
