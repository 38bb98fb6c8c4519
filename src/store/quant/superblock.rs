//! The "K" types: superblocks of 256 elements whose 16 or 8 groups have small integer scales of
//! their own, under one or two half-precision scales.
//!
//! The low bits run in spans: of a span of `2^n` planes, plane `p` of 32 bytes holds elements
//! `32 p ..` in its bits from `n p`; the high bits of the 3-, 5- and 6-bit types stand in bytes of
//! their own in the same order.

use half::f16;

fn scale(bytes: &[u8; 2]) -> f32 {
    f16::from_le_bytes(*bytes).to_f32()
}

/// Splits a fixed-size array in front of `rest` bytes.
macro_rules! split {
    ($block:expr => $($name:ident : $size:expr),+) => {
        let rest: &[u8] = $block;
        $(
            let Some(($name, rest)) = rest.split_first_chunk::<{ $size }>() else { return };
        )+
        debug_assert!(rest.is_empty());
    };
}

/// 16 bytes of scale and offset nibbles, 64 bytes of 2 bits, `d`, `dmin`: `d s q - dmin m`.
pub fn q2_k(block: &[u8; 84], out: &mut [f32; 256]) {
    split!(block => scales: 16, bits: 64, d: 2, least: 2);
    let (d, least) = (scale(d), scale(least));
    let (spans, _) = out.as_chunks_mut::<16>();
    for (group, (span, packed)) in spans.iter_mut().zip(scales).enumerate() {
        let (step, offset) = (d * f32::from(packed & 15), least * f32::from(packed >> 4));
        let shift = 2 * ((group / 2) % 4);
        let from = 32 * (group / 8) + 16 * (group % 2);
        let bytes = bits.iter().skip(from);
        for (x, q) in span.iter_mut().zip(bytes) {
            *x = step * f32::from((q >> shift) & 3) - offset;
        }
    }
}

/// 32 bytes of third bits (set means no offset), 64 of 2 bits, 12 of 6-bit scales, `d`:
/// `d (s - 32) (q - 4 (1 - h))`.
pub fn q3_k(block: &[u8; 110], out: &mut [f32; 256]) {
    split!(block => high: 32, bits: 64, scales: 12, d: 2);
    let d = scale(d);
    let scales = q3_k_scales(scales);
    let (spans, _) = out.as_chunks_mut::<16>();
    for (group, (span, s)) in spans.iter_mut().zip(scales).enumerate() {
        let step = d * f32::from(s);
        let (shift, plane) = (2 * ((group / 2) % 4), group / 2);
        let bytes = bits.iter().skip(32 * (group / 8) + 16 * (group % 2));
        let marks = high.iter().skip(16 * (group % 2));
        for ((x, q), h) in span.iter_mut().zip(bytes).zip(marks) {
            let third = 4 - (((h >> plane) & 1) << 2) as i8;
            *x = step * f32::from(((q >> shift) & 3) as i8 - third);
        }
    }
}

/// Four low bits of scale `i` in byte `i % 8` (low or high half), two high bits in byte
/// `8 + i % 4` at bit `2 (i / 4)`; stored plus 32.
fn q3_k_scales(packed: &[u8; 12]) -> [i8; 16] {
    let (low, high) = packed.split_at(8);
    let mut scales = [0i8; 16];
    for (i, s) in scales.iter_mut().enumerate() {
        let four = low.get(i % 8).map_or(0, |b| (b >> (4 * (i / 8))) & 15);
        let two = high.get(i % 4).map_or(0, |b| (b >> (2 * (i / 4))) & 3);
        *s = (four | two << 4) as i8 - 32;
    }
    scales
}

/// Scales and offsets of eight groups, 6 bits each, in 12 bytes: the first four of each stand in
/// the low 6 bits of bytes 0-3 and 4-7; the others take 4 bits of bytes 8-11 and the top 2 of those.
fn six_bit_pairs(packed: &[u8; 12]) -> [(f32, f32); 8] {
    let [s0, s1, s2, s3, m0, m1, m2, m3, x0, x1, x2, x3] = *packed;
    let low = |s: u8, m: u8| (f32::from(s & 63), f32::from(m & 63));
    let high = |s: u8, m: u8, x: u8| {
        (
            f32::from(x & 15 | (s >> 6) << 4),
            f32::from(x >> 4 | (m >> 6) << 4),
        )
    };
    [
        low(s0, m0),
        low(s1, m1),
        low(s2, m2),
        low(s3, m3),
        high(s0, m0, x0),
        high(s1, m1, x1),
        high(s2, m2, x2),
        high(s3, m3, x3),
    ]
}

/// `d`, `dmin`, 12 bytes of 6-bit scales and offsets, 128 of nibbles: `d s q - dmin m`.
pub fn q4_k(block: &[u8; 144], out: &mut [f32; 256]) {
    split!(block => d: 2, least: 2, scales: 12, nibbles: 128);
    let (d, least) = (scale(d), scale(least));
    let (pairs, _) = out.as_chunks_mut::<64>();
    let (planes, _) = nibbles.as_chunks::<32>();
    let groups = six_bit_pairs(scales);
    let (groups, _) = groups.as_chunks::<2>();
    for ((pair, plane), [(s0, m0), (s1, m1)]) in pairs.iter_mut().zip(planes).zip(groups) {
        let (first, second) = pair.split_at_mut(32);
        for ((q, x), y) in plane.iter().zip(first).zip(second) {
            *x = d * s0 * f32::from(q & 15) - least * m0;
            *y = d * s1 * f32::from(q >> 4) - least * m1;
        }
    }
}

/// As Q4_K with 32 bytes of fifth bits before the nibbles: bit `g` of byte `i` for element `i` of
/// group `g`.
pub fn q5_k(block: &[u8; 176], out: &mut [f32; 256]) {
    split!(block => d: 2, least: 2, scales: 12, fifth: 32, nibbles: 128);
    let (d, least) = (scale(d), scale(least));
    let (pairs, _) = out.as_chunks_mut::<64>();
    let (planes, _) = nibbles.as_chunks::<32>();
    let groups = six_bit_pairs(scales);
    let (groups, _) = groups.as_chunks::<2>();
    let spans = pairs.iter_mut().zip(planes).zip(groups);
    for (index, ((pair, plane), [(s0, m0), (s1, m1)])) in spans.enumerate() {
        let (first, second) = pair.split_at_mut(32);
        for (((q, h), x), y) in plane.iter().zip(fifth).zip(first).zip(second) {
            let (low, high) = ((h >> (2 * index)) & 1, (h >> (2 * index + 1)) & 1);
            *x = d * s0 * f32::from(q & 15 | low << 4) - least * m0;
            *y = d * s1 * f32::from(q >> 4 | high << 4) - least * m1;
        }
    }
}

/// 128 bytes of low nibbles, 64 of 2 high bits, 16 signed scales, `d`: `d s (q - 32)`.
pub fn q6_k(block: &[u8; 210], out: &mut [f32; 256]) {
    split!(block => low: 128, high: 64, scales: 16, d: 2);
    let d = scale(d);
    let (spans, _) = out.as_chunks_mut::<16>();
    for (group, (span, s)) in spans.iter_mut().zip(scales).enumerate() {
        let step = d * f32::from(*s as i8);
        // Of each half of 128: groups 0-3 are low nibbles, 4-7 high ones, of the same 64 bytes.
        let (half, inside) = (group / 8, group % 8);
        let nibbles = low.iter().skip(64 * half + 16 * (inside % 4));
        let twos = high.iter().skip(32 * half + 16 * (inside % 2));
        let (nibble_shift, two_shift) = (4 * (inside / 4), 2 * (inside / 2));
        for ((x, q), h) in span.iter_mut().zip(nibbles).zip(twos) {
            let six = ((q >> nibble_shift) & 15) | ((h >> two_shift) & 3) << 4;
            *x = step * f32::from(six as i8 - 32);
        }
    }
}
