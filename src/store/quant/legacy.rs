//! Blocks of 32 elements: one half-precision scale, some with an offset, and 4, 5 or 8 bits each.
//!
//! In the 4- and 5-bit types byte `i` holds element `i` in its low half and `i + 16` in its high
//! half; the fifth bits stand in one 32-bit word, bit `i` for element `i`.

use half::f16;

fn scale(bytes: [u8; 2]) -> f32 {
    f16::from_le_bytes(bytes).to_f32()
}

/// Scale, 16 bytes of nibbles: `d * (q - 8)`.
pub fn q4_0(block: &[u8; 18], out: &mut [f32; 32]) {
    let [d0, d1, nibbles @ ..] = block;
    let d = scale([*d0, *d1]);
    let (low, high) = out.split_at_mut(16);
    for ((q, x), y) in nibbles.iter().zip(low).zip(high) {
        *x = d * f32::from((q & 15) as i8 - 8);
        *y = d * f32::from((q >> 4) as i8 - 8);
    }
}

/// Scale, offset, 16 bytes of nibbles: `d * q + m`.
pub fn q4_1(block: &[u8; 20], out: &mut [f32; 32]) {
    let [d0, d1, m0, m1, nibbles @ ..] = block;
    let (d, m) = (scale([*d0, *d1]), scale([*m0, *m1]));
    let (low, high) = out.split_at_mut(16);
    for ((q, x), y) in nibbles.iter().zip(low).zip(high) {
        *x = d * f32::from(q & 15) + m;
        *y = d * f32::from(q >> 4) + m;
    }
}

/// Scale, fifth bits, 16 bytes of nibbles: `d * (q - 16)`.
pub fn q5_0(block: &[u8; 22], out: &mut [f32; 32]) {
    let [d0, d1, h0, h1, h2, h3, nibbles @ ..] = block;
    let d = scale([*d0, *d1]);
    let fifth = u32::from_le_bytes([*h0, *h1, *h2, *h3]);
    let (low, high) = out.split_at_mut(16);
    for (((i, q), x), y) in (0u32..).zip(nibbles).zip(low).zip(high) {
        let (first, second) = (u32::from(q & 15), u32::from(q >> 4));
        *x = d * ((first | ((fifth >> i) & 1) << 4) as i32 - 16) as f32;
        *y = d * ((second | ((fifth >> (i + 16)) & 1) << 4) as i32 - 16) as f32;
    }
}

/// Scale, offset, fifth bits, 16 bytes of nibbles: `d * q + m`.
pub fn q5_1(block: &[u8; 24], out: &mut [f32; 32]) {
    let [d0, d1, m0, m1, h0, h1, h2, h3, nibbles @ ..] = block;
    let (d, m) = (scale([*d0, *d1]), scale([*m0, *m1]));
    let fifth = u32::from_le_bytes([*h0, *h1, *h2, *h3]);
    let (low, high) = out.split_at_mut(16);
    for (((i, q), x), y) in (0u32..).zip(nibbles).zip(low).zip(high) {
        let (first, second) = (u32::from(q & 15), u32::from(q >> 4));
        *x = d * (first | ((fifth >> i) & 1) << 4) as f32 + m;
        *y = d * (second | ((fifth >> (i + 16)) & 1) << 4) as f32 + m;
    }
}

/// Scale, 32 signed bytes: `d * q`.
pub fn q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let [d0, d1, bytes @ ..] = block;
    let d = scale([*d0, *d1]);
    for (q, x) in bytes.iter().zip(out) {
        *x = d * f32::from(*q as i8);
    }
}

/// The Q8_0 block closest to `values`: the largest magnitude becomes 127.
pub fn encode_q8_0(values: &[f32; 32]) -> [u8; 34] {
    let largest = values.iter().fold(0f32, |most, x| most.max(x.abs()));
    let d = largest / 127.0;
    let inverse = if d > 0.0 { 1.0 / d } else { 0.0 };
    let mut block = [0u8; 34];
    let [d0, d1, bytes @ ..] = &mut block;
    [*d0, *d1] = f16::from_f32(d).to_le_bytes();
    for (x, q) in values.iter().zip(bytes) {
        *q = ((x * inverse).round() as i8) as u8;
    }
    block
}
