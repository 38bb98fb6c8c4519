//! What can be wrong with data, and where.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use crate::text::TextError;

/// What the records of a file are counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Lines of a text, as editors number them.
    Line,
    /// Rows of a table, or items of a list.
    Row,
}

/// Where something stands: a file, and a line or row of it counted from 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The file.
    pub file: Arc<Path>,
    /// The line or row, from 1.
    pub number: u64,
    /// Which of the two.
    pub unit: Unit,
}

impl Place {
    /// A line of a file.
    pub fn line(file: &Arc<Path>, number: u64) -> Self {
        Place {
            file: file.clone(),
            number,
            unit: Unit::Line,
        }
    }

    /// A row of a file.
    pub fn row(file: &Arc<Path>, number: u64) -> Self {
        Place {
            unit: Unit::Row,
            ..Place::line(file, number)
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.unit {
            Unit::Line => write!(f, "{}:{}", self.file.display(), self.number),
            Unit::Row => write!(f, "{}: row {}", self.file.display(), self.number),
        }
    }
}

/// What is wrong with one record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Where the record stands.
    pub place: Place,
    /// The field, such as `messages[2].content`; none when the record as a whole is wrong.
    pub field: Option<String>,
    /// What is wrong, and what to do.
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.field {
            Some(field) => write!(f, "{}: field `{field}`: {}", self.place, self.reason),
            None => write!(f, "{}: {}", self.place, self.reason),
        }
    }
}

/// Why data cannot be read, encoded or batched.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A file or folder cannot be read.
    #[error("cannot read {}: {source}; check the path and its permissions", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {source}; check the folder, its permissions and the free space", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The ending of a file names no known format.
    #[error("{}: the ending names no known format; known are {}; or name the format", path.display(), super::Format::ENDINGS)]
    Format {
        /// The file.
        path: PathBuf,
    },
    /// A folder without a data file.
    #[error("{}: no data file in the folder; looked for {}", path.display(), super::Format::ENDINGS)]
    EmptyFolder {
        /// The folder.
        path: PathBuf,
    },
    /// A file that is not what its format says.
    #[error("{}: not readable as {format}: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What it was read as.
        format: super::Format,
        /// What the reader said.
        reason: String,
    },
    /// A record that cannot be used.
    #[error("{0}")]
    Record(Problem),
    /// A record that cannot be encoded.
    #[error("{place}: {source}")]
    Encode {
        /// The record.
        place: Place,
        /// Why not.
        source: TextError,
    },
    /// A sample longer than a row.
    #[error(
        "{place}: the sample has {tokens} tokens, a row has {context}: use a longer context, or ask for truncation"
    )]
    Overlong {
        /// The record.
        place: Place,
        /// Its tokens.
        tokens: usize,
        /// The tokens of a row.
        context: usize,
    },
    /// Nothing to train on.
    #[error("{what} has no samples: {advice}")]
    Empty {
        /// Which data.
        what: String,
        /// What to do.
        advice: &'static str,
    },
    /// An option outside its range.
    #[error("{option} is {found}: {allowed}")]
    Option {
        /// Which.
        option: &'static str,
        /// What was given.
        found: String,
        /// What may be.
        allowed: &'static str,
    },
    /// A cursor that belongs to other data or options.
    #[error(
        "the saved place belongs to other data or options ({saved}, now {found}): resume with the files, tokenizer and data options of the run"
    )]
    Cursor {
        /// The fingerprint in the cursor.
        saved: String,
        /// The fingerprint of what is here.
        found: String,
    },
    /// The scratch file of the encoded samples.
    #[error("cannot keep the encoded samples in {}: {source}; free space there or choose another folder", folder.display())]
    Scratch {
        /// The folder.
        folder: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A tokenizer could not be trained or used.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The thread that reads ahead ended before it should.
    #[error("the thread that reads ahead ended early; this is a bug, please report it")]
    LoaderGone,
}

impl DataError {
    pub(super) fn read(path: &Path) -> impl FnOnce(io::Error) -> DataError + '_ {
        move |source| DataError::Read {
            path: path.to_owned(),
            source,
        }
    }

    pub(super) fn write(path: &Path) -> impl FnOnce(io::Error) -> DataError + '_ {
        move |source| DataError::Write {
            path: path.to_owned(),
            source,
        }
    }

    /// The problem with a record, for errors that are about one.
    pub fn problem(&self) -> Option<Problem> {
        match self {
            DataError::Record(problem) => Some(problem.clone()),
            DataError::Encode { place, source } => Some(Problem {
                place: place.clone(),
                field: None,
                reason: source.to_string(),
            }),
            DataError::Overlong { place, .. } => Some(Problem {
                place: place.clone(),
                field: None,
                reason: self.to_string(),
            }),
            _ => None,
        }
    }
}
