//! What a saved sequence says about itself.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use std::collections::HashSet;
use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::digest::Sha256Hex;
use super::error::StateError;
use super::sections::Kind;

/// The first bytes of every file.
pub(super) const MAGIC: [u8; 8] = *b"LLHMKVST";
/// The one version there is.
pub(super) const VERSION: u32 = 1;
/// Magic, version and length of the header.
pub(super) const FIXED: usize = 8 + 4 + 8;
/// With the hash of the header.
pub(super) const PREFIX: usize = FIXED + 32;
/// A header with the messages of the longest conversation is some 1 MiB.
pub(super) const LONGEST_HEADER: usize = 16 << 20;

/// What the keys and values belong to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// The hash of the model file.
    pub model: Sha256Hex,
    /// The shape of the cache.
    pub shape: Shape,
    /// The number type that keys and values were computed in, as in `bf16`.
    pub dtype: String,
    /// The eviction policy, as whoever saves it writes it.
    pub policy: Value,
    /// Anything else: the session's name, its messages. A fraction may come back changed in its last bit.
    pub meta: Value,
}

/// What the cache of a model looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    /// Layers of the model.
    pub layers: u32,
    /// KV heads of a layer.
    pub kv_heads: u32,
    /// Values of a key, and of a value, in one head.
    pub head_dim: u32,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shape {
            layers,
            kv_heads,
            head_dim,
        } = self;
        write!(f, "{layers} layers of {kv_heads} KV heads of {head_dim}")
    }
}

/// What a reader can use; `None` takes anything.
#[derive(Debug, Clone, Default)]
pub struct Expect {
    /// The hash of the loaded model's file.
    pub model: Option<Sha256Hex>,
    /// The shape of its cache.
    pub shape: Option<Shape>,
    /// The number type of its keys and values.
    pub dtype: Option<String>,
}

impl Expect {
    /// Compares with what a file has.
    pub(super) fn check(&self, header: &Header, path: &Path) -> Result<(), StateError> {
        let differ = |what, found: String, expected: String, advice| {
            Err(StateError::Mismatch {
                path: path.to_path_buf(),
                what,
                found,
                expected,
                advice,
            })
        };
        if let Some(model) = self.model.as_ref().filter(|model| **model != header.model) {
            let advice = "load the model that it was saved from, or start a new session";
            return differ("model", header.model.to_string(), model.to_string(), advice);
        }
        if let Some(shape) = self.shape.filter(|shape| *shape != header.shape) {
            let advice = "load the model that it was saved from, or start a new session";
            return differ("shape", header.shape.to_string(), shape.to_string(), advice);
        }
        if let Some(dtype) = self.dtype.as_ref().filter(|dtype| **dtype != header.dtype) {
            let advice = "load the model with the number type of the file, or start a new session";
            return differ("number type", header.dtype.clone(), dtype.clone(), advice);
        }
        Ok(())
    }
}

/// One section of the payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Section {
    pub(super) name: String,
    pub(super) dtype: Kind,
    /// Elements.
    pub(super) len: u64,
}

/// The header as it is in the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Layout {
    pub(super) about: Header,
    pub(super) sections: Vec<Section>,
    /// Of the payload.
    pub(super) sha256: Sha256Hex,
}

impl Layout {
    /// Bytes of the payload; `None` if no file can be that long.
    pub(super) fn payload_bytes(&self) -> Option<u64> {
        self.sections.iter().try_fold(0u64, |sum, section| {
            sum.checked_add(section.len.checked_mul(section.dtype.bytes())?)
        })
    }

    /// A name that two sections have.
    pub(super) fn twice(&self) -> Option<&str> {
        let mut seen = HashSet::new();
        let names = self.sections.iter().map(|section| section.name.as_str());
        names.into_iter().find(|name| !seen.insert(*name))
    }
}

/// Magic, version and length in front of a header of `length` bytes.
pub(super) fn fixed_part(length: u64) -> [u8; FIXED] {
    let mut bytes = [0; FIXED];
    let fields = MAGIC
        .into_iter()
        .chain(VERSION.to_le_bytes())
        .chain(length.to_le_bytes());
    for (byte, field) in bytes.iter_mut().zip(fields) {
        *byte = field;
    }
    bytes
}

/// The hash that guards a header.
pub(super) fn header_hash(json: &[u8]) -> [u8; 32] {
    Sha256::digest(json).into()
}
