//! Where a value came from.

use std::fmt;

use serde::Serialize;

/// The layers, low to high: a value of a higher layer hides those below.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layer {
    /// The program itself.
    BuiltIn,
    /// A file of the project's `.config` folder.
    Project,
    /// The file that `LLAMAHOME_ENV` names.
    Profile,
    /// A file of the user's configuration folder.
    User,
    /// A line of `.env` in the working directory.
    Dotenv,
    /// An environment variable.
    Environment,
    /// A command line flag.
    CommandLine,
}

impl Layer {
    /// The name that listings show, the same as in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Layer::BuiltIn => "built-in",
            Layer::Project => "project",
            Layer::Profile => "profile",
            Layer::User => "user",
            Layer::Dotenv => "dotenv",
            Layer::Environment => "environment",
            Layer::CommandLine => "command-line",
        }
    }
}

/// Where one value came from: a line of a file, a variable or a flag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Origin {
    /// The layer that set the value.
    pub layer: Layer,
    /// The path of a file, the name of a variable or a flag.
    pub place: String,
    /// The line in the file, from 1, where it could be found.
    pub line: Option<usize>,
}

impl fmt::Display for Origin {
    /// `path:line`, or the place alone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}", self.place),
            None => f.write_str(&self.place),
        }
    }
}
