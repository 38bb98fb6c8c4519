//! Room on disk, and writes that survive a power cut.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::StoreError;

/// Left free on the disk beside what is written.
const RESERVE: u64 = 64 << 20;

/// Refuses if `folder`'s disk has no room for `needed` bytes and some reserve.
pub fn check_room(folder: &Path, needed: u64) -> Result<(), StoreError> {
    let about = rustix::fs::statvfs(folder)
        .map_err(|error| StoreError::io("ask for the free space of", folder)(error.into()))?;
    let free = about.f_bavail.saturating_mul(about.f_frsize);
    if needed.saturating_add(RESERVE) > free {
        return Err(StoreError::NoRoom {
            path: folder.to_path_buf(),
            needed,
            free,
        });
    }
    Ok(())
}

/// Waits until the file or folder is on the disk itself.
pub fn sync(path: &Path) -> Result<(), StoreError> {
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(StoreError::io("write to disk", path))
}

/// The sha256 of a file in hexadecimal, and its length. `seen` hears of each run of bytes.
pub fn sha256(path: &Path, mut seen: impl FnMut(u64)) -> Result<(String, u64), StoreError> {
    let mut file = File::open(path).map_err(StoreError::io("open", path))?;
    let mut hash = Sha256::new();
    let mut run = vec![0u8; 1 << 20];
    let mut length = 0u64;
    loop {
        let count = file.read(&mut run).map_err(StoreError::io("read", path))?;
        if count == 0 {
            return Ok((hex(&hash.finalize()), length));
        }
        hash.update(run.get(..count).unwrap_or_default());
        length = length.saturating_add(count as u64);
        seen(length);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_hash_and_a_full_disk() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("f");
        std::fs::write(&file, "abc").unwrap();
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(&file, |_| ()).unwrap(), (known.to_owned(), 3));
        assert!(check_room(folder.path(), 1).is_ok());
        assert!(matches!(
            check_room(folder.path(), u64::MAX),
            Err(StoreError::NoRoom { .. })
        ));
    }
}
