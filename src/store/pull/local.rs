//! Pulls from a path of this machine: a copy, or a link.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use super::Arrived;
use super::partial::{Partial, remove_if_there};
use super::progress::Monotone;
use crate::store::source::is_inner_path;
use crate::store::{StoreError, disk};

/// The files of a model folder that matter.
const ENDINGS: [&str; 4] = [".gguf", ".safetensors", ".json", ".jinja"];

/// Copies or links the file, or the folder's model files, into the partial folder.
pub(super) fn fetch(
    path: &Path,
    link: bool,
    partial: &Partial,
    progress: &mut Monotone<'_>,
) -> Result<Vec<Arrived>, StoreError> {
    let files = if path.is_dir() {
        model_files(path)?
    } else {
        vec![path.to_path_buf()]
    };
    let mut arrived = Vec::with_capacity(files.len());
    let mut total = 0u64;
    for file in &files {
        let about = std::fs::metadata(file).map_err(StoreError::io("open", file))?;
        total = total.saturating_add(about.len());
    }
    if !link {
        disk::check_room(&partial.files(), total)?;
    }
    for file in files {
        let name = plain_name(&file)?;
        let target = partial.files().join(&name);
        remove_if_there(&target)?;
        if link {
            make_link(&file, &target)?;
        } else {
            copy(&file, &target, &name, progress)?;
        }
        arrived.push(Arrived {
            name,
            size: None,
            sha256: None,
            linked: link,
        });
    }
    Ok(arrived)
}

fn plain_name(file: &Path) -> Result<String, StoreError> {
    let name = file
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    if is_inner_path(&name) {
        return Ok(name);
    }
    let reason = "its name must be letters, digits and . _ - +: rename it".to_owned();
    Err(StoreError::Unsupported {
        path: file.to_path_buf(),
        reason,
    })
}

fn model_files(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(StoreError::io("list", folder))? {
        let path = entry.map_err(StoreError::io("list", folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let ours = ENDINGS.iter().any(|ending| name.ends_with(ending));
        if ours && name != crate::store::manifest::FILE && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(unix)]
fn make_link(file: &Path, target: &Path) -> Result<(), StoreError> {
    let resolved = file.canonicalize().map_err(StoreError::io("find", file))?;
    std::os::unix::fs::symlink(resolved, target).map_err(StoreError::io("link to", file))
}

#[cfg(not(unix))]
fn make_link(file: &Path, _target: &Path) -> Result<(), StoreError> {
    Err(StoreError::fetch(
        file.display().to_string(),
        "links need a Unix system: copy instead",
    ))
}

fn copy(from: &Path, to: &Path, name: &str, progress: &mut Monotone<'_>) -> Result<(), StoreError> {
    let mut reader = File::open(from).map_err(StoreError::io("open", from))?;
    let mut writer = File::create(to).map_err(StoreError::io("make", to))?;
    let total = reader
        .metadata()
        .map_err(StoreError::io("open", from))?
        .len();
    progress.start(name, Some(total));
    copy_all(&mut reader, &mut writer, 0, progress).map_err(StoreError::io("copy", from))?;
    progress.finish();
    Ok(())
}

/// Copies to the end, telling `progress` of `done` and all bytes after it.
pub(super) fn copy_all(
    reader: &mut impl Read,
    writer: &mut impl Write,
    mut done: u64,
    progress: &mut Monotone<'_>,
) -> std::io::Result<u64> {
    let mut run = vec![0u8; 1 << 18];
    loop {
        if progress.cancelled() {
            return Err(std::io::Error::other("nobody waits for it any more"));
        }
        let count = reader.read(&mut run)?;
        if count == 0 {
            writer.flush()?;
            return Ok(done);
        }
        writer.write_all(run.get(..count).unwrap_or_default())?;
        done = done.saturating_add(count as u64);
        progress.advance(done);
    }
}
