//! In what numbers products are computed.

/// The numbers that go into products. What comes out, and all sums, are `f32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Arithmetic {
    /// As they are.
    Float32,
    /// Rounded to `bf16`, to the nearest and of two the even one. Where the CPU multiplies `bf16` itself
    /// (AVX512-BF16), subnormal numbers count as 0.
    Bfloat16,
}
