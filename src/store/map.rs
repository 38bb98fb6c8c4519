//! A file mapped read-only into memory.

use std::fs::File;
use std::ops::Deref;
use std::path::Path;

use memmap2::Mmap;

use super::StoreError;

/// The bytes of a whole file, paged in by the system as they are touched.
#[derive(Debug)]
pub struct Mapped {
    map: Mmap,
}

impl Mapped {
    /// Maps the regular file at `path`.
    ///
    /// # Errors
    /// If `path` cannot be opened, is not a regular file, or is empty.
    #[allow(unsafe_code)]
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        // Asked before `open`: opening a named pipe would wait for a writer for ever.
        let about = std::fs::metadata(path).map_err(StoreError::io("open", path))?;
        if !about.is_file() {
            return Err(StoreError::malformed(path, "file", "is not a regular file"));
        }
        if about.len() == 0 {
            return Err(StoreError::malformed(path, "file", "is empty"));
        }
        let file = File::open(path).map_err(StoreError::io("open", path))?;
        // SAFETY: the mapping is read-only and private to this process; memory safety needs that no
        // one truncates or rewrites the file while it is mapped. Models are installed by an atomic
        // rename and never edited in place, and a removed file lives on until it is unmapped.
        let map = unsafe { Mmap::map(&file) }.map_err(StoreError::io("map", path))?;
        Ok(Mapped { map })
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map
    }
}
