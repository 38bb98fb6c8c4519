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

use super::ClassesFile;
use super::policy::Hybrid;
use crate::units::{self, ByteSize};

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
    /// Of the budget, how many of the newest tokens are always kept; absent = half of it, or the policy's own share.
    #[schemars(example = 1024)]
    pub recent: Option<u32>,
    /// How many of the first tokens are always kept (<https://arxiv.org/abs/2309.17453>).
    pub sinks: u32,
    /// How `h2o` scores a token.
    pub score: ScoreKind,
    /// What a step leaves of a decaying score, in `h2o` with `score = "decay"` and in `hybrid`.
    pub decay: f64,
    /// How many queries at the end of a prompt `snapkv`, `pyramid`, `adasnap` and `hybrid` observe.
    #[serde(deserialize_with = "units::at_least_one")]
    #[schemars(range(min = 1))]
    pub window: usize,
    /// Over how many neighbours those scores are max-pooled; odd.
    #[serde(deserialize_with = "units::at_least_one")]
    #[schemars(range(min = 1))]
    pub pool: usize,
    /// In `hybrid`, the weight of the newest attention against all there was.
    pub blend: f64,
    /// In `hybrid`, the power of a token's age that its summed attention is divided by: 0 the sum, 1 the mean.
    pub age: f64,
    /// In `hybrid`, the share of the budget for means of evicted tokens; see `docs/attention.md`.
    pub summaries: f64,
    /// Whether `hybrid` keeps the system prompt, up to a tenth of the budget.
    pub protect_system: bool,
    /// Weights of the KV heads, written by `llamahome calibrate`: the budget is spread in their proportion.
    #[schemars(example = "classes.json")]
    pub classes: Option<ClassesFile>,
    /// How keys and values are stored.
    pub dtype: KvDtype,
    /// Whether a prompt is read whole before anything is evicted, or in bounded memory.
    pub prefill: Reading,
    /// Whether a sequence may run past the model's context: its kept keys are then rotated anew.
    pub beyond_context: bool,
    /// What becomes of evicted tokens.
    pub spill: Spill,
    /// How many spilled tokens per KV head a new turn may recall; 0 = none.
    pub recall: u32,
    /// The most memory that all keys and values of the process take.
    pub total_bytes: ByteSize,
    /// The most memory of it for prompt prefixes that later requests may share; 0B = none are kept.
    pub prefix_bytes: ByteSize,
    /// The most memory for parked sessions; what is over it goes to disk.
    pub parked_bytes: ByteSize,
}

impl Default for Config {
    fn default() -> Self {
        let hybrid = Hybrid::default();
        Config {
            policy: PolicyKind::Hybrid,
            budget: Some(Budget::Tokens(2048)),
            heavy: None,
            recent: None,
            sinks: 4,
            score: ScoreKind::Sum,
            decay: 0.9995,
            window: hybrid.window,
            pool: hybrid.pool,
            blend: 0.5,
            age: 1.0,
            summaries: 0.0,
            protect_system: true,
            classes: None,
            dtype: KvDtype::Auto,
            prefill: Reading::Exact,
            beyond_context: false,
            spill: Spill::Off,
            recall: 0,
            total_bytes: ByteSize::gib(4),
            prefix_bytes: ByteSize::mib(256),
            parked_bytes: ByteSize::gib(1),
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
    /// Those that the last query attends to most (<https://arxiv.org/abs/2401.06104>).
    Tova,
    /// Those that the end of the prompt attends to, and all that is generated (<https://arxiv.org/abs/2404.14469>).
    Snapkv,
    /// Likewise, with more for the first layers (<https://arxiv.org/abs/2406.02069>).
    Pyramid,
    /// Likewise, with more for the heads that need it (<https://arxiv.org/abs/2407.11550>).
    Adasnap,
    /// Those whose keys differ most from the mean key (<https://arxiv.org/abs/2504.15364>).
    Keydiff,
    /// Those that queries to come are expected to attend to (<https://arxiv.org/abs/2510.00636>).
    Expected,
    /// All are kept, and each step reads the pages that promise most (<https://arxiv.org/abs/2406.10774>).
    Quest,
    /// What the prompt's end and the whole of it attended to; sinks, the system prompt and the newest protected.
    Hybrid,
}

impl PolicyKind {
    /// All of them, in the order of the documentation.
    pub const ALL: [PolicyKind; 12] = [
        PolicyKind::Full,
        PolicyKind::Window,
        PolicyKind::Streaming,
        PolicyKind::H2o,
        PolicyKind::Tova,
        PolicyKind::Snapkv,
        PolicyKind::Pyramid,
        PolicyKind::Adasnap,
        PolicyKind::Keydiff,
        PolicyKind::Expected,
        PolicyKind::Quest,
        PolicyKind::Hybrid,
    ];

    /// The name in configuration, flags and answers.
    pub fn name(self) -> &'static str {
        match self {
            PolicyKind::Full => "full",
            PolicyKind::Window => "window",
            PolicyKind::Streaming => "streaming",
            PolicyKind::H2o => "h2o",
            PolicyKind::Tova => "tova",
            PolicyKind::Snapkv => "snapkv",
            PolicyKind::Pyramid => "pyramid",
            PolicyKind::Adasnap => "adasnap",
            PolicyKind::Keydiff => "keydiff",
            PolicyKind::Expected => "expected",
            PolicyKind::Quest => "quest",
            PolicyKind::Hybrid => "hybrid",
        }
    }
}

impl fmt::Display for PolicyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a text names no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no kv policy: full, window, streaming, h2o, tova, snapkv, pyramid, adasnap, keydiff, expected, quest or hybrid"
)]
pub struct BadPolicyName(String);

impl FromStr for PolicyKind {
    type Err = BadPolicyName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        PolicyKind::ALL
            .into_iter()
            .find(|kind| kind.name() == text.trim())
            .ok_or_else(|| BadPolicyName(text.to_owned()))
    }
}

/// How heavy hitters are scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum ScoreKind {
    /// By all attention received, as published.
    Sum,
    /// By that over the number of queries that could attend.
    Mean,
    /// By a sum that forgets.
    Decay,
}

/// How keys and values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum KvDtype {
    /// 4 bytes a value with `model.dtype = "float32"`, else 2.
    Auto,
    /// 4 bytes a value.
    Float32,
    /// 2 bytes a value.
    Bfloat16,
    /// 1 byte a value, with a scale a token and head; sinks and the newest in bfloat16. On a CPU only.
    Int8,
}

/// How a prompt is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Reading {
    /// Whole before anything is evicted: scores do not depend on the chunk size.
    Exact,
    /// With an eviction after every chunk: a prompt of any length in budget and one chunk.
    Streaming,
}

/// What becomes of evicted tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Spill {
    /// They are gone.
    Off,
    /// They are kept in memory, outside of the budget.
    Memory,
    /// They are kept in a file of the home folder.
    Disk,
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
