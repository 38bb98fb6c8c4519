//! Names of things: what a model, a sequence, a request and a token are called everywhere.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An index into a model's vocabulary.
pub type TokenId = u32;

/// One sequence of an engine: a prompt and what was generated after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct SeqId(pub u64);

impl fmt::Display for SeqId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seq-{}", self.0)
    }
}

/// A conversation whose cache outlives a request. One that belongs to a key has the key's name before its own, with a dot
/// between.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct SessionId(String);

/// Why a text names no session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a session is named by 1 to 64 letters, digits, - and _")]
pub struct BadSessionId;

impl SessionId {
    /// A fresh name, unique on this machine for practical purposes (64 random bits).
    pub fn random() -> Self {
        SessionId(format!("chat-{:016x}", rand::random::<u64>()))
    }

    /// The name, that of its key before it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The key that it belongs to, and its name among those of the key.
    pub fn parts(&self) -> (Option<&str>, &str) {
        match self.0.split_once('.') {
            Some((key, name)) => (Some(key), name),
            None => (None, &self.0),
        }
    }

    /// The session of this name that belongs to `key`. One that belongs to a key already stays that key's.
    #[must_use]
    pub fn of_key(&self, key: Option<&str>) -> Self {
        match (self.parts().0, key) {
            (None, Some(key)) => SessionId(format!("{key}.{}", self.0)),
            _ => self.clone(),
        }
    }
}

impl FromStr for SessionId {
    type Err = BadSessionId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        let plain = |part: &str| (1..=64).contains(&part.len()) && part.chars().all(allowed);
        let good = match text.split_once('.') {
            Some((key, name)) => plain(key) && plain(name),
            None => plain(text),
        };
        match good {
            true => Ok(SessionId(text.to_owned())),
            false => Err(BadSessionId),
        }
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One request of a client, as it appears in answers, logs and the audit record.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct RequestId(String);

impl RequestId {
    /// A fresh id, unique on this machine for practical purposes (64 random bits).
    pub fn random() -> Self {
        RequestId(format!("{:016x}", rand::random::<u64>()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a text is not a request id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a request id is 1 to 64 letters, digits, - and _")]
pub struct BadRequestId;

impl FromStr for RequestId {
    type Err = BadRequestId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if (1..=64).contains(&text.len()) && text.chars().all(allowed) {
            Ok(RequestId(text.to_owned()))
        } else {
            Err(BadRequestId)
        }
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a model on disk: letters, digits and `. _ - :`, so it can never leave the models folder.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ModelId(String);

/// Why a text is not a model name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "model name {0:?} is not valid: use 1 to 96 letters, digits and . _ - :, starting with a letter or digit"
)]
pub struct BadModelId(String);

impl ModelId {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ModelId {
    type Err = BadModelId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let starts_well = text
            .chars()
            .next()
            .is_some_and(|c| c.is_ascii_alphanumeric());
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | ':');
        if text.len() <= 96 && starts_well && text.chars().all(allowed) && !text.contains("..") {
            Ok(ModelId(text.to_owned()))
        } else {
            Err(BadModelId(text.chars().take(120).collect()))
        }
    }
}

impl TryFrom<String> for ModelId {
    type Error = BadModelId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ModelId> for String {
    fn from(id: ModelId) -> String {
        id.0
    }
}

impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_hold_nothing_that_a_log_could_trip_over() {
        for good in ["a", "A-z_9", &"x".repeat(64)] {
            assert_eq!(good.parse::<RequestId>().unwrap().as_str(), good);
        }
        for bad in ["", "a b", "a\nb", "é", "a;b", &"x".repeat(65)] {
            assert!(bad.parse::<RequestId>().is_err(), "{bad:?} must be refused");
        }
    }

    #[test]
    fn model_names_stay_inside_the_models_folder() {
        for good in ["smollm2", "llama-3.3-7b", "a", "Qwen2.5:0.5b"] {
            assert_eq!(good.parse::<ModelId>().unwrap().as_str(), good);
        }
        for bad in [
            "",
            ".",
            "..",
            "a/b",
            "a..b",
            "-x",
            "a b",
            "é",
            "a\0b",
            &"x".repeat(97),
        ] {
            assert!(bad.parse::<ModelId>().is_err(), "{bad:?} must be refused");
        }
    }
}
