//! Why settings could not be loaded: what, where, and what to do next.

use std::path::PathBuf;

use super::Origin;

/// Why settings could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// No section has a key of this name.
    #[error("{origin}: unknown key `{key}`{}", hint(.closest))]
    UnknownKey {
        /// The source that has it.
        origin: Origin,
        /// The key as it was written, with its section.
        key: String,
        /// The known key whose name is nearest.
        closest: Option<String>,
    },
    /// A variable of this program's prefix which is not a key.
    #[error("{origin}: unknown variable `{name}`{}", hint(.closest))]
    UnknownVariable {
        /// The environment or the line of `.env`.
        origin: Origin,
        /// The variable.
        name: String,
        /// The known variable whose name is nearest.
        closest: Option<String>,
    },
    /// A value of the wrong type, or outside of what the key allows.
    #[error("{origin}: `{key}`: {reason}{}", hint(.closest))]
    BadValue {
        /// The source that has it.
        origin: Origin,
        /// The key with its section.
        key: String,
        /// What is wrong with the value.
        reason: String,
        /// The allowed value that is nearest, for a value out of a list.
        closest: Option<String>,
    },
    /// A single value where a table of keys belongs.
    #[error("{origin}: `{section}` is a section: write its keys as a table, such as [{section}]")]
    NotATable {
        /// The source that has it.
        origin: Origin,
        /// The section.
        section: String,
    },
    /// The text is not of the format that the file's name promises.
    #[error("{origin}: {reason}")]
    Syntax {
        /// The file and line.
        origin: Origin,
        /// The parser's message.
        reason: String,
    },
    /// A file is there and could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// The system's message.
        source: std::io::Error,
    },
    /// `LLAMAHOME_CONFIG` names something that is not a folder.
    #[error("LLAMAHOME_CONFIG: {} is not a folder: name the folder of the project's settings", path.display())]
    NoFolder {
        /// What it names.
        path: PathBuf,
    },
    /// `LLAMAHOME_ENV` names a profile that is nowhere.
    #[error("LLAMAHOME_ENV: there is no profile {name:?}: use one of {}, or add the file {name}.toml to the project's .config folder", known.join(", "))]
    NoProfile {
        /// What it names.
        name: String,
        /// The profiles there are.
        known: Vec<String>,
    },
    /// The sections could not be read as one: a defect of this program.
    #[error("settings do not compose: {0}")]
    Compose(String),
}

fn hint(closest: &Option<String>) -> String {
    match closest {
        Some(name) => format!(": did you mean `{name}`?"),
        None => String::new(),
    }
}

/// Of `known`, the name nearest to `wrong`, unless more than half of it would have to change.
pub(super) fn closest<T: AsRef<str>>(
    wrong: &str,
    known: impl Iterator<Item = T>,
) -> Option<String> {
    known
        .map(|name| (strsim::damerau_levenshtein(wrong, name.as_ref()), name))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, name)| *distance * 2 <= name.as_ref().len().max(wrong.len()))
        .map(|(_, name)| name.as_ref().to_owned())
}
