//! The `[runtime]` section.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::keep_alive::KeepAlive;
use super::remote::RemoteRule;
use super::router::RouterKind;
use super::rule::{self, ModelRule};
use crate::units::{self, ByteSize, Duration};

/// Which models are loaded, for how long, and how the process watches itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The model of a request that names none.
    pub default_model: String,
    /// Models that are loaded at the start.
    pub preload: Vec<String>,
    /// How long an idle model stays loaded when a request does not say: `5m`; `0` = unload it at once, `-1` or `forever` = keep it.
    pub keep_alive: KeepAlive,
    /// After how long an idle model is put to sleep: its weights are dropped and its sessions kept; `forever` = never.
    pub sleep_after: KeepAlive,
    /// The most memory that the weights of loaded models take; absent = no limit but the machine's.
    #[schemars(example = "8GiB")]
    pub memory: Option<ByteSize>,
    /// Engines of a loaded model: each has a queue, a batch and a prefix cache of its own, over one set of weights.
    #[serde(deserialize_with = "rule::some_replicas")]
    #[schemars(range(min = 1))]
    pub replicas: usize,
    /// How the replica of a request is chosen; a session that goes on always goes to the one that holds it.
    pub router: RouterKind,
    /// What is different for single models: `NAME replicas=2 keep_alive=5m sleep_after=1m router=prefix`.
    pub models: Vec<ModelRule>,
    /// Replicas in other processes: `NAME http://HOST:PORT/v1 model=THEIRS key_env=VARIABLE key_file=PATH weight=1`.
    pub remotes: Vec<RemoteRule>,
    /// How often replicas in other processes are asked whether they answer.
    #[serde(deserialize_with = "units::some_time")]
    pub remote_interval: Duration,
    /// How long running answers may take to finish when the process stops.
    pub drain_timeout: Duration,
    /// How often CPU, memory, disk and GPU are sampled.
    #[serde(deserialize_with = "units::some_time")]
    pub monitor_interval: Duration,
    /// How long one step may take before its worker counts as stalled.
    #[serde(deserialize_with = "units::some_time")]
    pub stall_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            default_model: "smollm2".to_owned(),
            preload: Vec::new(),
            keep_alive: KeepAlive::Forever,
            sleep_after: KeepAlive::Forever,
            memory: None,
            replicas: 1,
            router: RouterKind::default(),
            models: Vec::new(),
            remotes: Vec::new(),
            remote_interval: Duration::seconds(5),
            drain_timeout: Duration::seconds(30),
            monitor_interval: Duration::seconds(5),
            stall_timeout: Duration::seconds(60),
        }
    }
}
