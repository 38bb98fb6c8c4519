//! What the settings say of one model.

use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::keep_alive::KeepAlive;
use super::router::RouterKind;
use super::settings::Config;
use crate::ids::ModelId;

/// The most replicas that a model may have in one process.
pub const MOST_REPLICAS: usize = 64;

/// One entry of `runtime.models`: a name and what is different for it, `"NAME key=value ..."`.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelRule {
    /// Whom it is about.
    pub model: ModelId,
    /// In place of `runtime.replicas`.
    pub replicas: Option<usize>,
    /// In place of `runtime.keep_alive`.
    pub keep_alive: Option<KeepAlive>,
    /// In place of `runtime.sleep_after`.
    pub sleep_after: Option<KeepAlive>,
    /// In place of `runtime.router`.
    pub router: Option<RouterKind>,
}

/// How one model is kept, all told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Keeping {
    /// How many engines it has.
    pub replicas: usize,
    /// When it is unloaded.
    pub keep_alive: KeepAlive,
    /// When it is put to sleep.
    pub sleep_after: KeepAlive,
    /// How a request's replica is chosen.
    pub router: RouterKind,
}

/// Why an entry of `runtime.models` cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{entry:?} cannot be read: {reason}; write \"NAME replicas=2 keep_alive=5m sleep_after=1m router=prefix\", \
     with what is different for the model"
)]
pub struct BadRule {
    entry: String,
    reason: String,
}

impl Config {
    /// How `model` is kept.
    pub fn keeping(&self, model: &ModelId) -> Keeping {
        let rule = self.models.iter().rev().find(|rule| rule.model == *model);
        Keeping {
            replicas: rule
                .and_then(|rule| rule.replicas)
                .unwrap_or(self.replicas)
                .clamp(1, MOST_REPLICAS),
            keep_alive: rule
                .and_then(|rule| rule.keep_alive)
                .unwrap_or(self.keep_alive),
            sleep_after: rule
                .and_then(|rule| rule.sleep_after)
                .unwrap_or(self.sleep_after),
            router: rule.and_then(|rule| rule.router).unwrap_or(self.router),
        }
    }
}

impl FromStr for ModelRule {
    type Err = BadRule;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = |reason: String| BadRule {
            entry: text.to_owned(),
            reason,
        };
        let mut words = text.split_whitespace();
        let name = words
            .next()
            .ok_or_else(|| bad("it names no model".to_owned()))?;
        let mut rule = ModelRule {
            model: name
                .parse()
                .map_err(|_| bad(format!("{name:?} is no name of a model")))?,
            replicas: None,
            keep_alive: None,
            sleep_after: None,
            router: None,
        };
        for word in words {
            let (key, value) = word
                .split_once('=')
                .ok_or_else(|| bad(format!("{word:?} is no key=value")))?;
            let time = || value.parse::<KeepAlive>().map_err(|e| bad(e.to_string()));
            match key {
                "replicas" => rule.replicas = Some(replicas(value).map_err(bad)?),
                "keep_alive" => rule.keep_alive = Some(time()?),
                "sleep_after" => rule.sleep_after = Some(time()?),
                "router" => rule.router = Some(router(value).map_err(bad)?),
                _ => return Err(bad(format!("there is no key {key:?}"))),
            }
        }
        Ok(rule)
    }
}

fn replicas(text: &str) -> Result<usize, String> {
    let count = text
        .parse()
        .ok()
        .filter(|count| (1..=MOST_REPLICAS).contains(count));
    count.ok_or_else(|| format!("replicas is {text:?}, use 1 to {MOST_REPLICAS}"))
}

fn router(text: &str) -> Result<RouterKind, String> {
    let text = serde_json::Value::from(text);
    serde_json::from_value(text).map_err(|error| format!("router: {error}"))
}

impl fmt::Display for ModelRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.model)?;
        if let Some(replicas) = self.replicas {
            write!(f, " replicas={replicas}")?;
        }
        if let Some(time) = self.keep_alive {
            write!(f, " keep_alive={}", compact(time))?;
        }
        if let Some(time) = self.sleep_after {
            write!(f, " sleep_after={}", compact(time))?;
        }
        if let Some(router) = self.router {
            write!(f, " router={}", router.name())?;
        }
        Ok(())
    }
}

/// A time as one word.
fn compact(time: KeepAlive) -> String {
    time.to_string().replace(' ', "")
}

impl Serialize for ModelRule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ModelRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for ModelRule {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ModelRule".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

/// Reads a number of replicas (for `#[serde(deserialize_with)]`).
pub(super) fn some_replicas<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let count = usize::deserialize(deserializer)?;
    replicas(&count.to_string()).map_err(de::Error::custom)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use std::time::Duration;

    #[test]
    fn an_entry_says_what_is_different_and_the_last_one_of_a_name_counts() {
        let text = "small replicas=2 keep_alive=-1 sleep_after=1m router=least_load";
        let rule: ModelRule = text.parse().unwrap();
        assert_eq!(rule.to_string().parse(), Ok(rule.clone()));
        let config = Config {
            models: vec!["small replicas=5".parse().unwrap(), rule],
            ..Config::default()
        };
        let small = config.keeping(&"small".parse().unwrap());
        assert_eq!(small.replicas, 2);
        assert_eq!(small.keep_alive, KeepAlive::Forever);
        assert_eq!(small.sleep_after, KeepAlive::For(Duration::from_secs(60)));
        assert_eq!(small.router, RouterKind::LeastLoad);
        let other = config.keeping(&"other".parse().unwrap());
        assert_eq!((other.replicas, other.router), (1, RouterKind::Prefix));
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        for (text, part) in [
            ("", "names no model"),
            ("../a replicas=2", "no name of a model"),
            ("a replicas", "no key=value"),
            ("a replicas=0", "use 1 to 64"),
            ("a replicas=65", "use 1 to 64"),
            ("a keep_alive=soon", "no time to keep"),
            ("a router=best", "router"),
            ("a colour=red", "no key \"colour\""),
        ] {
            let error = text.parse::<ModelRule>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
