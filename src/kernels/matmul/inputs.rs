//! The rows that weights are multiplied with, in the order in which tiles read them.

use std::ops::Range;

use super::packing::UNIT;
use super::tile::{self, Inputs};

/// Rows in groups of one tile each, of which every column's floats are neighbours. The memory is used again.
#[derive(Default)]
pub(super) struct Packed {
    values: Vec<f32>,
    /// Of the last row, if it is a group of its own, the sum over each unit.
    sums: Vec<f32>,
    groups: Vec<Group>,
}

/// Rows that are multiplied together.
struct Group {
    rows: Range<usize>,
    /// Of the tile: the rows, and zeros beyond them.
    width: usize,
    /// Where the group starts in the values.
    start: usize,
}

impl Packed {
    /// Replaces these by `x`, `[n, cols]`, in groups of `most` rows, at least 2, and a last one of the others.
    pub(super) fn pack(&mut self, x: &[f32], n: usize, most: usize) {
        let cols = x.len() / n;
        let padded = cols.next_multiple_of(UNIT);
        let Packed {
            values,
            sums,
            groups,
        } = self;
        groups.clear();
        let mut end = 0;
        for first in (0..n).step_by(most) {
            let rows = first..(first + most).min(n);
            let (start, width) = (end, tile::width(rows.len()));
            end += padded * width;
            groups.push(Group { rows, width, start });
        }
        sums.clear();
        if n % most == 1 {
            let last = &x[(n - 1) * cols..];
            sums.extend(last.chunks(UNIT).map(|unit| unit.iter().sum::<f32>()));
        }
        // What no row fills is zero.
        values.clear();
        values.resize(end, 0.0);
        for group in groups.iter() {
            group.pack(x, cols, &mut values[group.start..]);
        }
    }

    /// The rows of each group, and what a tile takes of them.
    pub(super) fn groups(&self) -> impl Iterator<Item = (Range<usize>, Inputs<'_>)> {
        self.groups.iter().enumerate().map(|(i, group)| {
            let next = self.groups.get(i + 1);
            let end = next.map_or(self.values.len(), |next| next.start);
            let inputs = Inputs {
                width: group.width,
                values: &self.values[group.start..end],
                sums: &self.sums,
            };
            (group.rows.clone(), inputs)
        })
    }
}

impl Group {
    /// Transposes the rows of `x` that are in the group.
    fn pack(&self, x: &[f32], cols: usize, values: &mut [f32]) {
        let rows = x[self.rows.start * cols..].chunks_exact(cols);
        for (i, row) in rows.take(self.rows.len()).enumerate() {
            let column = values[i..].iter_mut().step_by(self.width);
            for (value, x) in column.zip(row) {
                *value = *x;
            }
        }
    }
}
