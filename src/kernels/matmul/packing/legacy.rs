//! Blocks of 32 elements.
#![allow(
    unsafe_code,
    reason = "vector loads take pointers, whose bounds the callers vouch for"
)]

use std::array::from_fn;

use super::{At, Packing, Quants, UNIT, four_nibbles, nibbles, pack_nibbles};
use crate::kernels::lanes::Lanes;

pub(in super::super) struct Q8_0;

impl Packing for Q8_0 {
    const SPAN: usize = 32;
    const GROUP: usize = 32;
    /// Four words, each of every other of eight columns.
    const UNIT_BYTES: usize = UNIT;
    const UNIT_FIELD: usize = 4;
    const SCALE_FIELDS: &'static [usize] = &[2];

    fn pack(block: &[u8], units: &mut [u8], scales: &mut [u8]) {
        scales.copy_from_slice(&block[..2]);
        for (bytes, columns) in units.chunks_exact_mut(8).zip(block[2..].chunks_exact(8)) {
            for i in 0..4 {
                (bytes[i], bytes[4 + i]) = (columns[2 * i], columns[2 * i + 1]);
            }
        }
    }

    #[inline(always)]
    unsafe fn scales<L: Lanes>(lanes: L, at: At, _: usize) -> [L::Vector; 2] {
        // SAFETY: the one field.
        [unsafe { lanes.load_f16(at.field(0)) }, lanes.splat(0.0)]
    }

    #[inline(always)]
    unsafe fn four<L: Lanes, const PART: usize>(lanes: L, at: At) -> [L::Vector; 4] {
        // SAFETY: two of the four fields of a unit.
        let (even, odd) = unsafe {
            (
                lanes.load_words(at.field(8 * (PART / 2))),
                lanes.load_words(at.field(8 * (PART / 2) + 4)),
            )
        };
        if PART.is_multiple_of(2) {
            let (first, second) = (lanes.byte::<0>(even), lanes.byte::<0>(odd));
            [first, second, lanes.byte::<1>(even), lanes.byte::<1>(odd)]
        } else {
            let (first, second) = (lanes.byte::<2>(even), lanes.byte::<2>(odd));
            [first, second, lanes.byte::<3>(even), lanes.byte::<3>(odd)]
        }
    }
}

impl Quants for Q8_0 {
    const ABOVE: f32 = 128.0;

    #[inline(always)]
    unsafe fn bytes<L: Lanes>(lanes: L, at: At) -> [L::Words; 4] {
        // Adds 128 to each byte.
        let above = lanes.splat_word(0x8080_8080);
        // SAFETY: the four fields of a unit.
        unsafe {
            [
                lanes.xor(lanes.load_words(at.field(0)), above),
                lanes.xor(lanes.load_words(at.field(4)), above),
                lanes.xor(lanes.load_words(at.field(8)), above),
                lanes.xor(lanes.load_words(at.field(12)), above),
            ]
        }
    }
}

pub(in super::super) struct Q4_0;

impl Packing for Q4_0 {
    const SPAN: usize = 32;
    const GROUP: usize = 32;
    const UNIT_BYTES: usize = UNIT / 2;
    const UNIT_FIELD: usize = 4;
    const SCALE_FIELDS: &'static [usize] = &[2];

    fn pack(block: &[u8], units: &mut [u8], scales: &mut [u8]) {
        scales.copy_from_slice(&block[..2]);
        pack_halves(&block[2..], units);
    }

    #[inline(always)]
    unsafe fn scales<L: Lanes>(lanes: L, at: At, _: usize) -> [L::Vector; 2] {
        // SAFETY: the one field.
        let d = unsafe { lanes.load_f16(at.field(0)) };
        [d, lanes.mul(d, lanes.splat(-8.0))]
    }

    #[inline(always)]
    unsafe fn four<L: Lanes, const PART: usize>(lanes: L, at: At) -> [L::Vector; 4] {
        // SAFETY: the caller's.
        unsafe { four_nibbles::<L, PART>(lanes, at) }
    }
}

impl Quants for Q4_0 {
    #[inline(always)]
    unsafe fn bytes<L: Lanes>(lanes: L, at: At) -> [L::Words; 4] {
        // SAFETY: the caller's.
        unsafe { nibbles(lanes, at) }
    }
}

pub(in super::super) struct Q4_1;

impl Packing for Q4_1 {
    const SPAN: usize = 32;
    const GROUP: usize = 32;
    const UNIT_BYTES: usize = UNIT / 2;
    const UNIT_FIELD: usize = 4;
    const SCALE_FIELDS: &'static [usize] = &[2, 2];

    fn pack(block: &[u8], units: &mut [u8], scales: &mut [u8]) {
        scales.copy_from_slice(&block[..4]);
        pack_halves(&block[4..], units);
    }

    #[inline(always)]
    unsafe fn scales<L: Lanes>(lanes: L, at: At, _: usize) -> [L::Vector; 2] {
        // SAFETY: the two fields.
        unsafe { [lanes.load_f16(at.field(0)), lanes.load_f16(at.field(2))] }
    }

    #[inline(always)]
    unsafe fn four<L: Lanes, const PART: usize>(lanes: L, at: At) -> [L::Vector; 4] {
        // SAFETY: the caller's.
        unsafe { four_nibbles::<L, PART>(lanes, at) }
    }
}

impl Quants for Q4_1 {
    #[inline(always)]
    unsafe fn bytes<L: Lanes>(lanes: L, at: At) -> [L::Words; 4] {
        // SAFETY: the caller's.
        unsafe { nibbles(lanes, at) }
    }
}

/// Splits bytes with element `i` in the low half and `i + 16` in the high one.
fn pack_halves(bytes: &[u8], units: &mut [u8]) {
    let (first, second) = units.split_at_mut(UNIT / 2);
    pack_nibbles(from_fn(|i| bytes[i] & 15), first);
    pack_nibbles(from_fn(|i| bytes[i] >> 4), second);
}
