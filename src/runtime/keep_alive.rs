//! How long an idle model stays as it is.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How long, as Ollama's `keep_alive` says it: seconds (`300`), a length of time (`"5m"`), 0 for not at all, and
/// anything negative (`-1`, `"-1m"`) or `"forever"` for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepAlive {
    /// No matter how long it is idle.
    Forever,
    /// Until it was idle this long.
    For(Duration),
}

/// Why a text says no such time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no time to keep a model: write seconds (300), a length of time (5m), 0 for not at all, or -1 for ever"
)]
pub struct BadKeepAlive(String);

impl KeepAlive {
    /// Whether it is over after `idle`.
    pub fn is_over(self, idle: Duration) -> bool {
        match self {
            KeepAlive::Forever => false,
            KeepAlive::For(limit) => idle >= limit,
        }
    }

    /// A number of seconds; `None` when it is none.
    pub fn seconds(seconds: f64) -> Option<Self> {
        if seconds < 0.0 {
            return Some(KeepAlive::Forever);
        }
        Duration::try_from_secs_f64(seconds)
            .ok()
            .map(KeepAlive::For)
    }
}

impl FromStr for KeepAlive {
    type Err = BadKeepAlive;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || BadKeepAlive(text.chars().take(64).collect());
        let trimmed = text.trim();
        if trimmed == "forever" {
            return Ok(KeepAlive::Forever);
        }
        if let Ok(seconds) = trimmed.parse::<f64>() {
            return KeepAlive::seconds(seconds).ok_or_else(bad);
        }
        let (negative, length) = match trimmed.strip_prefix('-') {
            Some(length) => (true, length),
            None => (false, trimmed),
        };
        match humantime::parse_duration(length) {
            Ok(_) if negative => Ok(KeepAlive::Forever),
            Ok(length) => Ok(KeepAlive::For(length)),
            Err(_) => Err(bad()),
        }
    }
}

impl fmt::Display for KeepAlive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeepAlive::Forever => f.write_str("forever"),
            KeepAlive::For(length) => humantime::format_duration(*length).fmt(f),
        }
    }
}

impl Serialize for KeepAlive {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for KeepAlive {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl Visitor<'_> for Reader {
    type Value = KeepAlive;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("seconds, a length of time, 0 or -1")
    }

    fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<KeepAlive, E> {
        self.visit_f64(seconds as f64)
    }

    fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<KeepAlive, E> {
        self.visit_f64(seconds as f64)
    }

    fn visit_f64<E: de::Error>(self, seconds: f64) -> Result<KeepAlive, E> {
        KeepAlive::seconds(seconds).ok_or_else(|| E::custom(BadKeepAlive(seconds.to_string())))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<KeepAlive, E> {
        text.parse().map_err(E::custom)
    }
}

impl JsonSchema for KeepAlive {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "KeepAlive".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "number"], "format": "duration" })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn it_is_read_as_ollama_reads_it() {
        let some = |seconds| KeepAlive::For(Duration::from_secs(seconds));
        for (json, expected) in [
            ("300", some(300)),
            ("0", some(0)),
            ("-1", KeepAlive::Forever),
            ("-0.5", KeepAlive::Forever),
            ("1.0", some(1)),
            ("\"5m\"", some(300)),
            ("\"1h 30m\"", some(5400)),
            ("\"0\"", some(0)),
            ("\"0s\"", some(0)),
            ("\"-1\"", KeepAlive::Forever),
            ("\"-1m\"", KeepAlive::Forever),
            ("\"forever\"", KeepAlive::Forever),
        ] {
            let read: KeepAlive = serde_json::from_str(json).unwrap();
            assert_eq!(read, expected, "{json}");
            assert_eq!(read.to_string().parse(), Ok(read), "{json}");
        }
        for bad in ["\"\"", "\"soon\"", "true", "1e300", "\"NaN\"", "[]"] {
            assert!(serde_json::from_str::<KeepAlive>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn nothing_is_kept_for_no_time_and_all_for_ever() {
        let second = Duration::from_secs(1);
        assert!(KeepAlive::For(Duration::ZERO).is_over(Duration::ZERO));
        assert!(KeepAlive::For(second).is_over(second));
        assert!(!KeepAlive::For(second).is_over(second / 2));
        assert!(!KeepAlive::Forever.is_over(Duration::MAX));
    }
}
