//! The `[http]` section.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

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
    /// The certificate to answer with over TLS, with those that it needs behind it, as PEM; with `tls_key`.
    #[schemars(example = "server.pem")]
    pub tls_cert: Option<PathBuf>,
    /// The key of the certificate, as PEM; only its owner may be able to read it.
    #[schemars(example = "server.key")]
    pub tls_key: Option<PathBuf>,
    /// A file of more keys, each with a name, scopes and limits of its own; see `docs/api.md`.
    #[schemars(example = "keys.toml")]
    pub keys_file: Option<PathBuf>,
    /// Requests that one key may send a minute; 0 = no limit. Without keys, all callers together.
    pub requests_per_minute: u64,
    /// Tokens of prompts and answers that one key may use a minute; 0 = no limit.
    pub tokens_per_minute: u64,
    /// For how long unused requests and tokens add up; then they may be used at once.
    #[serde(deserialize_with = "units::some_time")]
    pub rate_burst: Duration,
    /// Requests of one key that are answered at a time; 0 = no limit.
    pub concurrent_requests: usize,
    /// Names that requests may call the server by in their `Host`, on an address that other machines can reach; none = any. On a
    /// loopback address the names are those of this machine.
    pub allowed_hosts: Vec<String>,
    /// Origins whose web pages may call the server.
    pub cors_origins: Vec<String>,
    /// What becomes of a request with a field that nobody knows.
    pub unknown_fields: UnknownFields,
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
            tls_cert: None,
            tls_key: None,
            keys_file: None,
            requests_per_minute: 0,
            tokens_per_minute: 0,
            rate_burst: Duration::seconds(60),
            concurrent_requests: 0,
            allowed_hosts: Vec::new(),
            cors_origins: Vec::new(),
            unknown_fields: UnknownFields::Pass,
            workers: 2,
        }
    }
}

/// What becomes of a request with a field that nobody knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum UnknownFields {
    /// It is answered, and the field is logged at level debug: clients send what newer servers know.
    Pass,
    /// It is refused, which shows a misspelt field at once.
    Refuse,
}
