//! The rows that quantised weights are multiplied with, rounded to 8 bits.

use super::packing::UNIT;
use crate::kernels::lanes::{GROUP, Lanes, Work};
use crate::kernels::pool::Pool;
use std::ops::Range;

/// Words of a unit.
pub(super) const WORDS: usize = UNIT / 4;

/// Rows that are rounded together.
const FEW: usize = 16;

/// Rows of bytes. A group of columns is `scale * byte`, and its largest magnitude is 127 of them.
#[derive(Default)]
pub(super) struct Bytes {
    rows: usize,
    units: usize,
    /// `[rows, units * WORDS]`: four columns a word, in the order of [`Quants::bytes`](super::packing::Quants).
    words: Vec<u32>,
    /// `[rows, groups]`.
    scales: Vec<f32>,
    /// `[rows, groups]`, the sum over each group.
    group_sums: Vec<f32>,
    /// `[rows, units]`, the sum over each unit.
    unit_sums: Vec<f32>,
}

/// Some of the rows.
#[derive(Clone, Copy)]
pub(super) struct Rounded<'a> {
    pub(super) rows: usize,
    pub(super) units: usize,
    pub(super) words: &'a [u32],
    pub(super) scales: &'a [f32],
    pub(super) group_sums: &'a [f32],
    pub(super) unit_sums: &'a [f32],
}

impl Bytes {
    /// Replaces these by `x`, `[n, cols]`, whose columns are whole groups.
    pub(super) fn round<L: Lanes>(&mut self, lanes: L, pool: &Pool, x: &[f32], n: usize) {
        let cols = x.len() / n;
        self.rows = n;
        self.units = cols / UNIT;
        let units = n * self.units;
        let groups = units * UNIT / GROUP;
        self.words.resize(units * WORDS, 0);
        self.unit_sums.resize(units, 0.0);
        self.scales.resize(groups, 0.0);
        self.group_sums.resize(groups, 0.0);
        // Of a few rows, the parts would wait for each other longer than they take.
        let part = match n > FEW {
            true => FEW * cols,
            false => x.len(),
        };
        let words = self.words.chunks_mut(part / 4);
        let scales = self.scales.chunks_mut(part / GROUP);
        let sums =
            (self.group_sums.chunks_mut(part / GROUP)).zip(self.unit_sums.chunks_mut(part / UNIT));
        let parts = x.chunks(part).zip(words).zip(scales.zip(sums));
        let parts = parts.map(|((x, words), (scales, (group_sums, unit_sums)))| Round {
            x,
            words,
            scales,
            group_sums,
            unit_sums,
        });
        pool.each(parts, |part| lanes.run(part));
    }

    /// Sets of up to `most` rows.
    pub(super) fn sets(&self, most: usize) -> impl Iterator<Item = (Range<usize>, Rounded<'_>)> {
        let groups = self.units * UNIT / GROUP;
        (0..self.rows).step_by(most).map(move |first| {
            let rows = first..(first + most).min(self.rows);
            let part = |of_row: usize| rows.start * of_row..rows.end * of_row;
            let rounded = Rounded {
                rows: rows.len(),
                units: self.units,
                words: &self.words[part(self.units * WORDS)],
                scales: &self.scales[part(groups)],
                group_sums: &self.group_sums[part(groups)],
                unit_sums: &self.unit_sums[part(self.units)],
            };
            (rows, rounded)
        })
    }
}

struct Round<'a> {
    x: &'a [f32],
    words: &'a mut [u32],
    scales: &'a mut [f32],
    group_sums: &'a mut [f32],
    unit_sums: &'a mut [f32],
}

impl<L: Lanes> Work<L> for &mut Round<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self, lanes: L) {
        let (words, _) = self.words.as_chunks_mut::<{ 2 * WORDS }>();
        let (unit_sums, _) = self.unit_sums.as_chunks_mut::<2>();
        let (groups, _) = self.x.as_chunks::<GROUP>();
        let sums = unit_sums.iter_mut().zip(self.group_sums.iter_mut());
        let outputs = words.iter_mut().zip(self.scales.iter_mut()).zip(sums);
        for (x, ((words, scale), (unit_sums, group_sum))) in groups.iter().zip(outputs) {
            let group = lanes.to_bytes(x);
            *words = group.words;
            *scale = group.scale;
            let [low, high] = group.sums;
            *unit_sums = [group.scale * low as f32, group.scale * high as f32];
            *group_sum = group.scale * (low + high) as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::lanes::Arrays;

    #[test]
    fn rows_follow_each_other_in_sets() {
        let x: Vec<f32> = (0..3 * GROUP)
            .map(|i| ((i / GROUP + 1) * (i % GROUP)) as f32)
            .collect();
        let mut bytes = Bytes::default();
        // What was there before has no effect.
        let pool = Pool::new(2).unwrap();
        bytes.round(Arrays::<4>, &pool, &vec![9.0; 4 * GROUP], 4);
        bytes.round(Arrays::<4>, &pool, &x, 3);
        let sets: Vec<_> = bytes.sets(2).collect();
        let [(first, two), (second, one)] = &sets[..] else {
            panic!("{} sets", sets.len());
        };
        assert_eq!((first, second), (&(0..2), &(2..3)));
        assert_eq!((two.rows, one.rows, one.units), (2, 1, 2));
        let word = |columns: [f32; 4]| {
            u32::from_le_bytes(columns.map(|x| (x * 127.0 / 31.0).round_ties_even() as u8))
        };
        for words in [two.words, one.words].concat().chunks(2 * WORDS) {
            let expected = [
                word([0.0, 2.0, 4.0, 6.0]),
                word([1.0, 3.0, 5.0, 7.0]),
                word([8.0, 10.0, 12.0, 14.0]),
                word([9.0, 11.0, 13.0, 15.0]),
            ];
            assert_eq!((words.len(), &words[..4]), (2 * WORDS, &expected[..]));
            assert_eq!(words[7], word([25.0, 27.0, 29.0, 31.0]));
        }
        assert_eq!(one.scales, [93.0 / 127.0]);
        let sum = one.unit_sums[0] + one.unit_sums[1];
        assert!((sum - one.group_sums[0]).abs() < 1e-3 && (sum - 3.0 * 496.0).abs() < 3.0);
    }
}
