//! Quantities as people write them in a configuration: `4GiB`, `30s`, and a text that is never shown.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};

/// Why a text is not the quantity that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadUnit {
    /// Not a number of bytes.
    #[error("{0:?} is not a size: write a number and a unit, such as 64MiB or 4GiB")]
    Size(String),
    /// Not a length of time.
    #[error("{0:?} is not a length of time: write a number and a unit, such as 500ms, 30s or 5m")]
    Duration(String),
}

/// A number of bytes; written `64MiB`, `4GiB` (powers of 1024), `1GB` (powers of 1000) or as an integer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// `n` times 2^20 bytes.
    pub const fn mib(n: u64) -> Self {
        ByteSize(n << 20)
    }

    /// `n` times 2^30 bytes.
    pub const fn gib(n: u64) -> Self {
        ByteSize(n << 30)
    }

    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for ByteSize {
    type Err = BadUnit;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim().parse::<bytesize::ByteSize>() {
            Ok(size) => Ok(ByteSize(size.as_u64())),
            Err(_) => Err(BadUnit::Size(text.to_owned())),
        }
    }
}

impl fmt::Display for ByteSize {
    /// The largest unit that divides the size, so that the text always reads back as the same number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
            if self.0 > 0 && self.0.trailing_zeros() >= shift {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        write!(f, "{}B", self.0)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Size;
        impl Visitor<'_> for Size {
            type Value = ByteSize;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as \"64MiB\", or a number of bytes")
            }

            fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<ByteSize, E> {
                Ok(ByteSize(bytes))
            }

            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<ByteSize, E> {
                match u64::try_from(bytes) {
                    Ok(bytes) => Ok(ByteSize(bytes)),
                    Err(_) => Err(E::invalid_value(de::Unexpected::Signed(bytes), &self)),
                }
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ByteSize, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Size)
    }
}

impl JsonSchema for ByteSize {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "ByteSize".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["integer", "string"], "format": "size" })
    }
}

/// A length of time; written with its unit: `500ms`, `30s`, `5m`, `1h 30m`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(pub std::time::Duration);

impl Duration {
    /// `n` seconds.
    pub const fn seconds(n: u64) -> Self {
        Duration(std::time::Duration::from_secs(n))
    }

    /// The same length as the standard library's type.
    pub const fn get(self) -> std::time::Duration {
        self.0
    }

    /// Whether the length is nothing, which several keys read as "no limit".
    pub const fn is_zero(self) -> bool {
        self.0.is_zero()
    }
}

impl From<Duration> for std::time::Duration {
    fn from(length: Duration) -> Self {
        length.0
    }
}

impl FromStr for Duration {
    type Err = BadUnit;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match humantime::parse_duration(text.trim()) {
            Ok(length) => Ok(Duration(length)),
            Err(_) => Err(BadUnit::Duration(text.to_owned())),
        }
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer).map_err(|_| {
            de::Error::custom(
                "a length of time needs its unit: write it in quotes, such as \"30s\"",
            )
        })?;
        text.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Duration {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "duration" })
    }
}

/// A text that no log, error or listing shows; it must not be empty.
#[derive(Clone)]
pub struct Secret(String);

/// What stands in the place of a secret wherever one would be shown.
pub const REDACTED: &str = "<redacted>";

impl Secret {
    /// Keeps a text; `None` when it is empty, since an empty key would protect nothing.
    pub fn new(text: impl Into<String>) -> Option<Self> {
        let text = text.into();
        (!text.is_empty()).then_some(Secret(text))
    }

    /// The text itself. Compare it in constant time.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(REDACTED)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)
            .map_err(|_| de::Error::custom("a secret must be a text in quotes"))?;
        Secret::new(text).ok_or_else(|| de::Error::custom("a secret must not be empty"))
    }
}

impl JsonSchema for Secret {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "secret" })
    }
}

/// Reads an integer that must not be 0 (for `#[serde(deserialize_with)]`).
pub fn at_least_one<'de, D, N>(deserializer: D) -> Result<N, D::Error>
where
    D: Deserializer<'de>,
    N: Deserialize<'de> + PartialEq + From<u8>,
{
    let number = N::deserialize(deserializer)?;
    if number == N::from(0) {
        return Err(de::Error::custom("0 is not allowed: use 1 or more"));
    }
    Ok(number)
}

/// Reads an integer that may be absent and must not be 0 (for `#[serde(deserialize_with)]`).
pub fn at_least_one_if_any<'de, D, N>(deserializer: D) -> Result<Option<N>, D::Error>
where
    D: Deserializer<'de>,
    N: Deserialize<'de> + PartialEq + From<u8>,
{
    let number = Option::<N>::deserialize(deserializer)?;
    if number == Some(N::from(0)) {
        return Err(de::Error::custom("0 is not allowed: use 1 or more"));
    }
    Ok(number)
}

/// Reads a length of time that must not be 0 (for `#[serde(deserialize_with)]`).
pub fn some_time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let length = Duration::deserialize(deserializer)?;
    if length.is_zero() {
        return Err(de::Error::custom("0s is not allowed: use a longer time"));
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_read_with_and_without_a_unit() {
        for (text, bytes) in [
            ("64MiB", 64 << 20),
            ("4 GiB", 4 << 30),
            ("1GB", 1_000_000_000),
            ("12", 12),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
        for bad in ["", "GiB", "-1", "4 potatoes"] {
            assert!(bad.parse::<ByteSize>().is_err(), "{bad:?} must be refused");
        }
        assert_eq!(
            serde_json::from_str::<ByteSize>("4096")
                .unwrap()
                .to_string(),
            "4KiB"
        );
        assert!(serde_json::from_str::<ByteSize>("-4096").is_err());
    }

    #[test]
    fn durations_need_a_unit() {
        assert_eq!("30s".parse(), Ok(Duration::seconds(30)));
        assert_eq!("1h 30m".parse(), Ok(Duration::seconds(5400)));
        assert!("0s".parse::<Duration>().unwrap().is_zero());
        for bad in ["", "30", "soon", "-1s"] {
            assert!(bad.parse::<Duration>().is_err(), "{bad:?} must be refused");
        }
    }

    #[test]
    fn a_secret_shows_itself_only_when_exposed() {
        let secret: Secret = serde_json::from_str("\"hunter2\"").unwrap();
        let shown = format!(
            "{secret} {secret:?} {}",
            serde_json::to_string(&secret).unwrap()
        );
        assert!(!shown.contains("hunter2"), "{shown}");
        assert_eq!(secret.expose(), "hunter2");
        assert!(serde_json::from_str::<Secret>("\"\"").is_err());
        let wrong = serde_json::from_str::<Secret>("7716253").unwrap_err();
        assert!(!wrong.to_string().contains("7716253"), "{wrong}");
    }

    proptest! {
        #[test]
        fn what_is_displayed_reads_back(bytes in 0u64..(1 << 52), millis in 0u64..u64::from(u32::MAX)) {
            prop_assert_eq!(ByteSize(bytes).to_string().parse(), Ok(ByteSize(bytes)));
            let length = Duration(std::time::Duration::from_millis(millis));
            prop_assert_eq!(length.to_string().parse(), Ok(length));
        }
    }
}
