//! What runs are called.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The most bytes of the name of a recipe.
const MOST: usize = 48;

/// A run: the name of its recipe and a number, as in `shakespeare-3`. It is also the name of the run's folder.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RunId(String);

/// Why a text names no run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no run: a run is named by letters, digits, - and _, as in shakespeare-1")]
pub struct BadRunId(String);

impl RunId {
    /// The run `number` of a recipe called `name`.
    pub(super) fn numbered(name: &str, number: u64) -> RunId {
        RunId(format!("{name}-{number}"))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether runs can be called `name`: 1 to 48 letters, digits, - and _.
pub fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    (1..=MOST).contains(&name.len()) && name.chars().all(allowed)
}

impl FromStr for RunId {
    type Err = BadRunId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // A number of up to 20 digits and its dash follow the name.
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        match (1..=MOST + 21).contains(&text.len()) && text.chars().all(allowed) {
            true => Ok(RunId(text.to_owned())),
            false => Err(BadRunId(text.to_owned())),
        }
    }
}

impl TryFrom<String> for RunId {
    type Error = BadRunId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<RunId> for String {
    fn from(id: RunId) -> String {
        id.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
