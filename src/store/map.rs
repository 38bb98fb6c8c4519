//! A file mapped read-only into memory.

use std::fs::File;
use std::ops::Deref;
use std::path::Path;

use memmap2::{Mmap, UncheckedAdvice};

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

    /// Lets the process keep none of the file's pages in its memory. They are read again, from the system's cache of files
    /// or from the disk, when they are touched again.
    #[allow(unsafe_code)]
    pub fn let_go(&self) {
        // SAFETY: the advice may change what a mapping holds; one that is shared, read-only and of a file that nobody
        // writes to (see `open`) holds the same bytes again.
        let advised = unsafe { self.map.unchecked_advise(UncheckedAdvice::DontNeed) };
        if let Err(error) = advised {
            tracing::debug!(%error, "pages of a mapped file stay in memory");
        }
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Resident KiB of the mappings of a file.
    #[cfg(target_os = "linux")]
    fn resident(path: &Path) -> u64 {
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let name = path.to_str().unwrap();
        let mut lines = maps.lines();
        let mut found = 0;
        while lines.any(|line| line.ends_with(name)) {
            let rss = lines.find_map(|line| line.strip_prefix("Rss:")).unwrap();
            let kib = rss.trim().trim_end_matches(" kB");
            found += kib.parse::<u64>().unwrap();
        }
        found
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn pages_that_are_let_go_of_leave_memory_and_are_read_again() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), vec![7; 1 << 22]).unwrap();
        let map = Mapped::open(file.path()).unwrap();
        let sum = || map.iter().map(|&byte| u64::from(byte)).sum::<u64>();
        let before = sum();
        assert!(resident(file.path()) >= 4096);
        map.let_go();
        assert_eq!(resident(file.path()), 0);
        assert_eq!(sum(), before);
    }
}
