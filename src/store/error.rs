//! What can go wrong with a model on disk or on its way there.

use std::path::{Path, PathBuf};

use crate::text::TextError;

/// Why a model could not be fetched, found, opened or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
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
    /// A file is damaged, cut short or made to mislead.
    #[error("{} is malformed: {field}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The field that is wrong, as in `tensors[3].offset`.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A sound file holds something that this program does not read.
    #[error("{} is not supported: {reason}", path.display())]
    Unsupported {
        /// The file or folder.
        path: PathBuf,
        /// What is not supported and what would be.
        reason: String,
    },
    /// A checkpoint lacks a tensor that was asked for.
    #[error("{} has no tensor {name:?}", path.display())]
    NoTensor {
        /// The checkpoint.
        path: PathBuf,
        /// The tensor's name.
        name: String,
    },
    /// The tokenizer or the chat template of a model could not be built.
    #[error("{}: {source}", path.display())]
    Text {
        /// The model.
        path: PathBuf,
        /// The reason.
        source: TextError,
    },
    /// A name that neither the library nor the catalogue knows.
    #[error("no model {name:?}{}", hint(closest))]
    UnknownModel {
        /// The name as given.
        name: String,
        /// What to do next, or the closest known name.
        closest: Option<String>,
    },
    /// The place for a new model is taken by another one.
    #[error("{id} is already here, from {from}: remove it first or pull under another name")]
    Exists {
        /// The name that is taken.
        id: String,
        /// Where the present model came from.
        from: String,
    },
    /// The catalogue file breaks one of its rules.
    #[error("{origin}: {reason}")]
    Catalog {
        /// The file, or "the built-in catalogue".
        origin: String,
        /// The rule and the place.
        reason: String,
    },
    /// A text that names no source.
    #[error("{text:?} names no model source: {reason}")]
    BadSource {
        /// The text as given.
        text: String,
        /// What is wrong and what a source looks like.
        reason: String,
    },
    /// A source could not be fetched.
    #[error("cannot fetch {what}: {reason}")]
    Fetch {
        /// What was being fetched.
        what: String,
        /// Why not, and what to do.
        reason: String,
    },
    /// What arrived is not what was promised.
    #[error("{what} has {kind} {found} where {expected} was promised: pull it again")]
    Mismatch {
        /// The file.
        what: String,
        /// "sha256" or "size".
        kind: &'static str,
        /// What the source or manifest says.
        expected: String,
        /// What the file has.
        found: String,
    },
    /// The disk is too full for the download.
    #[error(
        "{} has {free} bytes free and {needed} are needed: free some or set LLAMAHOME_HOME to a larger disk",
        path.display()
    )]
    NoRoom {
        /// The folder on the full disk.
        path: PathBuf,
        /// Bytes needed.
        needed: u64,
        /// Bytes free.
        free: u64,
    },
    /// Another process is pulling or removing the same model.
    #[error("{id} is being pulled or removed by another process: wait for it to end")]
    Busy {
        /// The model.
        id: String,
    },
    /// No folder to keep things in.
    #[error("{0}")]
    NoHome(String),
}

fn hint(closest: &Option<String>) -> String {
    closest
        .as_ref()
        .map(|text| format!(": {text}"))
        .unwrap_or_default()
}

impl StoreError {
    /// For `map_err`: an i/o error with what was being done and to which file.
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| StoreError::Io {
            doing,
            path,
            source,
        }
    }

    /// A malformed file, with the field and what is wrong with it.
    pub(crate) fn malformed(
        path: &Path,
        field: impl Into<String>,
        reason: impl Into<String>,
    ) -> Self {
        StoreError::Malformed {
            path: path.to_path_buf(),
            field: field.into(),
            reason: reason.into(),
        }
    }

    /// A failed fetch.
    pub(crate) fn fetch(what: impl Into<String>, reason: impl Into<String>) -> Self {
        StoreError::Fetch {
            what: what.into(),
            reason: reason.into(),
        }
    }
}

/// The known name closest to `name`, when one is close enough to be a slip of the hand.
pub(crate) fn closest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(score, _)| *score > 0.75)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_name_and_nonsense_finds_none() {
        let known = ["smollm2", "qwen2.5", "llama"];
        assert_eq!(closest("smolm2", known), Some("smollm2"));
        assert_eq!(closest("lama", known), Some("llama"));
        assert_eq!(closest("zzz", known), None);
    }
}
