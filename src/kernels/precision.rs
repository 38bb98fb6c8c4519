//! In which precision long products are computed.

/// What the inputs of a product are rounded to; sums are in `f32` always.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Precision {
    /// Nothing: single precision.
    Float32,
    /// The sum of two `bf16`, 16 bits of a mantissa. Where that is no faster, [`Precision::Float32`].
    Split,
    /// `bf16`, 8 bits of a mantissa. Where that is no faster, [`Precision::Float32`].
    Bfloat16,
}
