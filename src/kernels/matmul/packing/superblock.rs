//! Superblocks of 256 elements, whose groups have small scales of their own.
#![allow(
    unsafe_code,
    reason = "vector loads take pointers, whose bounds the callers vouch for"
)]

use std::array::from_fn;

use super::{At, Packing, Quants, UNIT, four_nibbles, nibbles, pack_nibbles};
use crate::kernels::lanes::Lanes;

pub(in super::super) struct Q4K;

impl Packing for Q4K {
    const SPAN: usize = 256;
    const GROUP: usize = 32;
    const UNIT_BYTES: usize = UNIT / 2;
    const UNIT_FIELD: usize = 4;
    /// Two halves, the 8 scales, the 8 offsets.
    const SCALE_FIELDS: &'static [usize] = &[2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1];

    fn pack(block: &[u8], units: &mut [u8], scales: &mut [u8]) {
        scales[..4].copy_from_slice(&block[..4]);
        let packed = &block[4..16];
        for i in 0..4 {
            // The first four in the low 6 bits; of the others 4 bits in the last bytes and 2 above the first ones.
            let (s, t, x) = (packed[i], packed[i + 4], packed[i + 8]);
            scales[4 + i] = s & 63;
            scales[8 + i] = (x & 15) | ((s >> 6) << 4);
            scales[12 + i] = t & 63;
            scales[16 + i] = (x >> 4) | ((t >> 6) << 4);
        }
        let pairs = block[16..].chunks_exact(32);
        for (bytes, units) in pairs.zip(units.chunks_exact_mut(32)) {
            // The low halves are one group of 32, the high ones the next.
            for (i, unit) in units.chunks_exact_mut(UNIT / 2).enumerate() {
                let (first, shift) = (UNIT * (i % 2), 4 * (i / 2));
                pack_nibbles(from_fn(|j| (bytes[first + j] >> shift) & 15), unit);
            }
        }
    }

    #[inline(always)]
    unsafe fn scales<L: Lanes>(lanes: L, at: At, group: usize) -> [L::Vector; 2] {
        // SAFETY: two fields of 2 bytes and twice 8 fields of 1.
        unsafe {
            let d = lanes.mul(
                lanes.load_f16(at.field(0)),
                lanes.load_u8(at.field(4 + group)),
            );
            let m = lanes.mul(
                lanes.load_f16(at.field(2)),
                lanes.load_u8(at.field(12 + group)),
            );
            [d, lanes.mul(m, lanes.splat(-1.0))]
        }
    }

    #[inline(always)]
    unsafe fn four<L: Lanes, const PART: usize>(lanes: L, at: At) -> [L::Vector; 4] {
        // SAFETY: the caller's.
        unsafe { four_nibbles::<L, PART>(lanes, at) }
    }
}

impl Quants for Q4K {
    #[inline(always)]
    unsafe fn bytes<L: Lanes>(lanes: L, at: At) -> [L::Words; 4] {
        // SAFETY: the caller's.
        unsafe { nibbles(lanes, at) }
    }
}

pub(in super::super) struct Q6K;

impl Packing for Q6K {
    const SPAN: usize = 256;
    const GROUP: usize = 16;
    /// Two words of low nibbles, and one of the bits above them: of each word's even and odd columns two bits a byte.
    const UNIT_BYTES: usize = 12;
    const UNIT_FIELD: usize = 4;
    /// A half, 16 scales.
    const SCALE_FIELDS: &'static [usize] = &[2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1];

    fn pack(block: &[u8], units: &mut [u8], scales: &mut [u8]) {
        scales[..2].copy_from_slice(&block[208..]);
        scales[2..].copy_from_slice(&block[192..208]);
        let (low, high) = block[..192].split_at(128);
        for (unit, bytes) in units.chunks_exact_mut(12).enumerate() {
            // Of each half of 128 elements: units 0 to 3 are low nibbles, 4 to 7 high ones, of the same 64 bytes.
            let (half, inside) = (unit / 8, unit % 8);
            let low = &low[64 * half + 16 * (inside % 4)..][..16];
            let high = &high[32 * half + 16 * (inside % 2)..][..16];
            pack_nibbles(from_fn(|j| (low[j] >> (4 * (inside / 4))) & 15), bytes);
            let two = |column: usize| (high[column] >> (2 * (inside / 2))) & 3;
            for (i, byte) in bytes[8..].iter_mut().enumerate() {
                let (even, odd) = (2 * i, 2 * i + 1);
                *byte = two(even) | two(odd) << 2 | two(8 + even) << 4 | two(8 + odd) << 6;
            }
        }
    }

    #[inline(always)]
    unsafe fn scales<L: Lanes>(lanes: L, at: At, group: usize) -> [L::Vector; 2] {
        // SAFETY: a field of 2 bytes and 16 fields of 1.
        let d = unsafe {
            lanes.mul(
                lanes.load_f16(at.field(0)),
                lanes.load_i8(at.field(2 + group)),
            )
        };
        [d, lanes.mul(d, lanes.splat(-32.0))]
    }

    #[inline(always)]
    unsafe fn four<L: Lanes, const PART: usize>(lanes: L, at: At) -> [L::Vector; 4] {
        // SAFETY: three fields of 4 bytes.
        let (mut low, mut high) = unsafe {
            (
                lanes.load_words(at.field(4 * (PART / 2))),
                lanes.load_words(at.field(8)),
            )
        };
        if PART % 2 == 1 {
            low = lanes.shift::<16>(low);
        }
        high = match PART {
            0 => high,
            1 => lanes.shift::<16>(high),
            2 => lanes.shift::<4>(high),
            _ => lanes.shift::<20>(high),
        };
        [
            lanes.low6(low, high),
            lanes.low6(lanes.shift::<4>(low), lanes.shift::<2>(high)),
            lanes.low6(lanes.shift::<8>(low), lanes.shift::<8>(high)),
            lanes.low6(lanes.shift::<12>(low), lanes.shift::<10>(high)),
        ]
    }
}

impl Quants for Q6K {
    #[inline(always)]
    unsafe fn bytes<L: Lanes>(lanes: L, at: At) -> [L::Words; 4] {
        // SAFETY: the caller's, and a third field of 4 bytes.
        let ([a, b, c, d], high) = unsafe { (nibbles(lanes, at), lanes.load_words(at.field(8))) };
        let two = lanes.splat_word(0x3030_3030);
        let with = |low: L::Words, high: L::Words| lanes.or(low, lanes.and(high, two));
        [
            with(a, lanes.shift_left::<4>(high)),
            with(b, lanes.shift_left::<2>(high)),
            with(c, high),
            with(d, lanes.shift::<2>(high)),
        ]
    }
}
