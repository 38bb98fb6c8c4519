//! Parses what stands before the tensor data: counts, metadata, the tensor directory.
//!
//! The layout is that of <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

use std::collections::HashSet;
use std::ops::Range;

use super::cursor::{At, Cursor, Fault};
use super::value::{Metadata, Value};
use crate::store::quant::DType;

/// The default of `general.alignment`, in bytes.
pub const ALIGNMENT: u64 = 32;
/// ggml tensors have at most this many dimensions.
const MOST_DIMENSIONS: u32 = 4;
/// The longest key or tensor name, in bytes; the format's own limit for keys.
const LONGEST_NAME: usize = 65_535;

/// One tensor of the directory, checked to lie inside the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name, unique in the file.
    pub name: String,
    /// Row major, outermost first: the file's dimensions reversed.
    pub shape: Vec<usize>,
    /// How the elements are stored.
    pub dtype: DType,
    /// Where the bytes are, counted from the start of the file.
    pub range: Range<usize>,
}

/// Everything before the data.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    /// 2 or 3.
    pub version: u32,
    /// All metadata.
    pub metadata: Metadata,
    /// All tensors, in the file's order.
    pub tensors: Vec<Entry>,
}

impl Header {
    /// Parses `bytes`, a whole GGUF file. A tensor of a type that is not in [`DType`] is refused
    /// here, by name, since its size is not known.
    ///
    /// # Errors
    /// The first field that does not hold water.
    pub fn parse(bytes: &[u8]) -> Result<Header, Fault> {
        let mut cursor = Cursor::new(bytes);
        let version = read_version(&mut cursor)?;
        // A tensor takes a name length, a dimension count, a dimension, a type and an offset; a
        // metadata entry a key length, a type and a byte.
        let tensor_count = cursor.count(32).at(|| "tensor_count".into())?;
        let entry_count = cursor.count(13).at(|| "metadata_count".into())?;
        let metadata = read_metadata(&mut cursor, entry_count)?;
        let alignment = read_alignment(&metadata)?;
        let mut tensors = Vec::with_capacity(tensor_count);
        for index in 0..tensor_count {
            tensors.push(Raw::read(&mut cursor, index)?);
        }
        let start = align(cursor.position() as u64, alignment)
            .ok_or_else(|| Fault::new("data", "starts past the end of memory"))?;
        let tensors = place(tensors, start, alignment, bytes.len() as u64)?;
        Ok(Header {
            version,
            metadata,
            tensors,
        })
    }
}

fn read_version(cursor: &mut Cursor<'_>) -> Result<u32, Fault> {
    let magic: [u8; 4] = cursor.array().at(|| "magic".into())?;
    if &magic != b"GGUF" {
        return Err(Fault::new(
            "magic",
            "is not GGUF: this is another kind of file",
        ));
    }
    let version = cursor.u32().at(|| "version".into())?;
    match version {
        2 | 3 => Ok(version),
        _ if version & 0xffff == 0 && version != 0 => Err(Fault::unsupported(
            "version",
            "the file is big-endian, and only little-endian files are read",
        )),
        _ => Err(Fault::unsupported(
            "version",
            format!("the file has GGUF version {version}, and versions 2 and 3 are read"),
        )),
    }
}

fn read_metadata(cursor: &mut Cursor<'_>, count: usize) -> Result<Metadata, Fault> {
    let mut metadata = Metadata::default();
    for index in 0..count {
        let key = cursor
            .string(LONGEST_NAME)
            .at(|| format!("metadata[{index}].key"))?;
        let value = Value::read(cursor).at(|| format!("metadata {key:?}"))?;
        if !metadata.insert(key.to_owned(), value) {
            return Err(Fault::new(
                format!("metadata[{index}].key"),
                format!("{key:?} is there twice"),
            ));
        }
    }
    Ok(metadata)
}

fn read_alignment(metadata: &Metadata) -> Result<u64, Fault> {
    let Some(value) = metadata.get("general.alignment") else {
        return Ok(ALIGNMENT);
    };
    match value {
        Value::U32(alignment) if alignment.is_power_of_two() => Ok(u64::from(*alignment)),
        other => Err(Fault::new(
            "general.alignment",
            format!("is {other:?} where a u32 power of two belongs"),
        )),
    }
}

/// `position` rounded up to a multiple of `alignment`, a power of two.
fn align(position: u64, alignment: u64) -> Option<u64> {
    position.checked_next_multiple_of(alignment)
}

/// A directory entry as read, its size known but its place not yet checked.
struct Raw {
    name: String,
    shape: Vec<usize>,
    dtype: DType,
    offset: u64,
    size: u64,
}

impl Raw {
    fn read(cursor: &mut Cursor<'_>, index: usize) -> Result<Raw, Fault> {
        let field = |part: &str| format!("tensors[{index}].{part}");
        let name = cursor.string(LONGEST_NAME).at(|| field("name"))?.to_owned();
        if name.is_empty() {
            return Err(Fault::new(field("name"), "is empty"));
        }
        let field = |part: &str| format!("tensor {name:?} {part}");
        let shape = read_shape(cursor, &name)?;
        let dtype = read_dtype(cursor, &name)?;
        let offset = cursor.u64().at(|| field("offset"))?;
        let size = dtype.bytes_for_shape(&shape).ok_or_else(|| {
            let reason = format!("{shape:?} does not fit whole blocks of {}", dtype.name());
            Fault::new(field("shape"), reason)
        })?;
        Ok(Raw {
            name,
            shape,
            dtype,
            offset,
            size: size as u64,
        })
    }
}

/// The dimensions, reversed into row-major order; none is zero and their product fits.
fn read_shape(cursor: &mut Cursor<'_>, name: &str) -> Result<Vec<usize>, Fault> {
    let count = cursor
        .u32()
        .at(|| format!("tensor {name:?} dimension count"))?;
    if !(1..=MOST_DIMENSIONS).contains(&count) {
        let reason = format!("is {count} where 1 to {MOST_DIMENSIONS} belong");
        return Err(Fault::new(
            format!("tensor {name:?} dimension count"),
            reason,
        ));
    }
    let mut shape = Vec::with_capacity(4);
    for _ in 0..count {
        let size = cursor.u64().at(|| format!("tensor {name:?} dimensions"))?;
        match usize::try_from(size) {
            Ok(size) if size > 0 => shape.push(size),
            _ => {
                let reason = format!("one of them is {size}");
                return Err(Fault::new(format!("tensor {name:?} dimensions"), reason));
            }
        }
    }
    shape.reverse();
    Ok(shape)
}

fn read_dtype(cursor: &mut Cursor<'_>, name: &str) -> Result<DType, Fault> {
    let id = cursor.u32().at(|| format!("tensor {name:?} type"))?;
    DType::from_ggml(id).ok_or_else(|| {
        let field = format!("tensor {name:?} type");
        match ggml_name(id) {
            Some(kind) => Fault::unsupported(
                field,
                format!("is {kind}, which is not read here: take a file in Q4_K_M, Q8_0 or F16"),
            ),
            None => Fault::new(field, format!("has the unknown id {id}")),
        }
    })
}

/// ggml's names for the types that are not in [`DType`].
fn ggml_name(id: u32) -> Option<&'static str> {
    Some(match id {
        9 => "Q8_1",
        15 => "Q8_K",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        20 => "IQ4_NL",
        21 => "IQ3_S",
        22 => "IQ2_S",
        23 => "IQ4_XS",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        29 => "IQ1_M",
        34 => "TQ1_0",
        35 => "TQ2_0",
        39 => "MXFP4",
        _ => return None,
    })
}

/// Gives each tensor its range in the file: aligned, inside, and shared with no other.
fn place(raw: Vec<Raw>, start: u64, alignment: u64, file: u64) -> Result<Vec<Entry>, Fault> {
    let mut names = HashSet::with_capacity(raw.len());
    let mut tensors = Vec::with_capacity(raw.len());
    for tensor in raw {
        let Raw {
            name,
            shape,
            dtype,
            offset,
            size,
        } = tensor;
        if !names.insert(name.clone()) {
            return Err(Fault::new(format!("tensor {name:?}"), "is there twice"));
        }
        if offset % alignment != 0 {
            let reason = format!("{offset} is no multiple of the alignment {alignment}");
            return Err(Fault::new(format!("tensor {name:?} offset"), reason));
        }
        let range = start
            .checked_add(offset)
            .and_then(|from| Some((from, from.checked_add(size)?)));
        let Some((from, to)) = range.filter(|(_, to)| *to <= file) else {
            let reason = format!("{size} bytes at {offset} do not fit a file of {file} bytes");
            return Err(Fault::new(format!("tensor {name:?} offset"), reason));
        };
        tensors.push(Entry {
            name,
            shape,
            dtype,
            range: from as usize..to as usize,
        });
    }
    check_apart(&tensors)?;
    Ok(tensors)
}

/// No two tensors share a byte: sharing would let a small file describe any amount of weights.
fn check_apart(tensors: &[Entry]) -> Result<(), Fault> {
    let mut order: Vec<&Entry> = tensors.iter().collect();
    order.sort_by_key(|entry| entry.range.start);
    for (left, right) in order.iter().zip(order.iter().skip(1)) {
        if right.range.start < left.range.end {
            let reason = format!("overlaps tensor {:?}", left.name);
            return Err(Fault::new(
                format!("tensor {:?} offset", right.name),
                reason,
            ));
        }
    }
    Ok(())
}
