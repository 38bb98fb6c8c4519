//! Weights of every format from random bytes, and what they are in `f64`.
//!
//! The dequantisers follow ggml element by element (<https://github.com/ggml-org/ggml/blob/master/src/ggml-quants.c>).

use half::{bf16, f16};

use crate::kernels::Format;

pub(super) const FORMATS: [Format; 8] = [
    Format::F32,
    Format::F16,
    Format::Bf16,
    Format::Q8_0,
    Format::Q4_0,
    Format::Q4_1,
    Format::Q4K,
    Format::Q6K,
];

/// Random numbers (xorshift, <https://doi.org/10.18637/jss.v008.i14>).
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Of -1 to 1.
    pub(super) fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

/// Blocks of a file: random quants and scales of any sign near 0.1.
pub(super) fn blocks(format: Format, elements: usize, random: &mut Random) -> Vec<u8> {
    let halves: &[usize] = match format {
        Format::F32 => {
            let floats = (0..elements).flat_map(|_| random.float().to_le_bytes());
            return floats.collect();
        }
        Format::Bf16 => {
            let halves = (0..elements).map(|_| bf16::from_f32(random.float()));
            return halves.flat_map(bf16::to_le_bytes).collect();
        }
        Format::F16 | Format::Q8_0 | Format::Q4_0 => &[0],
        Format::Q4_1 | Format::Q4K => &[0, 2],
        Format::Q6K => &[208],
    };
    let len = elements / format.block_elements() * format.block_bytes();
    let mut bytes: Vec<u8> = (0..len).map(|_| (random.next() >> 32) as u8).collect();
    for block in bytes.chunks_mut(format.block_bytes()) {
        for half in halves {
            let scale = f16::from_f32(0.1 * random.float());
            block[*half..half + 2].copy_from_slice(&scale.to_le_bytes());
        }
    }
    bytes
}

/// An element as `quant * d + m`; `m` is what its offset is worth.
#[derive(Clone, Copy)]
pub(super) struct Element {
    pub(super) value: f64,
    /// The magnitudes of the product and of the offset.
    pub(super) parts: f64,
}

impl Element {
    fn new(d: f64, quant: u8, m: f64) -> Element {
        let product = d * f64::from(quant);
        Element {
            value: product + m,
            parts: product.abs() + m.abs(),
        }
    }

    fn plain(value: f64) -> Element {
        let parts = value.abs();
        Element { value, parts }
    }
}

/// The elements of whole blocks.
pub(super) fn elements(format: Format, bytes: &[u8]) -> Vec<Element> {
    let blocks = bytes.chunks_exact(format.block_bytes());
    blocks
        .flat_map(|block| (0..format.block_elements()).map(|i| element(format, block, i)))
        .collect()
}

fn half(block: &[u8], at: usize) -> f64 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f64()
}

fn element(format: Format, block: &[u8], i: usize) -> Element {
    // Blocks of 32: the first 16 elements are low halves, the others high ones.
    let nibble = |from: usize| (block[from + i % 16] >> (4 * (i / 16))) & 15;
    match format {
        Format::F32 => {
            let bytes = [block[0], block[1], block[2], block[3]];
            Element::plain(f64::from(f32::from_le_bytes(bytes)))
        }
        Format::F16 => Element::plain(half(block, 0)),
        Format::Bf16 => Element::plain(bf16::from_le_bytes([block[0], block[1]]).to_f64()),
        Format::Q8_0 => Element::plain(half(block, 0) * f64::from(block[2 + i].cast_signed())),
        Format::Q4_0 => {
            let d = half(block, 0);
            Element::new(d, nibble(2), -8.0 * d)
        }
        Format::Q4_1 => Element::new(half(block, 0), nibble(4), half(block, 2)),
        Format::Q4K => {
            let group = i / 32;
            let packed = &block[4..16];
            // `get_scale_min_k4`
            let (s, m) = if group < 4 {
                (packed[group] & 63, packed[group + 4] & 63)
            } else {
                (
                    (packed[group + 4] & 15) | ((packed[group - 4] >> 6) << 4),
                    (packed[group + 4] >> 4) | ((packed[group] >> 6) << 4),
                )
            };
            let quant = (block[16 + 32 * (group / 2) + i % 32] >> (4 * (group % 2))) & 15;
            let (d, least) = (half(block, 0), half(block, 2));
            Element::new(d * f64::from(s), quant, -least * f64::from(m))
        }
        Format::Q6K => {
            let (side, at) = (i / 128, i % 128);
            let low = block[64 * side + at % 64] >> (4 * (at / 64));
            let high = block[128 + 32 * side + at % 32] >> (2 * (at / 32));
            let scale = block[192 + i / 16].cast_signed();
            let d = half(block, 208) * f64::from(scale);
            Element::new(d, (low & 15) | ((high & 3) << 4), -32.0 * d)
        }
    }
}
