//! Replicas in other processes, as the settings name them.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::ids::ModelId;

/// One entry of `runtime.remotes`: a model here, and a daemon that serves it: `"NAME URL key=value ..."`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteRule {
    /// The model as clients name it here.
    pub model: ModelId,
    /// The base of its API, with the version: `http://10.0.0.2:8085/v1`.
    pub url: String,
    /// What it is called there, when that is another name.
    pub theirs: Option<String>,
    /// Where its key is.
    pub key: Option<KeyPlace>,
    /// How much it takes in beside others.
    pub weight: u32,
}

/// Where a key is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyPlace {
    /// In an environment variable.
    Variable(String),
    /// In a file, which holds nothing else.
    File(PathBuf),
}

/// The most weight of a replica.
const MOST_WEIGHT: u32 = 1000;

/// Why an entry of `runtime.remotes` cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{entry:?} cannot be read: {reason}; write \"NAME http://HOST:PORT/v1 model=THEIRS key_env=VARIABLE \
     key_file=PATH weight=1\", with what is needed"
)]
pub struct BadRemote {
    entry: String,
    reason: String,
}

impl FromStr for RemoteRule {
    type Err = BadRemote;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = |reason: String| BadRemote {
            entry: text.to_owned(),
            reason,
        };
        let mut words = text.split_whitespace();
        let (Some(name), Some(url)) = (words.next(), words.next()) else {
            return Err(bad("it needs a name and a url".to_owned()));
        };
        let mut rule = RemoteRule {
            model: name
                .parse()
                .map_err(|_| bad(format!("{name:?} is no name of a model")))?,
            url: base(url).map_err(bad)?,
            theirs: None,
            key: None,
            weight: 1,
        };
        for word in words {
            let (key, value) = word
                .split_once('=')
                .filter(|(_, value)| !value.is_empty())
                .ok_or_else(|| bad(format!("{word:?} is no key=value")))?;
            match key {
                "model" => rule.theirs = Some(value.to_owned()),
                "key_env" => rule.key = Some(KeyPlace::Variable(value.to_owned())),
                "key_file" => rule.key = Some(KeyPlace::File(PathBuf::from(value))),
                "weight" => {
                    let weight = value.parse().ok();
                    let weight = weight.filter(|weight| (1..=MOST_WEIGHT).contains(weight));
                    let reason = || bad(format!("weight is {value:?}, use 1 to {MOST_WEIGHT}"));
                    rule.weight = weight.ok_or_else(reason)?;
                }
                _ => return Err(bad(format!("there is no key {key:?}"))),
            }
        }
        Ok(rule)
    }
}

/// A base URL without the slash at its end.
fn base(url: &str) -> Result<String, String> {
    let host = url
        .strip_prefix("http://")
        .or_else(|| url.strip_prefix("https://"));
    let host = host.ok_or_else(|| format!("{url:?} begins with neither http:// nor https://"))?;
    let host = host.split('/').next().unwrap_or_default();
    if host.contains('@') {
        return Err("a url may hold no key: name one with key_env or key_file".to_owned());
    }
    if host.is_empty() || url.contains(['?', '#']) {
        return Err(format!("{url:?} is no base of an api"));
    }
    Ok(url.trim_end_matches('/').to_owned())
}

impl fmt::Display for RemoteRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.model, self.url)?;
        if let Some(theirs) = &self.theirs {
            write!(f, " model={theirs}")?;
        }
        match &self.key {
            Some(KeyPlace::Variable(name)) => write!(f, " key_env={name}")?,
            Some(KeyPlace::File(path)) => write!(f, " key_file={}", path.display())?,
            None => {}
        }
        match self.weight {
            1 => Ok(()),
            weight => write!(f, " weight={weight}"),
        }
    }
}

impl Serialize for RemoteRule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RemoteRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for RemoteRule {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "RemoteRule".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn an_entry_reads_back_and_shows_no_key() {
        let text = "big https://gpu.example/v1/ model=llama key_env=GPU_KEY weight=4";
        let rule: RemoteRule = text.parse().unwrap();
        assert_eq!(rule.url, "https://gpu.example/v1");
        assert_eq!(rule.key, Some(KeyPlace::Variable("GPU_KEY".to_owned())));
        assert_eq!(rule.to_string().parse(), Ok(rule));
        let plain: RemoteRule = "big http://10.0.0.2:8085/v1".parse().unwrap();
        assert_eq!((plain.weight, plain.theirs, plain.key), (1, None, None));
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        for (text, part) in [
            ("", "needs a name and a url"),
            ("big", "needs a name and a url"),
            ("../x http://a/v1", "no name of a model"),
            ("big ftp://a", "neither http"),
            ("big http://", "no base of an api"),
            ("big http://a/v1?x=1", "no base of an api"),
            ("big http://user:secret@a/v1", "key_env or key_file"),
            ("big http://a/v1 weight=0", "use 1 to 1000"),
            ("big http://a/v1 key_env=", "no key=value"),
            ("big http://a/v1 colour=red", "no key \"colour\""),
        ] {
            let error = text.parse::<RemoteRule>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
