//! Files and folders that are whole or not there, whenever the process ends.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use super::RunError;

/// Writes `bytes` under a temporary name, waits for the disk, and puts the file in its place.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), RunError> {
    let aside = path.with_extension("tmp");
    let mut file = File::create(&aside).map_err(RunError::io("create", &aside))?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(RunError::io("write", &aside))?;
    fs::rename(&aside, path).map_err(RunError::io("put in its place", path))?;
    sync_parent(path)
}

/// Waits until every file and folder below `folder`, and itself, is on the disk.
pub(super) fn sync_tree(folder: &Path) -> Result<(), RunError> {
    for entry in fs::read_dir(folder).map_err(RunError::io("list", folder))? {
        let path = entry.map_err(RunError::io("list", folder))?.path();
        match path.is_dir() {
            true => sync_tree(&path)?,
            false => sync(&path)?,
        }
    }
    sync(folder)
}

/// Waits until the entries of a path's folder are on the disk.
pub(super) fn sync_parent(path: &Path) -> Result<(), RunError> {
    path.parent().map_or(Ok(()), sync)
}

fn sync(path: &Path) -> Result<(), RunError> {
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(RunError::io("write to disk", path))
}
