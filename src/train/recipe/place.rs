//! Where the value of a key came from.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

/// Where the value of a key came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// Nobody gave one.
    Default,
    /// A file, and the line from 1 on where it is known.
    File {
        /// The recipe.
        path: PathBuf,
        /// The line.
        line: Option<usize>,
    },
    /// `key=value` of the command line or the request.
    Override {
        /// As it was given.
        text: String,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Default => f.write_str("default"),
            Place::File { path, line: None } => write!(f, "{}", path.display()),
            Place::File {
                path,
                line: Some(line),
            } => write!(f, "{}:{line}", path.display()),
            Place::Override { text } => write!(f, "override {text}"),
        }
    }
}
