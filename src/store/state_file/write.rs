//! Saving a sequence: all of the file or none of it.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use std::convert::Infallible;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};

use super::digest::Sha256Hex;
use super::error::StateError;
use super::header::{Header, LONGEST_HEADER, Layout, Section, fixed_part, header_hash};
use super::sections::Data;

/// Saves a sequence as the file `path`, in place of what was there, and says how many bytes it takes. Only the owner
/// can read it. The file appears under its name when all of it is on the disk.
///
/// # Errors
/// [`StateError::Io`]; [`StateError::HeaderTooLong`]; [`StateError::Malformed`] if two sections have one name or
/// `path` names no file. Nothing is left behind and an older file stays as it is; only when the last step fails, which
/// waits for the folder's own record of the name, is the new file in place already.
pub fn write_state(
    path: &Path,
    header: &Header,
    sections: &[(String, Data<'_>)],
) -> Result<u64, StateError> {
    let json = layout_json(path, header, sections)?;
    let fixed = fixed_part(json.len() as u64);
    let hash = header_hash(&json);

    let (mut temporary, mut file) = Temporary::beside(path)?;
    let mut length = 0;
    let mut write = |run: &[u8]| {
        length += run.len() as u64;
        file.write_all(run)
    };
    write(&fixed)
        .and_then(|()| write(&hash))
        .and_then(|()| write(&json))
        .and_then(|()| {
            let mut sections = sections.iter();
            sections.try_for_each(|(_, data)| data.runs(&mut write))
        })
        .and_then(|()| file.sync_all())
        .map_err(StateError::io("write", &temporary.path))?;
    temporary.become_file(path)?;
    Ok(length)
}

/// The header of the file, checked as a reader would.
fn layout_json(
    path: &Path,
    header: &Header,
    sections: &[(String, Data<'_>)],
) -> Result<Vec<u8>, StateError> {
    let mut payload = Sha256::new();
    for (_, data) in sections {
        let Ok(()) = data.runs(|run| {
            payload.update(run);
            Ok::<(), Infallible>(())
        });
    }
    let layout = Layout {
        about: header.clone(),
        sections: sections
            .iter()
            .map(|(name, data)| Section {
                name: name.clone(),
                dtype: data.kind(),
                len: data.len(),
            })
            .collect(),
        sha256: Sha256Hex::of(&payload.finalize()),
    };
    if let Some(name) = layout.twice() {
        let reason = format!("two sections are called {name:?}");
        return Err(StateError::malformed(path, "sections", reason));
    }
    let json = serde_json::to_vec(&layout)
        .map_err(|error| StateError::malformed(path, "header", error.to_string()))?;
    if json.len() > LONGEST_HEADER {
        return Err(StateError::HeaderTooLong {
            path: path.to_path_buf(),
            bytes: json.len() as u64,
        });
    }
    Ok(json)
}

/// A file that is removed again unless it gets its final name.
struct Temporary {
    path: PathBuf,
    folder: PathBuf,
    kept: bool,
}

/// Tells the temporary files of one process apart.
static COUNT: AtomicU64 = AtomicU64::new(0);

impl Temporary {
    /// A new, empty file in the folder of `path`: a rename is atomic within one file system only.
    fn beside(path: &Path) -> Result<(Temporary, File), StateError> {
        let Some(name) = path.file_name() else {
            return Err(StateError::malformed(path, "path", "it names no file"));
        };
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        loop {
            let mut hidden = OsString::from(".");
            hidden.push(name);
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            hidden.push(format!(".{}-{count}.tmp", std::process::id()));
            let hidden = folder.join(hidden);
            match options.open(&hidden) {
                Ok(file) => {
                    let temporary = Temporary {
                        path: hidden,
                        folder: folder.to_path_buf(),
                        kept: false,
                    };
                    return Ok((temporary, file));
                }
                // Left by a process of the same number that was killed.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => (),
                Err(error) => return Err(StateError::io("create", &hidden)(error)),
            }
        }
    }

    fn become_file(&mut self, path: &Path) -> Result<(), StateError> {
        std::fs::rename(&self.path, path).map_err(StateError::io("replace", path))?;
        self.kept = true;
        // The name is on the disk when the folder is.
        File::open(&self.folder)
            .and_then(|folder| folder.sync_all())
            .map_err(StateError::io("write to disk", &self.folder))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.kept {
            // The error that led here is the one to tell.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
