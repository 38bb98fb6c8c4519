//! Rows as bytes, in the order in which products read them.
#![allow(
    unsafe_code,
    reason = "vector loads and stores, whose bounds are asserted before the loops"
)]

use std::ops::Range;

use super::products::ROWS;
use super::{BLOCK, LANES, Words};
use crate::kernels::hadamard;
use crate::kernels::lanes::{Lanes, SQUARE, Work};
use crate::kernels::quantize::ROUNDER;

/// The largest magnitude of a row that counts as 0: its inverse is no float.
const NOTHING: f32 = 1e-30;

/// What keys' bytes are above the keys, so that they have no sign.
const ABOVE: u8 = 128;

/// The same element of [`LANES`] rows.
pub(super) type Line = [f32; LANES];

const _: () = assert!(BLOCK == 4 * LANES && LANES == SQUARE && LANES.is_multiple_of(ROWS));

/// What a byte is worth, and the inverse, by the largest magnitude as bits; of zeros, too.
#[inline(always)]
fn scale(most: u32) -> [f32; 2] {
    let most = f32::from_bits(most);
    let most = if most < NOTHING { NOTHING } else { most };
    [most / 127.0, 127.0 / most]
}

/// The larger magnitudes, as bits: without signs, floats compare like them, with what is not finite above all others.
#[inline(always)]
fn larger<L: Lanes>(lanes: L, most: L::Words, x: L::Vector) -> L::Words {
    lanes.max_words(
        most,
        lanes.and(lanes.bits(x), lanes.splat_word(i32::MAX as u32)),
    )
}

#[inline(always)]
fn words<L: Lanes>(lanes: L, a: L::Words) -> [u32; LANES] {
    let mut words = [0; LANES];
    assert!(L::LANES <= LANES);
    // SAFETY: a vector has no more words than that.
    unsafe { lanes.store_words(words.as_mut_ptr(), a) };
    words
}

/// Whole numbers nearest to floats times inverses, the bytes at the same place of four vectors a word.
#[inline(always)]
fn quads<L: Lanes>(lanes: L, floats: [L::Vector; 4], inverses: [L::Vector; 4]) -> L::Words {
    let low = lanes.splat_word(0xff);
    let mut bits = [low; 4];
    for i in 0..4 {
        bits[i] = lanes.bits(lanes.fma(floats[i], inverses[i], lanes.splat(ROUNDER)));
    }
    let [a, b, c, d] = bits;
    let first = lanes.or(lanes.and(a, low), lanes.shift_left::<8>(lanes.and(b, low)));
    let last = lanes.shift_left::<16>(lanes.and(c, low));
    lanes.or(first, lanes.or(last, lanes.shift_left::<24>(d)))
}

/// Transforms [`LANES`] rows of `dim` floats and hands their bytes to `take`, word by word of all rows. Returns what a byte of
/// each is worth. `lines` is overwritten.
///
/// The rows lie side by side meanwhile, for then neither the transform nor rounding moves anything between lanes.
#[inline(always)]
fn transform_and_round<L: Lanes>(
    lanes: L,
    rows: &[f32],
    dim: usize,
    lines: &mut Vec<Line>,
    mut take: impl FnMut(usize, &[u32; LANES]),
) -> Line {
    assert!(rows.len() == LANES * dim && LANES.is_multiple_of(L::LANES));
    lines.clear();
    lines.resize(dim.next_multiple_of(4), [0.0; LANES]);
    let squares = dim / SQUARE * SQUARE;
    for k in (0..squares).step_by(SQUARE) {
        // SAFETY: there are as many rows of `dim` floats as a square has, of which a square follows `k`, and so many lines.
        unsafe {
            let to = lines.as_mut_ptr().add(k).cast::<f32>();
            lanes.transpose(rows.as_ptr().add(k), dim, to, LANES);
        }
    }
    for (k, line) in lines.iter_mut().enumerate().take(dim).skip(squares) {
        for (i, x) in line.iter_mut().enumerate() {
            *x = rows[i * dim + k];
        }
    }
    sums_and_differences(lanes, &mut lines[..dim]);
    let norm = hadamard::norm(dim);
    let mut worth = [0.0; LANES];
    let mut to = [0; LANES];
    for lane in (0..LANES).step_by(L::LANES) {
        let mut most = lanes.splat_word(0);
        for line in lines.iter() {
            // SAFETY: a line has a vector of floats from `lane` on.
            most = larger(lanes, most, unsafe { lanes.load(line.as_ptr().add(lane)) });
        }
        let most = words(lanes, most);
        for i in 0..L::LANES {
            worth[lane + i] = f32::from_bits(most[i]);
        }
    }
    let mut inverses = [0.0; LANES];
    for (worth, inverse) in worth.iter_mut().zip(&mut inverses) {
        [*worth, *inverse] = scale(worth.to_bits());
        *worth *= norm;
    }
    for (word, four) in lines.as_chunks::<4>().0.iter().enumerate() {
        for lane in (0..LANES).step_by(L::LANES) {
            // SAFETY: all of these have a vector from `lane` on.
            unsafe {
                let inverse = lanes.load(inverses.as_ptr().add(lane));
                let mut floats = [inverse; 4];
                for i in 0..4 {
                    floats[i] = lanes.load(four[i].as_ptr().add(lane));
                }
                let bytes = quads(lanes, floats, [inverse; 4]);
                lanes.store_words(to.as_mut_ptr().add(lane), bytes);
            }
        }
        take(word, &to);
    }
    worth
}

/// The transform of [`hadamard`](crate::kernels::hadamard()) of rows that lie side by side, but for its norm.
#[inline(always)]
fn sums_and_differences<L: Lanes>(lanes: L, lines: &mut [Line]) {
    let block = hadamard::block(lines.len());
    let mut half = 1;
    while half < block {
        for pair in lines.chunks_exact_mut(2 * half) {
            let (left, right) = pair.split_at_mut(half);
            for (a, b) in left.iter_mut().zip(right) {
                for lane in (0..LANES).step_by(L::LANES) {
                    // SAFETY: both lines have a vector of floats from `lane` on.
                    unsafe {
                        let (a, b) = (a.as_mut_ptr().add(lane), b.as_mut_ptr().add(lane));
                        let (x, y) = (lanes.load(a), lanes.load(b));
                        lanes.store(a, lanes.add(x, y));
                        lanes.store(b, lanes.fma(y, lanes.splat(-1.0), x));
                    }
                }
            }
        }
        half *= 2;
    }
}

/// Packs [`BLOCK`] rows of `dim` floats as panels of keys.
pub(super) struct PackKeys<'a> {
    pub(super) rows: &'a [f32],
    pub(super) dim: usize,
    /// Overwritten.
    pub(super) lines: &'a mut Vec<Line>,
    /// `[BLOCK / LANES, words of a row]`.
    pub(super) to: &'a mut [Words],
    pub(super) scales: &'a mut [f32],
}

impl<L: Lanes> Work<L> for PackKeys<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self, lanes: L) {
        let panels = self.to.chunks_exact_mut(self.dim.div_ceil(4));
        let rows = self.rows.chunks_exact(LANES * self.dim);
        let scales = self.scales.as_chunks_mut::<LANES>().0;
        for ((rows, to), scales) in rows.zip(panels).zip(scales) {
            *scales = transform_and_round(lanes, rows, self.dim, self.lines, |word, words| {
                to[word] = Words(words.map(|word| word ^ u32::from_le_bytes([ABOVE; 4])));
            });
        }
    }
}

/// Packs [`BLOCK`] rows of `dim` floats as lines of the panels of values, of which each has four rows that lie [`LANES`] apart.
pub(super) struct PackValues<'a, I> {
    pub(super) rows: &'a [f32],
    pub(super) dim: usize,
    /// Overwritten.
    pub(super) padded: &'a mut Vec<f32>,
    /// Of each panel, [`LANES`] lines.
    pub(super) panels: I,
    pub(super) lifts: &'a mut [f32],
    pub(super) inverses: &'a mut [f32],
}

impl<'t, L: Lanes, I: Iterator<Item = &'t mut [Words]>> Work<L> for PackValues<'_, I> {
    type Output = ();

    #[inline(always)]
    fn run(self, lanes: L) {
        let width = self.dim.next_multiple_of(LANES);
        assert!(LANES.is_multiple_of(L::LANES) && self.inverses.len() == BLOCK);
        self.padded.clear();
        self.padded.resize(BLOCK * width, 0.0);
        let rows = self.rows.chunks_exact(self.dim);
        let scales = self.lifts.iter_mut().zip(self.inverses.iter_mut());
        let to = self.padded.chunks_exact_mut(width);
        for ((row, to), (lift, inverse)) in rows.zip(to).zip(scales) {
            to[..self.dim].copy_from_slice(row);
            let mut most = lanes.splat_word(0);
            for column in (0..width).step_by(L::LANES) {
                // SAFETY: the row has `width` floats, whole vectors.
                most = larger(lanes, most, unsafe { lanes.load(to.as_ptr().add(column)) });
            }
            let most = words(lanes, most).into_iter().fold(0, u32::max);
            [*lift, *inverse] = scale(most);
        }
        self.lifts.iter_mut().for_each(|lift| *lift = lift.ln());
        for (panel, lines) in self.panels.enumerate() {
            if panel * LANES >= width {
                lines.fill(Words::default());
                continue;
            }
            assert_eq!(lines.len(), LANES);
            for (i, line) in lines.iter_mut().enumerate() {
                for lane in (0..LANES).step_by(L::LANES) {
                    let mut floats = [lanes.splat(0.0); 4];
                    let mut inverses = floats;
                    // SAFETY: there are BLOCK rows of `width` floats, of which a vector follows; it does the same in the
                    // line.
                    unsafe {
                        for four in 0..4 {
                            let row = four * LANES + i;
                            let at = row * width + panel * LANES + lane;
                            floats[four] = lanes.load(self.padded.as_ptr().add(at));
                            inverses[four] = lanes.splat(self.inverses[row]);
                        }
                        let bytes = quads(lanes, floats, inverses);
                        lanes.store_words(line.0.as_mut_ptr().add(lane), bytes);
                    }
                }
            }
        }
    }
}

/// Queries in bytes; their number is a multiple of [`LANES`], those beyond the given ones are 0.
#[derive(Default)]
pub(super) struct Queries {
    depth: usize,
    /// `[queries, depth]`.
    words: Vec<u32>,
    scales: Vec<f32>,
    /// What sums of products with keys begin with, whose bytes are [`ABOVE`] them.
    starts: Vec<u32>,
}

/// Some of them.
#[derive(Clone, Copy)]
pub(super) struct Rounded<'a> {
    pub(super) depth: usize,
    pub(super) words: &'a [u32],
    pub(super) scales: &'a [f32],
    pub(super) starts: &'a [u32],
}

impl Queries {
    /// Replaces these by `rows` of `dim` floats, to which rows of zeros are added; `lines` is overwritten.
    pub(super) fn round<L: Lanes>(
        &mut self,
        lanes: L,
        rows: &mut Vec<f32>,
        dim: usize,
        lines: &mut Vec<Line>,
    ) {
        let count = (rows.len() / dim).next_multiple_of(LANES);
        rows.resize(count * dim, 0.0);
        self.depth = dim.div_ceil(4);
        self.words.resize(count * self.depth, 0);
        self.scales.resize(count, 0.0);
        self.starts.resize(count, 0);
        let queries = self;
        lanes.run(Round {
            rows,
            dim,
            lines,
            queries,
        });
    }

    pub(super) fn len(&self) -> usize {
        self.scales.len()
    }

    pub(super) fn rows(&self, rows: Range<usize>) -> Rounded<'_> {
        Rounded {
            depth: self.depth,
            words: &self.words[rows.start * self.depth..rows.end * self.depth],
            scales: &self.scales[rows.clone()],
            starts: &self.starts[rows],
        }
    }
}

struct Round<'a> {
    rows: &'a [f32],
    dim: usize,
    lines: &'a mut Vec<Line>,
    queries: &'a mut Queries,
}

impl<L: Lanes> Work<L> for Round<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self, lanes: L) {
        let Queries {
            depth,
            words,
            scales,
            starts,
        } = self.queries;
        let depth = *depth;
        let words = words.chunks_exact_mut(LANES * depth);
        let scales = scales.as_chunks_mut::<LANES>().0.iter_mut();
        let to = words.zip(scales.zip(starts.as_chunks_mut::<LANES>().0));
        let rows = self.rows.chunks_exact(LANES * self.dim);
        for (rows, (to, (scales, starts))) in rows.zip(to) {
            let mut sums = [0; LANES];
            *scales = transform_and_round(lanes, rows, self.dim, self.lines, |word, words| {
                for i in 0..LANES {
                    to[i * depth + word] = words[i];
                    for byte in words[i].to_le_bytes() {
                        sums[i] += i32::from(byte.cast_signed());
                    }
                }
            });
            *starts = sums.map(|sum| (-i32::from(ABOVE) * sum).cast_unsigned());
        }
    }
}
