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
    /// 8 bits, so that products are of whole numbers: scaled by groups of 32 for products with quantised weights, and in
    /// attention by rows, where no mass is wanted. With other weights [`Precision::Float32`], in other attention
    /// [`Precision::Bfloat16`].
    Int8,
}

impl Precision {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Precision::Float32 => "float32",
            Precision::Split => "split bfloat16",
            Precision::Bfloat16 => "bfloat16",
            Precision::Int8 => "int8",
        }
    }
}
