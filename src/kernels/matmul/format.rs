//! How weights are stored in a GGUF file.

/// The type of weights: plain numbers, or blocks of ggml
/// (<https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h>) with scales `d` and offsets `m` of half precision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Single precision.
    F32,
    /// Half precision.
    F16,
    /// The upper half of single precision.
    Bf16,
    /// Blocks of 32, 34 bytes: `d q` with 8 bits.
    Q8_0,
    /// Blocks of 32, 18 bytes: `d (q - 8)` with 4 bits.
    Q4_0,
    /// Blocks of 32, 20 bytes: `d q + m` with 4 bits.
    Q4_1,
    /// Blocks of 256, 144 bytes: `d s q - m t` with 4 bits, and `s` and `t` of 6 bits for every 32.
    Q4K,
    /// Blocks of 256, 210 bytes: `d s (q - 32)` with 6 bits, and `s` of 8 bits for every 16.
    Q6K,
}

impl Format {
    /// Whether elements are scaled whole numbers.
    pub fn is_quantised(self) -> bool {
        self.block_elements() > 1
    }

    /// Elements of one block; 1 for plain numbers.
    pub fn block_elements(self) -> usize {
        match self {
            Format::F32 | Format::F16 | Format::Bf16 => 1,
            Format::Q8_0 | Format::Q4_0 | Format::Q4_1 => 32,
            Format::Q4K | Format::Q6K => 256,
        }
    }

    /// Bytes of one block in a file.
    pub fn block_bytes(self) -> usize {
        match self {
            Format::F32 => 4,
            Format::F16 | Format::Bf16 => 2,
            Format::Q8_0 => 34,
            Format::Q4_0 => 18,
            Format::Q4_1 => 20,
            Format::Q4K => 144,
            Format::Q6K => 210,
        }
    }
}
