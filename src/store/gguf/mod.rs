//! GGUF files, versions 2 and 3: one memory-mapped file with metadata and tensors.
//!
//! `header` checks everything that stands before the data, so that a [`Gguf`] that opened can be
//! read without further doubt; [`write`](mod@write) makes such files.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod cursor;
mod header;
mod value;
pub mod write;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;

pub use cursor::Fault;
pub use header::{Entry, Header};
pub use value::{Array, Metadata, Value};

use super::StoreError;
use super::checkpoint::TensorInfo;
use super::map::Mapped;

/// An open GGUF file.
#[derive(Debug)]
pub struct Gguf {
    path: PathBuf,
    map: Mapped,
    version: u32,
    metadata: Metadata,
    tensors: BTreeMap<String, (TensorInfo, Range<usize>)>,
    pub(super) read: AtomicU64,
}

impl Gguf {
    /// Maps and checks the file at `path`.
    ///
    /// # Errors
    /// [`StoreError::Malformed`] with the field, or [`StoreError::Unsupported`].
    pub fn open(path: &Path) -> Result<Gguf, StoreError> {
        let map = Mapped::open(path)?;
        let header = Header::parse(&map).map_err(|fault| with_path(fault, path))?;
        let tensors = header.tensors.into_iter().map(|entry| {
            let Entry {
                name,
                shape,
                dtype,
                range,
            } = entry;
            (name.clone(), (TensorInfo { name, shape, dtype }, range))
        });
        Ok(Gguf {
            path: path.to_path_buf(),
            map,
            version: header.version,
            metadata: header.metadata,
            tensors: tensors.collect(),
            read: AtomicU64::new(0),
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// See [`super::Checkpoint::let_go`].
    pub(super) fn let_go(&self) {
        self.map.let_go();
    }

    /// The GGUF version, 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// All metadata.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The file's length in bytes.
    pub fn file_bytes(&self) -> u64 {
        self.map.len() as u64
    }

    /// All tensors, in order of their names.
    pub fn tensors(&self) -> impl Iterator<Item = &TensorInfo> {
        self.tensors.values().map(|(info, _)| info)
    }

    /// The tensor called `name`.
    pub fn get(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name).map(|(info, _)| info)
    }

    /// The stored bytes of the tensor called `name`.
    pub fn bytes(&self, name: &str) -> Option<&[u8]> {
        let (_, range) = self.tensors.get(name)?;
        self.map.get(range.clone())
    }
}

fn with_path(fault: Fault, path: &Path) -> StoreError {
    if fault.unsupported {
        let reason = format!("{}: {}", fault.field, fault.reason);
        return StoreError::Unsupported {
            path: path.to_path_buf(),
            reason,
        };
    }
    StoreError::malformed(path, fault.field, fault.reason)
}
