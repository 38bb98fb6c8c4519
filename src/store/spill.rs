//! A scratch file for rows that were evicted from memory: it has no name, so it is gone with the process.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// An append-only file without a name.
#[derive(Debug)]
pub struct SpillFile {
    file: File,
    end: AtomicU64,
}

impl SpillFile {
    /// A fresh file in `folder`, which is made if it is missing.
    pub fn create(folder: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        Ok(SpillFile {
            file: tempfile::tempfile_in(folder)?,
            end: AtomicU64::new(0),
        })
    }

    /// Writes at the end. Returns where.
    pub fn append(&self, bytes: &[u8]) -> io::Result<u64> {
        let at = self.end.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.file.write_all_at(bytes, at)?;
        Ok(at)
    }

    /// Reads `len` bytes from `offset`.
    pub fn read(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    /// Bytes written.
    pub fn bytes(&self) -> u64 {
        self.end.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_leaves_no_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = SpillFile::create(&folder.path().join("spill")).unwrap();
        assert_eq!(file.append(b"abc").unwrap(), 0);
        assert_eq!(file.append(b"de").unwrap(), 3);
        assert_eq!(file.read(2, 3).unwrap(), b"cde");
        assert!(file.read(4, 2).is_err());
        assert_eq!(
            std::fs::read_dir(folder.path().join("spill"))
                .unwrap()
                .count(),
            0
        );
    }
}
