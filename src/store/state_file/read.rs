//! Reading a saved sequence back.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::digest::Sha256Hex;
use super::error::StateError;
use super::header::{Expect, Header, LONGEST_HEADER, Layout, MAGIC, PREFIX, VERSION, header_hash};
use super::sections::{Sections, Values};

/// Bytes that are read at once; a multiple of every element.
const RUN: usize = 1 << 20;

/// Reads what a saved sequence says about itself, for a list: the file's length is checked and its payload is not read.
///
/// # Errors
/// As [`read_state`], but for the payload's checksum.
pub fn read_header(path: &Path) -> Result<Header, StateError> {
    Ok(Opened::new(path)?.layout.about)
}

/// Reads a saved sequence of at most `max_bytes` bytes of payload.
///
/// # Errors
/// [`StateError::Io`]; [`StateError::NotAState`], [`StateError::Version`], [`StateError::Length`],
/// [`StateError::Checksum`], [`StateError::Malformed`], [`StateError::HeaderTooLong`] if the file is something else or
/// damaged; [`StateError::Mismatch`] if it is not what `expect` says; [`StateError::TooLarge`].
pub fn read_state(
    path: &Path,
    expect: &Expect,
    max_bytes: u64,
) -> Result<(Header, Sections), StateError> {
    let mut opened = Opened::new(path)?;
    expect.check(&opened.layout.about, path)?;
    if opened.payload_bytes > max_bytes {
        return Err(StateError::TooLarge {
            path: path.to_path_buf(),
            bytes: opened.payload_bytes,
            limit: max_bytes,
        });
    }
    let sections = opened.sections()?;
    Ok((opened.layout.about, sections))
}

/// A file whose header is checked, up to the payload.
struct Opened<'a> {
    path: &'a Path,
    file: File,
    length: u64,
    layout: Layout,
    payload_bytes: u64,
}

impl<'a> Opened<'a> {
    fn new(path: &'a Path) -> Result<Self, StateError> {
        let not_a_state = |reason: &str| StateError::NotAState {
            path: path.to_path_buf(),
            reason: reason.to_owned(),
        };
        // Before opening: a pipe would wait for a writer.
        let about = std::fs::metadata(path).map_err(StateError::io("open", path))?;
        if !about.is_file() {
            return Err(not_a_state("it is not a regular file"));
        }
        let mut file = File::open(path).map_err(StateError::io("open", path))?;
        let about = file.metadata().map_err(StateError::io("open", path))?;
        let length = about.len();
        if length < PREFIX as u64 {
            return Err(not_a_state("it is too short"));
        }

        if read_array(&mut file, path, length)? != MAGIC {
            return Err(not_a_state("it begins with other bytes"));
        }
        let version = u32::from_le_bytes(read_array(&mut file, path, length)?);
        if version != VERSION {
            return Err(StateError::Version {
                path: path.to_path_buf(),
                found: version,
            });
        }
        let header_bytes = u64::from_le_bytes(read_array(&mut file, path, length)?);
        if header_bytes > LONGEST_HEADER as u64 {
            return Err(StateError::HeaderTooLong {
                path: path.to_path_buf(),
                bytes: header_bytes,
            });
        }
        let payload_start = PREFIX as u64 + header_bytes;
        if payload_start > length {
            return Err(wrong_length(path, Some(payload_start), length));
        }
        let hash: [u8; 32] = read_array(&mut file, path, length)?;
        let mut json = vec![0; header_bytes as usize];
        read_exact(&mut file, &mut json, path, length)?;
        if header_hash(&json) != hash {
            return Err(StateError::Checksum {
                path: path.to_path_buf(),
                part: "header",
            });
        }

        let layout: Layout = serde_json::from_slice(&json)
            .map_err(|error| StateError::malformed(path, "header", error.to_string()))?;
        if let Some(name) = layout.twice() {
            let reason = format!("two are called {name:?}");
            return Err(StateError::malformed(path, "sections", reason));
        }
        let payload_bytes = layout.payload_bytes();
        let promised = payload_bytes.and_then(|bytes| bytes.checked_add(payload_start));
        match payload_bytes {
            Some(payload_bytes) if promised == Some(length) => Ok(Opened {
                path,
                file,
                length,
                layout,
                payload_bytes,
            }),
            _ => Err(wrong_length(path, promised, length)),
        }
    }

    /// Reads the payload. Its length was compared with the file's, so what is allocated is no more than that.
    fn sections(&mut self) -> Result<Sections, StateError> {
        let mut hash = Sha256::new();
        let mut by_name = BTreeMap::new();
        let longest = self.payload_bytes.min(RUN as u64) as usize;
        let mut run = vec![0; longest];
        for section in &self.layout.sections {
            let elements = usize::try_from(section.len).map_err(|_| {
                StateError::malformed(self.path, &section.name, "it does not fit into memory")
            })?;
            let mut values = Values::with_capacity(section.dtype, elements);
            let mut left = section.len.saturating_mul(section.dtype.bytes());
            while left > 0 {
                let count = left.min(RUN as u64);
                let (run, _) = run.split_at_mut(count as usize);
                read_exact(&mut self.file, run, self.path, self.length)?;
                hash.update(&*run);
                values.extend(run);
                left -= count;
            }
            by_name.insert(section.name.clone(), values);
        }
        if Sha256Hex::of(&hash.finalize()) != self.layout.sha256 {
            return Err(StateError::Checksum {
                path: self.path.to_path_buf(),
                part: "payload",
            });
        }
        Ok(Sections::new(self.path.to_path_buf(), by_name))
    }
}

/// `promised` is `None` if it is beyond every file.
fn wrong_length(path: &Path, promised: Option<u64>, found: u64) -> StateError {
    StateError::Length {
        path: path.to_path_buf(),
        promised: promised.map_or("more than any file has".to_owned(), |bytes| {
            bytes.to_string()
        }),
        found,
    }
}

fn read_array<const N: usize>(
    file: &mut File,
    path: &Path,
    length: u64,
) -> Result<[u8; N], StateError> {
    let mut bytes = [0; N];
    read_exact(file, &mut bytes, path, length)?;
    Ok(bytes)
}

/// `length` is what the file had when it was opened.
fn read_exact(
    file: &mut File,
    bytes: &mut [u8],
    path: &Path,
    length: u64,
) -> Result<(), StateError> {
    file.read_exact(bytes).map_err(|error| {
        if error.kind() == ErrorKind::UnexpectedEof {
            StateError::malformed(path, "length", format!("it was {length} bytes and shrank"))
        } else {
            StateError::io("read", path)(error)
        }
    })
}
