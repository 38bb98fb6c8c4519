//! What can go wrong with a saved sequence.

use std::path::{Path, PathBuf};

use super::header::{LONGEST_HEADER, VERSION};
use super::sections::Kind;

/// Why a sequence could not be saved, listed or restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The file system refused; `doing` says what was tried.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was being done, as in "open".
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file is something else.
    #[error("{} is not a saved session: {reason}", path.display())]
    NotAState {
        /// The file.
        path: PathBuf,
        /// What it is or lacks.
        reason: String,
    },
    /// The file is of another version of the format.
    #[error(
        "{} has version {found} of the format and {VERSION} is read: use the program that wrote it, or start a new session",
        path.display()
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// The file is cut short or has something behind its end.
    #[error("{} has {found} bytes where its header promises {promised}: it is damaged; delete it", path.display())]
    Length {
        /// The file.
        path: PathBuf,
        /// Bytes that it should have.
        promised: String,
        /// Bytes that it has.
        found: u64,
    },
    /// The bytes are not those that were written.
    #[error("the {part} of {} does not match its checksum: it is damaged; delete it", path.display())]
    Checksum {
        /// The file.
        path: PathBuf,
        /// "header" or "payload".
        part: &'static str,
    },
    /// The header is whole and says something impossible.
    #[error("{} is malformed: {field}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The field that is wrong.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A header is too long to write or to read.
    #[error(
        "the header of {} has {bytes} bytes and {LONGEST_HEADER} are allowed: save a shorter conversation",
        path.display()
    )]
    HeaderTooLong {
        /// The file.
        path: PathBuf,
        /// Bytes of the header.
        bytes: u64,
    },
    /// The sequence is larger than the reader allows.
    #[error(
        "{} holds {bytes} bytes of keys and values and {limit} are allowed: raise the limit or start a new session",
        path.display()
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Bytes of the payload.
        bytes: u64,
        /// The reader's limit.
        limit: u64,
    },
    /// The file is sound and belongs to something else than what is loaded.
    #[error("{} is of {what} {found} and {expected} is loaded: {advice}", path.display())]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// "model", "shape" or "number type".
        what: &'static str,
        /// What the file has.
        found: String,
        /// What is loaded.
        expected: String,
        /// What to do.
        advice: &'static str,
    },
    /// A section that was asked for is not there.
    #[error("{} has no section {name:?} of {wanted}: it was written for another use; start a new session", path.display())]
    NoSection {
        /// The file.
        path: PathBuf,
        /// The section's name.
        name: String,
        /// The number type that was asked for.
        wanted: Kind,
    },
    /// A section has another number type than was asked for.
    #[error(
        "section {name:?} of {} is of {found} and {wanted} was asked for: it was written for another use; start a new session",
        path.display()
    )]
    SectionKind {
        /// The file.
        path: PathBuf,
        /// The section's name.
        name: String,
        /// The number type that was asked for.
        wanted: Kind,
        /// The one that it has.
        found: Kind,
    },
}

impl StateError {
    /// For `map_err`: an i/o error with what was being done and to which file.
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| StateError::Io {
            doing,
            path,
            source,
        }
    }

    /// A malformed file, with the field and what is wrong with it.
    pub(super) fn malformed(path: &Path, field: &str, reason: impl Into<String>) -> Self {
        StateError::Malformed {
            path: path.to_path_buf(),
            field: field.to_owned(),
            reason: reason.into(),
        }
    }
}
