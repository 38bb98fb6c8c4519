//! How each format lies in memory, and how it becomes floats.
//!
//! [`ROWS`] rows form a panel, in which the fields of the rows alternate: a vector load takes the same field of
//! neighbouring rows. The quants of [`UNIT`] columns form a unit; all units of a panel precede its scales, so that both
//! stay aligned.
#![allow(
    unsafe_code,
    reason = "vector loads take pointers, whose bounds the callers vouch for"
)]

use crate::kernels::lanes::Lanes;

mod legacy;
mod plain;
mod superblock;

pub(super) use legacy::{Q4_0, Q4_1, Q8_0};
pub(super) use plain::{Bf16, F16, F32};
pub(super) use superblock::{Q4K, Q6K};

/// Evaluates an expression with the type that packs a [`Format`](super::Format).
macro_rules! with_packing {
    ($format:expr, $Packing:ident => $value:expr) => {{
        use $crate::kernels::matmul::{format::Format, packing};
        match $format {
            Format::F32 => {
                type $Packing = packing::F32;
                $value
            }
            Format::F16 => {
                type $Packing = packing::F16;
                $value
            }
            Format::Bf16 => {
                type $Packing = packing::Bf16;
                $value
            }
            Format::Q8_0 => {
                type $Packing = packing::Q8_0;
                $value
            }
            Format::Q4_0 => {
                type $Packing = packing::Q4_0;
                $value
            }
            Format::Q4_1 => {
                type $Packing = packing::Q4_1;
                $value
            }
            Format::Q4K => {
                type $Packing = packing::Q4K;
                $value
            }
            Format::Q6K => {
                type $Packing = packing::Q6K;
                $value
            }
        }
    }};
}
pub(super) use with_packing;

/// Evaluates an expression with the type that packs a quantised [`Format`](super::Format), or another one for others.
macro_rules! with_quants {
    ($format:expr, $Quants:ident => $value:expr, $otherwise:expr) => {{
        use $crate::kernels::matmul::{format::Format, packing};
        match $format {
            Format::F32 | Format::F16 | Format::Bf16 => $otherwise,
            Format::Q8_0 => {
                type $Quants = packing::Q8_0;
                $value
            }
            Format::Q4_0 => {
                type $Quants = packing::Q4_0;
                $value
            }
            Format::Q4_1 => {
                type $Quants = packing::Q4_1;
                $value
            }
            Format::Q4K => {
                type $Quants = packing::Q4K;
                $value
            }
            Format::Q6K => {
                type $Quants = packing::Q6K;
                $value
            }
        }
    }};
}
pub(super) use with_quants;

/// Rows of a panel: the floats of the widest vector.
pub(super) const ROWS: usize = 16;

/// Bytes of a cache line, on which every panel starts: a vector load that straddles two lines costs twice.
pub(super) const LINE: usize = 64;

/// Columns of a unit.
pub(super) const UNIT: usize = 16;

/// What one format stores of a row, and what that means.
pub(super) trait Packing {
    /// Columns whose scales are stored together; of a row, one block of the file or, of plain numbers, one unit.
    const SPAN: usize;
    /// Columns with the same scale and offset.
    const GROUP: usize;
    /// Bytes that a row has in a unit.
    const UNIT_BYTES: usize;
    /// Bytes of each field of a unit.
    const UNIT_FIELD: usize;
    /// Bytes of each field of the scales of a span.
    const SCALE_FIELDS: &'static [usize];

    /// Bytes that a row has in the scales of a span.
    const SCALE_BYTES: usize = {
        let (mut bytes, mut i) = (0, 0);
        while i < Self::SCALE_FIELDS.len() {
            bytes += Self::SCALE_FIELDS[i];
            i += 1;
        }
        bytes
    };
    /// Whether elements are other than their quants.
    const SCALED: bool = Self::SCALE_BYTES > 0;

    /// Splits one block of a row into the fields of its units and those of its scales.
    fn pack(block: &[u8], units: &mut [u8], scales: &mut [u8]);

    /// `[d, m]` of a group, where an element is `d * quant + m`.
    ///
    /// # Safety
    ///
    /// `at` is at the scales of a span, and `group` is one of its `SPAN / GROUP` groups.
    unsafe fn scales<L: Lanes>(lanes: L, at: At, group: usize) -> [L::Vector; 2];

    /// The quants of the four columns from `4 * PART` on; `PART` is below 4.
    ///
    /// # Safety
    ///
    /// `at` is at a unit.
    unsafe fn four<L: Lanes, const PART: usize>(lanes: L, at: At) -> [L::Vector; 4];
}

/// A format whose elements are scaled whole numbers.
pub(super) trait Quants: Packing {
    /// What the bytes are above the quants.
    const ABOVE: f32 = 0.0;

    /// The quants of a unit in bytes without a sign. A word has every other of eight columns: the first the even ones,
    /// the second the odd ones, and likewise the other two.
    ///
    /// # Safety
    ///
    /// `at` is at a unit.
    unsafe fn bytes<L: Lanes>(lanes: L, at: At) -> [L::Words; 4];
}

/// Rows from the `lane`-th of a panel on, at a unit or at the scales of a span.
#[derive(Clone, Copy)]
pub(super) struct At {
    pub(super) base: *const u8,
    /// A multiple of the vector's lanes, below [`ROWS`].
    pub(super) lane: usize,
}

impl At {
    /// The field that starts after `before` bytes of each row.
    #[inline(always)]
    fn field<T>(self, before: usize) -> *const T {
        let offset = before * ROWS + self.lane * size_of::<T>();
        self.base.wrapping_add(offset).cast()
    }
}

/// Element `2 i` in the low half of byte `i`: 8 to a little-endian word, each above the one before it.
fn pack_nibbles(elements: [u8; UNIT], bytes: &mut [u8]) {
    let (pairs, _) = elements.as_chunks::<2>();
    for (byte, [low, high]) in bytes.iter_mut().zip(pairs) {
        *byte = low | high << 4;
    }
}

/// # Safety
///
/// `at` is at a unit of two words, of which each row's hold 8 nibbles.
#[inline(always)]
unsafe fn nibbles<L: Lanes>(lanes: L, at: At) -> [L::Words; 4] {
    // SAFETY: the caller vouches for two fields of 4 bytes.
    let words = unsafe { [lanes.load_words(at.field(0)), lanes.load_words(at.field(4))] };
    let low = lanes.splat_word(0x0f0f_0f0f);
    let odd = |words: L::Words| lanes.and(lanes.shift::<4>(words), low);
    [
        lanes.and(words[0], low),
        odd(words[0]),
        lanes.and(words[1], low),
        odd(words[1]),
    ]
}

/// # Safety
///
/// `at` is at a unit of two words, of which each row's hold 8 nibbles.
#[inline(always)]
unsafe fn four_nibbles<L: Lanes, const PART: usize>(lanes: L, at: At) -> [L::Vector; 4] {
    // SAFETY: the caller vouches for two fields of 4 bytes.
    let mut words = unsafe { lanes.load_words(at.field(4 * (PART / 2))) };
    if PART % 2 == 1 {
        words = lanes.shift::<16>(words);
    }
    [
        lanes.low4(words),
        lanes.low4(lanes.shift::<4>(words)),
        lanes.low4(lanes.shift::<8>(words)),
        lanes.low4(lanes.shift::<12>(words)),
    ]
}
