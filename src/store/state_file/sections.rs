//! The numbers of a saved sequence, by name.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use half::bf16;
use serde::{Deserialize, Serialize};

use super::error::StateError;

/// A number type of a section.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// IEEE 754 single precision.
    F32,
    /// Unsigned, 32 bits.
    U32,
    /// The upper half of an f32.
    Bf16,
    /// Signed, 8 bits.
    I8,
    /// Unsigned, 8 bits.
    U8,
}

impl Kind {
    /// Bytes of one element.
    pub fn bytes(self) -> u64 {
        match self {
            Kind::F32 | Kind::U32 => 4,
            Kind::Bf16 => 2,
            Kind::I8 | Kind::U8 => 1,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::F32 => "f32",
            Kind::U32 => "u32",
            Kind::Bf16 => "bf16",
            Kind::I8 => "i8",
            Kind::U8 => "u8",
        })
    }
}

/// A section to be written.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "each is the number type of its name")]
pub enum Data<'a> {
    F32(&'a [f32]),
    U32(&'a [u32]),
    Bf16(&'a [bf16]),
    I8(&'a [i8]),
    U8(&'a [u8]),
}

impl Data<'_> {
    /// The number type.
    pub fn kind(self) -> Kind {
        match self {
            Data::F32(_) => Kind::F32,
            Data::U32(_) => Kind::U32,
            Data::Bf16(_) => Kind::Bf16,
            Data::I8(_) => Kind::I8,
            Data::U8(_) => Kind::U8,
        }
    }

    /// Elements.
    pub(super) fn len(self) -> u64 {
        (match self {
            Data::F32(values) => values.len(),
            Data::U32(values) => values.len(),
            Data::Bf16(values) => values.len(),
            Data::I8(values) => values.len(),
            Data::U8(values) => values.len(),
        }) as u64
    }

    /// Gives the section's bytes to `sink`, run by run.
    pub(super) fn runs<E>(self, sink: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        match self {
            Data::F32(values) => runs(values, f32::to_le_bytes, sink),
            Data::U32(values) => runs(values, u32::to_le_bytes, sink),
            Data::Bf16(values) => runs(values, bf16::to_le_bytes, sink),
            Data::I8(values) => runs(values, i8::to_le_bytes, sink),
            Data::U8(values) => runs(values, u8::to_le_bytes, sink),
        }
    }
}

/// Elements that are turned into bytes at once.
const RUN: usize = 1 << 16;

fn runs<T: Copy, const N: usize, E>(
    values: &[T],
    bytes: impl Fn(T) -> [u8; N],
    mut sink: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut run = Vec::with_capacity(RUN.min(values.len()) * N);
    for values in values.chunks(RUN) {
        run.clear();
        run.extend(values.iter().flat_map(|&value| bytes(value)));
        sink(&run)?;
    }
    Ok(())
}

/// A section that was read.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    F32(Vec<f32>),
    U32(Vec<u32>),
    Bf16(Vec<bf16>),
    I8(Vec<i8>),
    U8(Vec<u8>),
}

impl Values {
    /// No elements yet, and room for `len`.
    pub(super) fn with_capacity(kind: Kind, len: usize) -> Self {
        match kind {
            Kind::F32 => Values::F32(Vec::with_capacity(len)),
            Kind::U32 => Values::U32(Vec::with_capacity(len)),
            Kind::Bf16 => Values::Bf16(Vec::with_capacity(len)),
            Kind::I8 => Values::I8(Vec::with_capacity(len)),
            Kind::U8 => Values::U8(Vec::with_capacity(len)),
        }
    }

    /// Appends whole elements.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        match self {
            Values::F32(values) => extend(values, bytes, f32::from_le_bytes),
            Values::U32(values) => extend(values, bytes, u32::from_le_bytes),
            Values::Bf16(values) => extend(values, bytes, bf16::from_le_bytes),
            Values::I8(values) => extend(values, bytes, i8::from_le_bytes),
            Values::U8(values) => values.extend_from_slice(bytes),
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Values::F32(_) => Kind::F32,
            Values::U32(_) => Kind::U32,
            Values::Bf16(_) => Kind::Bf16,
            Values::I8(_) => Kind::I8,
            Values::U8(_) => Kind::U8,
        }
    }
}

fn extend<T, const N: usize>(values: &mut Vec<T>, bytes: &[u8], value: impl Fn([u8; N]) -> T) {
    let (whole, _) = bytes.as_chunks::<N>();
    values.extend(whole.iter().map(|&bytes| value(bytes)));
}

/// A type that a section can be taken as.
pub trait Element: sealed::Element {}

mod sealed {
    use super::{Kind, Values};

    pub trait Element: Sized {
        const KIND: Kind;
        /// The values, or what they are instead.
        fn unpack(values: Values) -> Result<Vec<Self>, Values>;
    }
}

macro_rules! element {
    ($($number:ty => $kind:ident),*) => {$(
        impl Element for $number {}
        impl sealed::Element for $number {
            const KIND: Kind = Kind::$kind;

            fn unpack(values: Values) -> Result<Vec<Self>, Values> {
                match values {
                    Values::$kind(values) => Ok(values),
                    other => Err(other),
                }
            }
        }
    )*};
}

element!(f32 => F32, u32 => U32, bf16 => Bf16, i8 => I8, u8 => U8);

/// The sections of one file.
#[derive(Debug, Clone, PartialEq)]
pub struct Sections {
    path: PathBuf,
    by_name: BTreeMap<String, Values>,
}

impl Sections {
    pub(super) fn new(path: PathBuf, by_name: BTreeMap<String, Values>) -> Self {
        Sections { path, by_name }
    }

    /// Takes a section out, as in `take::<f32>("keys")`.
    ///
    /// # Errors
    /// [`StateError::NoSection`] or [`StateError::SectionKind`]; a section of another type stays.
    pub fn take<T: Element>(&mut self, name: &str) -> Result<Vec<T>, StateError> {
        let Some(values) = self.by_name.remove(name) else {
            return Err(StateError::NoSection {
                path: self.path.clone(),
                name: name.to_owned(),
                wanted: T::KIND,
            });
        };
        T::unpack(values).map_err(|values| {
            let found = values.kind();
            self.by_name.insert(name.to_owned(), values);
            StateError::SectionKind {
                path: self.path.clone(),
                name: name.to_owned(),
                wanted: T::KIND,
                found,
            }
        })
    }

    /// The names of what was not taken yet, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }
}
