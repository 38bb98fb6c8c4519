//! Blocks of 32 elements.
#![allow(
    unsafe_code,
    reason = "vector loads take pointers, whose bounds the callers vouch for"
)]

use std::array::from_fn;

use super::{At, Packing, ROWS, UNIT, four_nibbles, pack_nibbles};
use crate::kernels::lanes::Lanes;

pub(in super::super) struct Q8_0;

impl Packing for Q8_0 {
    const SPAN: usize = 32;
    const GROUP: usize = 32;
    const UNIT_BYTES: usize = UNIT;
    const UNIT_FIELD: usize = 1;
    const SCALE_FIELDS: &'static [usize] = &[2];

    fn pack(block: &[u8], units: &mut [u8], scales: &mut [u8]) {
        scales.copy_from_slice(&block[..2]);
        units.copy_from_slice(&block[2..]);
    }

    #[inline(always)]
    unsafe fn scales<L: Lanes>(lanes: L, at: At, _: usize) -> [L::Vector; 2] {
        // SAFETY: the one field.
        [unsafe { lanes.load_f16(at.field(0)) }, lanes.splat(0.0)]
    }

    #[inline(always)]
    unsafe fn four<L: Lanes, const PART: usize>(lanes: L, at: At) -> [L::Vector; 4] {
        let first = at.field::<i8>(4 * PART);
        // SAFETY: 4 of the 16 fields of a unit, which lie ROWS elements apart.
        unsafe {
            [
                lanes.load_i8(first),
                lanes.load_i8(first.add(ROWS)),
                lanes.load_i8(first.add(2 * ROWS)),
                lanes.load_i8(first.add(3 * ROWS)),
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

/// Splits bytes with element `i` in the low half and `i + 16` in the high one.
fn pack_halves(bytes: &[u8], units: &mut [u8]) {
    let (first, second) = units.split_at_mut(UNIT / 2);
    pack_nibbles(from_fn(|i| bytes[i] & 15), first);
    pack_nibbles(from_fn(|i| bytes[i] >> 4), second);
}
