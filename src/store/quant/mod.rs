//! How tensor elements are stored, and how stored bytes become `f32`.
//!
//! The block layouts are ggml's
//! (<https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h>): [`legacy`] has the 32-element
//! blocks, [`superblock`] the 256-element ones. The functions are pure and run over whole blocks in
//! fixed-size chunks, which the compiler vectorises.

pub mod legacy;
pub mod superblock;

#[cfg(test)]
mod reference;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use serde::Serialize;

/// How the elements of a tensor are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[allow(missing_docs, non_camel_case_types)]
pub enum DType {
    F32,
    F16,
    BF16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2_K,
    Q3_K,
    Q4_K,
    Q5_K,
    Q6_K,
}

/// Bytes and numbers that do not belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{bytes} bytes of {} do not hold {elements} elements", dtype.name())]
pub struct QuantError {
    /// The type.
    pub dtype: DType,
    /// Bytes given.
    pub bytes: usize,
    /// Elements asked for.
    pub elements: usize,
}

impl DType {
    /// Every type.
    pub const ALL: [DType; 13] = [
        DType::F32,
        DType::F16,
        DType::BF16,
        DType::Q4_0,
        DType::Q4_1,
        DType::Q5_0,
        DType::Q5_1,
        DType::Q8_0,
        DType::Q2_K,
        DType::Q3_K,
        DType::Q4_K,
        DType::Q5_K,
        DType::Q6_K,
    ];

    /// The type with this id in a GGUF file.
    pub fn from_ggml(id: u32) -> Option<DType> {
        DType::ALL.into_iter().find(|dtype| dtype.to_ggml() == id)
    }

    /// The id in a GGUF file.
    pub fn to_ggml(self) -> u32 {
        match self {
            DType::F32 => 0,
            DType::F16 => 1,
            DType::Q4_0 => 2,
            DType::Q4_1 => 3,
            DType::Q5_0 => 6,
            DType::Q5_1 => 7,
            DType::Q8_0 => 8,
            DType::Q2_K => 10,
            DType::Q3_K => 11,
            DType::Q4_K => 12,
            DType::Q5_K => 13,
            DType::Q6_K => 14,
            DType::BF16 => 30,
        }
    }

    /// The name as people write it.
    pub fn name(self) -> &'static str {
        match self {
            DType::F32 => "F32",
            DType::F16 => "F16",
            DType::BF16 => "BF16",
            DType::Q4_0 => "Q4_0",
            DType::Q4_1 => "Q4_1",
            DType::Q5_0 => "Q5_0",
            DType::Q5_1 => "Q5_1",
            DType::Q8_0 => "Q8_0",
            DType::Q2_K => "Q2_K",
            DType::Q3_K => "Q3_K",
            DType::Q4_K => "Q4_K",
            DType::Q5_K => "Q5_K",
            DType::Q6_K => "Q6_K",
        }
    }

    /// Elements in one block; 1 for plain numbers.
    pub fn block_elements(self) -> usize {
        match self {
            DType::F32 | DType::F16 | DType::BF16 => 1,
            DType::Q4_0 | DType::Q4_1 | DType::Q5_0 | DType::Q5_1 | DType::Q8_0 => 32,
            DType::Q2_K | DType::Q3_K | DType::Q4_K | DType::Q5_K | DType::Q6_K => 256,
        }
    }

    /// Bytes of one block.
    pub fn block_bytes(self) -> usize {
        match self {
            DType::F32 => 4,
            DType::F16 | DType::BF16 => 2,
            DType::Q4_0 => 18,
            DType::Q4_1 => 20,
            DType::Q5_0 => 22,
            DType::Q5_1 => 24,
            DType::Q8_0 => 34,
            DType::Q2_K => 84,
            DType::Q3_K => 110,
            DType::Q4_K => 144,
            DType::Q5_K => 176,
            DType::Q6_K => 210,
        }
    }

    /// Bytes of `elements` elements, if they are whole blocks and the size fits.
    pub fn bytes_for(self, elements: usize) -> Option<usize> {
        if !elements.is_multiple_of(self.block_elements()) {
            return None;
        }
        (elements / self.block_elements()).checked_mul(self.block_bytes())
    }

    /// Bytes of a tensor of this `shape`, outermost first: its rows must be whole blocks.
    pub fn bytes_for_shape(self, shape: &[usize]) -> Option<usize> {
        let row = shape.last().copied().unwrap_or(1);
        if !row.is_multiple_of(self.block_elements()) {
            return None;
        }
        self.bytes_for(elements(shape)?)
    }
}

/// The number of elements of a shape, if it fits.
pub fn elements(shape: &[usize]) -> Option<usize> {
    shape
        .iter()
        .try_fold(1usize, |product, size| product.checked_mul(*size))
}

/// Turns stored `bytes` into numbers: fills `out`, whose length says how many there are.
///
/// # Errors
/// If `bytes` is not exactly what `out.len()` elements of `dtype` take.
pub fn dequantize(dtype: DType, bytes: &[u8], out: &mut [f32]) -> Result<(), QuantError> {
    if dtype.bytes_for(out.len()) != Some(bytes.len()) {
        return Err(QuantError {
            dtype,
            bytes: bytes.len(),
            elements: out.len(),
        });
    }
    match dtype {
        DType::F32 => plain(bytes, out, f32::from_le_bytes),
        DType::F16 => halves(bytes, out),
        DType::BF16 => plain(bytes, out, |b| bf16::from_le_bytes(b).to_f32()),
        DType::Q4_0 => blocks(bytes, out, legacy::q4_0),
        DType::Q4_1 => blocks(bytes, out, legacy::q4_1),
        DType::Q5_0 => blocks(bytes, out, legacy::q5_0),
        DType::Q5_1 => blocks(bytes, out, legacy::q5_1),
        DType::Q8_0 => blocks(bytes, out, legacy::q8_0),
        DType::Q2_K => blocks(bytes, out, superblock::q2_k),
        DType::Q3_K => blocks(bytes, out, superblock::q3_k),
        DType::Q4_K => blocks(bytes, out, superblock::q4_k),
        DType::Q5_K => blocks(bytes, out, superblock::q5_k),
        DType::Q6_K => blocks(bytes, out, superblock::q6_k),
    }
    Ok(())
}

/// Stores numbers as `dtype`, for the types that lose nothing by design or are a plain rounding:
/// F32, F16, BF16 and Q8_0. `None` for the others, and for values that are not whole blocks.
pub fn encode(dtype: DType, values: &[f32]) -> Option<Vec<u8>> {
    dtype.bytes_for(values.len())?;
    match dtype {
        DType::F32 => Some(values.iter().flat_map(|x| x.to_le_bytes()).collect()),
        DType::F16 => Some(
            values
                .iter()
                .flat_map(|x| f16::from_f32(*x).to_le_bytes())
                .collect(),
        ),
        DType::BF16 => Some(
            values
                .iter()
                .flat_map(|x| bf16::from_f32(*x).to_le_bytes())
                .collect(),
        ),
        DType::Q8_0 => {
            let (whole, _) = values.as_chunks::<32>();
            Some(whole.iter().flat_map(legacy::encode_q8_0).collect())
        }
        _ => None,
    }
}

fn plain<const N: usize>(bytes: &[u8], out: &mut [f32], from: impl Fn([u8; N]) -> f32) {
    let (numbers, _) = bytes.as_chunks::<N>();
    for (number, x) in numbers.iter().zip(out) {
        *x = from(*number);
    }
}

/// Converts in runs, since the half crate uses the processor's own instruction for slices only.
fn halves(bytes: &[u8], out: &mut [f32]) {
    let mut run = [f16::ZERO; 256];
    for (bytes, out) in bytes.chunks(512).zip(out.chunks_mut(256)) {
        let (numbers, _) = bytes.as_chunks::<2>();
        for (number, h) in numbers.iter().zip(&mut run) {
            *h = f16::from_le_bytes(*number);
        }
        if let Some(run) = run.get(..out.len()) {
            run.convert_to_f32_slice(out);
        }
    }
}

fn blocks<const B: usize, const E: usize>(
    bytes: &[u8],
    out: &mut [f32],
    one: impl Fn(&[u8; B], &mut [f32; E]),
) {
    let (whole, _) = bytes.as_chunks::<B>();
    let (spans, _) = out.as_chunks_mut::<E>();
    for (block, span) in whole.iter().zip(spans) {
        one(block, span);
    }
}
