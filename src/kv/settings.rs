//! The `[kv]` section.
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
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::units::ByteSize;

/// What is kept of the keys and values of a sequence, and how much of them in all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Which tokens are kept once a sequence is over its budget.
    pub policy: PolicyKind,
    /// What one sequence may keep: tokens per KV head (2048), a share of the context ("25%") or bytes over all layers and heads ("64MiB").
    pub budget: Option<Budget>,
    /// Of the budget, how many tokens are chosen by the attention they received; absent = what `recent` and `sinks` leave.
    #[schemars(example = 1024)]
    pub heavy: Option<u32>,
    /// Of the budget, how many of the newest tokens are always kept; absent = half of it.
    #[schemars(example = 1024)]
    pub recent: Option<u32>,
    /// How many of the first tokens are always kept (<https://arxiv.org/abs/2309.17453>).
    pub sinks: u32,
    /// The most memory that all keys and values of the process take.
    pub total_bytes: ByteSize,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            policy: PolicyKind::H2o,
            budget: Some(Budget::Tokens(2048)),
            heavy: None,
            recent: None,
            sinks: 4,
            total_bytes: ByteSize::gib(4),
        }
    }
}

/// Which tokens are kept once a sequence is over its budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum PolicyKind {
    /// All of them: nothing is evicted.
    Full,
    /// The newest.
    Window,
    /// The first few and the newest (<https://arxiv.org/abs/2309.17453>).
    Streaming,
    /// The newest and those that received most attention (<https://arxiv.org/abs/2306.14048>).
    H2o,
}

/// How much of one sequence is kept.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Budget {
    /// Tokens per KV head, 1 or more.
    Tokens(u32),
    /// A share of the model's context, above 0 and at most 1.
    Share(f32),
    /// Bytes of the whole sequence, over all layers and heads.
    Bytes(ByteSize),
}

/// Why a text is not a budget.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a budget: write tokens (2048), a share (\"25%\") or a size (\"64MiB\")")]
pub struct BadBudget(String);

impl FromStr for Budget {
    type Err = BadBudget;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || BadBudget(text.to_owned());
        let trimmed = text.trim();
        if let Some(percent) = trimmed.strip_suffix('%') {
            let percent: f32 = percent.trim().parse().map_err(|_| bad())?;
            let allowed = percent > 0.0 && percent <= 100.0;
            return allowed
                .then_some(Budget::Share(percent / 100.0))
                .ok_or_else(bad);
        }
        if trimmed.bytes().all(|b| b.is_ascii_digit()) {
            let tokens: u32 = trimmed.parse().map_err(|_| bad())?;
            return (tokens > 0)
                .then_some(Budget::Tokens(tokens))
                .ok_or_else(bad);
        }
        match trimmed.parse::<ByteSize>() {
            Ok(size) if size.bytes() > 0 => Ok(Budget::Bytes(size)),
            _ => Err(bad()),
        }
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Budget::Tokens(tokens) => write!(f, "{tokens}"),
            Budget::Share(share) => write!(f, "{}%", share * 100.0),
            Budget::Bytes(size) => write!(f, "{size}"),
        }
    }
}

impl Serialize for Budget {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Budget::Tokens(tokens) => serializer.serialize_u32(*tokens),
            other => serializer.collect_str(other),
        }
    }
}

impl<'de> Deserialize<'de> for Budget {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Amount;
        impl Visitor<'_> for Amount {
            type Value = Budget;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("tokens (2048), a share (\"25%\") or a size (\"64MiB\")")
            }

            fn visit_u64<E: de::Error>(self, tokens: u64) -> Result<Budget, E> {
                tokens.to_string().parse().map_err(E::custom)
            }

            fn visit_i64<E: de::Error>(self, tokens: i64) -> Result<Budget, E> {
                tokens.to_string().parse().map_err(E::custom)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Budget, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Amount)
    }
}

impl JsonSchema for Budget {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Budget".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["integer", "string"], "format": "budget" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_read_in_three_units() {
        for (text, budget) in [
            ("2048", Budget::Tokens(2048)),
            ("\"2048\"", Budget::Tokens(2048)),
            ("\"25%\"", Budget::Share(0.25)),
            ("\"64MiB\"", Budget::Bytes(ByteSize::mib(64))),
        ] {
            let read: Budget = serde_json::from_str(text).unwrap();
            assert_eq!(read, budget, "{text}");
            let written = serde_json::to_string(&read).unwrap();
            assert_eq!(
                serde_json::from_str::<Budget>(&written).unwrap(),
                budget,
                "{written}"
            );
        }
        for bad in [
            "0",
            "-1",
            "\"0%\"",
            "\"101%\"",
            "\"NaN%\"",
            "\"\"",
            "\"0B\"",
            "\"much\"",
            "4294967296",
        ] {
            assert!(
                serde_json::from_str::<Budget>(bad).is_err(),
                "{bad} must be refused"
            );
        }
    }
}
