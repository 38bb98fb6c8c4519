//! The `[scheduler]` section.

use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize};

use crate::units::{self, Duration};

/// How many requests run and wait, who goes first, and how steps are filled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Sequences that one step computes together.
    #[serde(deserialize_with = "units::at_least_one")]
    #[schemars(range(min = 1))]
    pub max_batch: usize,
    /// Requests that wait at most; one more is answered "busy". Under `fair`, requests of one key wait in at most as many places as they leave free.
    #[serde(deserialize_with = "units::at_least_one")]
    #[schemars(range(min = 1))]
    pub max_queue: usize,
    /// Prompt tokens of all waiting requests at most; one request over it is answered "busy".
    #[serde(deserialize_with = "units::at_least_one")]
    #[schemars(range(min = 1))]
    pub max_queue_tokens: usize,
    /// The grid of prompts: no row crosses a multiple of so many tokens, shared blocks are as long, and a policy that reads in bounded memory evicts there.
    #[serde(deserialize_with = "units::at_least_one")]
    #[schemars(range(min = 1))]
    pub prefill_tokens: usize,
    /// Who goes first: by arrival, class, share of the keys, deadline, or slack to it.
    pub policy: PolicyKind,
    /// How many prompt tokens a step takes: a fixed number, what keeps the step within `target_step`, or the same shared equally by prompts.
    pub batcher: BatcherKind,
    /// Tokens of a step under the `fixed` batcher, running answers' included.
    #[serde(deserialize_with = "units::at_least_one")]
    #[schemars(range(min = 1))]
    pub step_tokens: usize,
    /// How long a step may take while answers run: the time between their tokens. Beside a prompt that can be put off in
    /// the middle, `dynamic` takes at most 1.7 times what the answers take alone, if that is less; more of a burst.
    #[serde(deserialize_with = "units::some_time")]
    pub target_step: Duration,
    /// The fewest prompt tokens that `dynamic` and `space_sharing` read in a step.
    #[serde(deserialize_with = "units::at_least_one")]
    #[schemars(range(min = 1))]
    pub min_chunk: usize,
    /// The most prompt tokens that they read in a step; also what they read while no answer runs.
    #[serde(deserialize_with = "units::at_least_one")]
    #[schemars(range(min = 1))]
    pub max_chunk: usize,
    /// Tokens of a block of KV memory, the unit that memory is accounted in.
    #[serde(deserialize_with = "units::at_least_one")]
    #[schemars(range(min = 1))]
    pub block_tokens: usize,
    /// Whether a request is let in with the memory of its worst case, or with what it takes now; then it may be paused later.
    pub admission: Admission,
    /// The share of the blocks that `optimistic` admission leaves free for those that run.
    #[serde(deserialize_with = "share")]
    pub watermark: f64,
    /// Under `fair`, what keys weigh, such as `alice=3`; a key that is not named weighs 1.
    pub key_weights: Vec<KeyWeight>,
    /// Under `priority`, the waiting that counts as much as one class: a request of any class comes to run.
    #[serde(deserialize_with = "units::some_time")]
    pub ageing: Duration,
    /// How long a request may wait before it is answered "busy"; `0s` = for ever.
    pub queue_timeout: Duration,
    /// How long after its submission a started request may be without a token; `0s` = for ever.
    pub first_token_timeout: Duration,
    /// How long a request may take in all; `0s` = for ever.
    pub total_timeout: Duration,
    /// Whether a step checks guesses of the next tokens beside the next one: `lookup` guesses what followed the same
    /// words before. Answers are the same: those that repeat their prompt come faster, others may come a little slower.
    pub speculate: Speculate,
    /// Guesses that one step checks for one sequence at most; how many it is depends on how often they come true.
    #[serde(deserialize_with = "units::at_least_one")]
    #[schemars(range(min = 1))]
    pub draft_tokens: usize,
}

/// Where guesses of the next tokens come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Speculate {
    /// There are none.
    Off,
    /// From the prompt and what was generated.
    Lookup,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            max_batch: 128,
            max_queue: 64,
            max_queue_tokens: 262_144,
            prefill_tokens: 512,
            policy: PolicyKind::Fcfs,
            batcher: BatcherKind::Dynamic,
            step_tokens: 640,
            target_step: Duration(std::time::Duration::from_millis(50)),
            min_chunk: 32,
            max_chunk: 2048,
            block_tokens: 16,
            admission: Admission::WorstCase,
            watermark: 0.05,
            key_weights: Vec::new(),
            ageing: Duration::seconds(30),
            queue_timeout: Duration::seconds(120),
            first_token_timeout: Duration::seconds(0),
            total_timeout: Duration::seconds(0),
            speculate: Speculate::Off,
            draft_tokens: 15,
        }
    }
}

/// Who goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PolicyKind {
    /// Who came first.
    Fcfs,
    /// The lowest class; waiting makes up for it.
    Priority,
    /// The key that was served least for its weight.
    Fair,
    /// Whose first token is due first.
    Deadline,
    /// Who has least time to spare until then.
    Slack,
}

/// How a step is filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BatcherKind {
    /// With a fixed number of tokens.
    Fixed,
    /// With what fits into a target time.
    Dynamic,
    /// Likewise, and prompts share it equally.
    SpaceSharing,
}

/// What a request is let in with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Admission {
    /// All that it can come to hold.
    WorstCase,
    /// What its prompt takes.
    Optimistic,
}

/// What a key weighs beside others; written `key=weight`.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyWeight {
    /// The key's name.
    pub key: String,
    /// Its weight, above 0.
    pub weight: f64,
}

/// A text that is no weight of a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no weight of a key: write key=weight, such as alice=3, with a weight above 0")]
pub struct BadKeyWeight(String);

impl FromStr for KeyWeight {
    type Err = BadKeyWeight;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || BadKeyWeight(text.chars().take(80).collect());
        let (key, weight) = text.rsplit_once('=').ok_or_else(bad)?;
        let weight: f64 = weight.trim().parse().map_err(|_| bad())?;
        if !weight.is_finite() || weight <= 0.0 {
            return Err(bad());
        }
        Ok(KeyWeight {
            key: key.trim().to_owned(),
            weight,
        })
    }
}

impl fmt::Display for KeyWeight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.key, self.weight)
    }
}

impl Serialize for KeyWeight {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for KeyWeight {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for KeyWeight {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "KeyWeight".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

/// Reads a share from 0 to below 1.
fn share<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let share = f64::deserialize(deserializer)?;
    if !(0.0..1.0).contains(&share) {
        return Err(de::Error::custom("use a share from 0 to below 1"));
    }
    Ok(share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_of_keys_are_read_and_written_alike() {
        let weight: KeyWeight = "a=b=2.5".parse().unwrap();
        assert_eq!((weight.key.as_str(), weight.weight), ("a=b", 2.5));
        assert_eq!(weight.to_string().parse(), Ok(weight));
        for bad in [
            "",
            "alice",
            "alice=",
            "alice=0",
            "alice=-1",
            "alice=inf",
            "alice=x",
        ] {
            assert!(bad.parse::<KeyWeight>().is_err(), "{bad:?} must be refused");
        }
    }

    #[test]
    fn v13_a_setting_out_of_its_range_is_refused() {
        for bad in [
            r#"{"watermark": 1.0}"#,
            r#"{"watermark": -0.1}"#,
            r#"{"block_tokens": 0}"#,
            r#"{"target_step": "0s"}"#,
            r#"{"ageing": "0s"}"#,
            r#"{"policy": "lottery"}"#,
            r#"{"batcher": "none"}"#,
            r#"{"key_weights": ["x"]}"#,
        ] {
            assert!(serde_json::from_str::<Config>(bad).is_err(), "{bad}");
        }
        let good =
            r#"{"policy": "fair", "key_weights": ["a=3"], "watermark": 0, "total_timeout": "0s"}"#;
        assert!(serde_json::from_str::<Config>(good).is_ok());
    }
}
