//! llamahome: an actor runtime for Llama-family models whose KV cache is bounded by heavy-hitter eviction.
//!
//! The folders are the architecture, and imports run one way, lower to higher:
//!
//! | module | what it is about |
//! |---|---|
//! | [`ids`], [`units`] | names of things, sizes and durations |
//! | [`tls`] | the cryptography of outgoing connections |
//! | [`telemetry`] | logs, metrics, the audit record |
//! | [`text`] | text to ids and back, chat templates |
//! | [`sample`] | logits to a token, stop strings |
//! | [`kv`] | what a KV head keeps, and what it costs |
//! | [`store`] | models on disk: pull, verify, read |
//! | [`history`] | what was asked and answered here |
//! | [`eval`], [`load`] | what a model's answers are worth, and what a server bears |
//! | [`data`] | training data: records, ids with masks, rows, batches |
//! | [`sched`] | who runs in the next step |
//! | [`llama`] | the model on tch |
//! | [`train`] | recipes, runs, the model with gradients, optimizers, checkpoints |
//! | [`runtime`] | the actors |
//! | [`http`] | the APIs |
//! | [`config`] | settings and where each came from |
//! | [`cli`] | the commands |
//!
//! A reading order: [`sched`]'s `plan.rs`, then `scheduler.rs`, `llama/model.rs`, `runtime/engine.rs`, `http/chat.rs`.

pub mod ids;
pub mod tls;
pub mod units;

pub mod kernels;

pub mod telemetry;

pub mod text;

pub mod eval;
pub mod history;
pub mod kv;
pub mod sample;
pub mod store;

pub mod data;

pub mod load;
pub mod sched;

pub mod llama;

pub mod train;

pub mod runtime;

pub mod http;

pub mod config;

pub mod cli;
