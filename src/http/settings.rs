//! The `[http]` section.

use std::net::{IpAddr, Ipv4Addr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::{self, ByteSize, Duration, Secret};

/// Where the server listens, and whom it answers.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The address to listen on; `127.0.0.1` answers this machine only, `0.0.0.0` everyone.
    pub host: IpAddr,
    /// The port to listen on; 0 takes a free one.
    pub port: u16,
    /// The largest request body.
    pub body_limit: ByteSize,
    /// How long one request may take from its first byte to its last.
    #[serde(deserialize_with = "units::some_time")]
    pub request_timeout: Duration,
    /// The key that clients must send as `Authorization: Bearer`; absent = none is asked for.
    pub api_key: Option<Secret>,
    /// Origins whose web pages may call the server.
    pub cors_origins: Vec<String>,
    /// Threads that read and write connections.
    #[serde(deserialize_with = "units::at_least_one")]
    #[schemars(range(min = 1))]
    pub workers: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 8085,
            body_limit: ByteSize::mib(4),
            request_timeout: Duration::seconds(600),
            api_key: None,
            cors_origins: Vec::new(),
            workers: 2,
        }
    }
}
