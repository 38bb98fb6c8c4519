//! Models on disk: where they live, how they get there, and how their bytes are read.
//!
//! Reading goes from the outside in: [`library`] finds a model by name, [`model`] opens it,
//! [`checkpoint`] gives its tensors whatever the format ([`gguf`], [`safetensors`]) and [`quant`]
//! turns their bytes into numbers. Fetching goes the other way: [`source`] says where a model comes
//! from, [`catalog`] knows the well-known ones by name, [`pull`] brings one home and leaves a
//! [`manifest`] beside it. Everything here is read from files that others wrote, so every number is
//! checked against the file's length before it is used, and a bad file is an error with the name of
//! the bad field, never a panic.

pub mod catalog;
pub mod checkpoint;
pub mod disk;
pub mod error;
pub mod gguf;
mod hf_folder;
pub mod home;
mod in_memory;
pub mod library;
#[cfg(test)]
mod library_tests;
pub mod manifest;
mod map;
pub mod model;
mod outgoing;
pub mod pull;
pub mod quant;
pub mod safetensors;
mod settings;
pub mod source;
mod spill;
pub mod state_file;
pub mod vocab;

pub use catalog::Catalog;
pub use checkpoint::{Checkpoint, TensorInfo};
pub use error::StoreError;
pub use home::Home;
pub use in_memory::InMemory;
pub use library::{Installed, Library};
pub use manifest::Manifest;
pub use model::{Model, Summary};
pub use outgoing::{FloatType, Outgoing, write_safetensors};
pub use pull::{Fetch, Progress, PullRequest, Silent};
pub use quant::DType;
pub use safetensors::Safetensors;
pub use settings::Config;
pub use source::Source;
pub use spill::SpillFile;
