//! The folder in which one pull works, and the lock that keeps others out.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use crate::ids::ModelId;
use crate::store::home::create_private;
use crate::store::{Home, StoreError};

/// Holds what is fetched for one model until it is whole. The lock goes with the value.
pub struct Partial {
    root: PathBuf,
    _lock: Lock,
}

/// The lock on a model's name, free again when dropped.
pub struct Lock(File);

impl Drop for Lock {
    /// Unlocks by hand: closing is not enough while a child that is just being started still has a
    /// copy of the open file.
    fn drop(&mut self) {
        // The kernel unlocks at the latest when the process ends.
        let _ = self.0.unlock();
    }
}

/// Takes the lock on a model's name.
///
/// The lock file stays where it is: deleting it would let two processes lock two files.
pub fn lock(home: &Home, id: &ModelId) -> Result<Lock, StoreError> {
    let folder = home.models().join(".partial");
    create_private(&folder)?;
    let path = folder.join(format!("{id}.lock"));
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(StoreError::io("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(Lock(file)),
        Err(TryLockError::WouldBlock) => Err(StoreError::Busy { id: id.to_string() }),
        Err(TryLockError::Error(error)) => Err(StoreError::io("lock", &path)(error)),
    }
}

impl Partial {
    /// Locks the model's name and opens its folder. What an earlier pull left there is kept only if
    /// it was from the same `source`.
    pub fn open(home: &Home, id: &ModelId, source: &str) -> Result<Partial, StoreError> {
        let held = lock(home, id)?;
        let root = home.models().join(".partial").join(format!("{id}.d"));
        let partial = Partial { root, _lock: held };
        partial.keep_only_if("source", source)?;
        // Parts of it may be there from a pull that was cut off between hashing and renaming.
        let stale = partial.files().join(crate::store::manifest::FILE);
        remove_if_there(&stale)?;
        Ok(partial)
    }

    /// Empties the folder unless the note called `name` says `value`; then it says so.
    pub fn keep_only_if(&self, name: &str, value: &str) -> Result<(), StoreError> {
        let note = self.root.join(name);
        if std::fs::read_to_string(&note).is_ok_and(|text| text == value) {
            return Ok(());
        }
        self.discard_but(&["source"])?;
        for folder in [self.files(), self.parts()] {
            create_private(&folder)?;
        }
        std::fs::write(&note, value).map_err(StoreError::io("write", &note))
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Finished files; this folder becomes the model's.
    pub fn files(&self) -> PathBuf {
        self.root.join("files")
    }

    /// Unfinished downloads.
    pub fn parts(&self) -> PathBuf {
        self.root.join("parts")
    }

    /// Removes a finished file that turned out wrong, and what it was made from.
    pub fn reject(&self, name: &str) -> Result<(), StoreError> {
        remove_if_there(&self.files().join(name))?;
        remove_if_there(&self.root.join("wheel"))
    }

    /// Removes the folder.
    pub fn discard(&self) -> Result<(), StoreError> {
        remove_if_there(&self.root)
    }

    fn discard_but(&self, kept: &[&str]) -> Result<(), StoreError> {
        let Ok(entries) = std::fs::read_dir(&self.root) else {
            return create_private(&self.root);
        };
        for entry in entries {
            let entry = entry.map_err(StoreError::io("list", &self.root))?;
            if !kept.iter().any(|name| entry.file_name() == *name) {
                remove_if_there(&entry.path())?;
            }
        }
        Ok(())
    }
}

/// Removes a file, a link or a folder with all in it.
pub fn remove_if_there(path: &Path) -> Result<(), StoreError> {
    let Ok(about) = std::fs::symlink_metadata(path) else {
        return Ok(());
    };
    let removed = if about.is_dir() {
        std::fs::remove_dir_all(path)
    } else {
        std::fs::remove_file(path)
    };
    removed.map_err(StoreError::io("remove", path))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn one_pull_of_a_model_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path());
        let id: ModelId = "m".parse().unwrap();
        let first = Partial::open(&home, &id, "s").unwrap();
        assert!(matches!(
            Partial::open(&home, &id, "s"),
            Err(StoreError::Busy { .. })
        ));
        assert!(Partial::open(&home, &"n".parse().unwrap(), "s").is_ok());
        drop(first);
        assert!(Partial::open(&home, &id, "s").is_ok());
    }

    #[test]
    fn leftovers_are_kept_for_the_same_source_only() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path());
        let id: ModelId = "m".parse().unwrap();
        let left = |source: &str| {
            let partial = Partial::open(&home, &id, source).unwrap();
            let part = partial.parts().join("p");
            let found = part.exists();
            std::fs::write(part, "x").unwrap();
            found
        };
        assert_eq!(
            (left("a"), left("a"), left("b"), left("b")),
            (false, true, false, true)
        );
    }
}
