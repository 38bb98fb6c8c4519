//! The Llama family on tch: weights, one forward pass over a batch of rows, and the KV cache that follows the
//! decisions of [`crate::kv`]. With `train`, the only place that names tch.

mod attention;
mod bench;
mod block;
mod cache;
mod cold;
mod config;
mod device;
mod error;
pub mod eval;
mod forward;
mod head;
mod journal;
mod kv_rows;
mod linear;
mod machine;
mod memory;
mod model;
mod names;
mod node;
mod packed;
mod perplexity;
mod reading;
mod rope;
mod session;
mod settings;
mod state;
pub mod testing;
mod weights;

pub(crate) use names::Part;
pub(crate) use rope::Rope;
pub(crate) use weights::straight_rows;

pub use bench::{BenchLine, BenchSpec, bench};
pub use config::{ModelConfig, RopeScaling};
pub use device::{Compute, describe, set_threads};
pub use error::LlamaError;
pub use forward::LlamaForward;
pub use machine::{Cache, Limits, Machine, Products, Read};
pub use memory::KvMemory;
pub use model::Llama;
pub use perplexity::{Nll, PerplexityError, PerplexityOptions, StepTimes, perplexity};
pub use settings::{Config, Dtype};
