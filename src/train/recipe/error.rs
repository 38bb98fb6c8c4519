//! Why a recipe cannot be followed: what, where, and what to do next.

use std::path::PathBuf;

use super::Place;

/// Why a recipe cannot be followed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecipeError {
    /// The file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file's extension names none of the formats.
    #[error("{}: recipes are .toml, .yaml, .yml or .json files: rename it", path.display())]
    Format {
        /// The file.
        path: PathBuf,
    },
    /// The text is not of the format that the file's name promises.
    #[error("{place}: {reason}")]
    Syntax {
        /// The file and line.
        place: Place,
        /// The parser's message.
        reason: String,
    },
    /// A key or table stands twice in one file.
    #[error(
        "{place}: `{key}` stands here a second time, first on line {first}: keep one of the two"
    )]
    Twice {
        /// The second one.
        place: Place,
        /// The key as it is written there.
        key: String,
        /// The line of the first.
        first: usize,
    },
    /// An override is not of the form `key=value`.
    #[error("override {text:?}: {reason}: write key=value, such as optim.lr=1e-4")]
    Override {
        /// What was given.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No section has a key of this name.
    #[error("{place}: unknown key `{key}`{}", hint(.closest))]
    UnknownKey {
        /// Where it stands.
        place: Place,
        /// The key with its section.
        key: String,
        /// The known key whose name is nearest.
        closest: Option<String>,
    },
    /// A value of the wrong type, or outside of what the key allows.
    #[error("{place}: `{key}`: {reason}{}", hint(.closest))]
    BadValue {
        /// Where it stands.
        place: Place,
        /// The key with its section.
        key: String,
        /// What is wrong with the value.
        reason: String,
        /// The allowed value that is nearest, for a value out of a list.
        closest: Option<String>,
    },
    /// Keys that are right by themselves and wrong together, or with the stage.
    #[error("{place}: `{key}`: {reason}")]
    Conflict {
        /// Where the key stands.
        place: Place,
        /// The key that has to go or change.
        key: String,
        /// Why, and what to do.
        reason: String,
    },
    /// A key that the stage cannot do without.
    #[error("{}: `{key}` is missing: {reason}", path.display())]
    Missing {
        /// The recipe.
        path: PathBuf,
        /// The key.
        key: String,
        /// What it is needed for, and how to give it.
        reason: String,
    },
    /// The keys could not be read as a recipe: a defect of this program.
    #[error("the keys do not compose: {0}")]
    Compose(String),
}

fn hint(closest: &Option<String>) -> String {
    match closest {
        Some(name) => format!(": did you mean `{name}`?"),
        None => String::new(),
    }
}

/// Of `known`, the name nearest to `wrong`, unless more than half of it would have to change.
pub(super) fn closest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(wrong, name), name))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, name)| *distance * 2 <= name.len().max(wrong.len()))
        .map(|(_, name)| name.to_owned())
}
