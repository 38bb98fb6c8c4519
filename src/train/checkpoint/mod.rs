//! What a run resumes from, and the models and adapters that it leaves, in files that transformers and PEFT read.
//!
//! | file | what it holds |
//! |---|---|
//! | `model.safetensors`, `config.json` | the whole model in float32, unless adapters are trained |
//! | `adapter_model.safetensors`, `adapter_config.json` | the adapters, in PEFT's format |
//! | `optimizer.safetensors` | the optimizer's state |
//! | `state.json` | [`RunState`], and what the optimizer is |
//!
//! Files are written into the given folder and synced; whoever wants the folder to appear whole writes to another name and
//! renames it.

mod adapter;
mod config_json;
mod error;
mod model_file;
mod state;
mod synced;
#[cfg(test)]
mod tests;

pub(crate) use config_json::config_json;

pub use adapter::{load_adapter, read_adapter_spec, save_adapter};
pub use error::CheckpointError;
pub use model_file::save_model;
pub use state::{Best, RunState};

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use super::network::Network;
use super::optimizer::Optimizer;
use crate::store::{Checkpoint, FloatType, Outgoing, Safetensors, StoreError, write_safetensors};

const OPTIMIZER: &str = "optimizer.safetensors";

/// Writes all that a run resumes from into `folder`, which is made if it is not there.
///
/// # Errors
/// If the file system refuses.
pub fn save(
    folder: &Path,
    network: &Network,
    optimizer: &Optimizer,
    state: &RunState,
) -> Result<(), CheckpointError> {
    synced::folder(folder)?;
    match network.options().lora {
        Some(_) => save_adapter(folder, network)?,
        None => save_model(folder, network, FloatType::F32)?,
    }
    let tensors = optimizer.saved().into_iter().map(|saved| Outgoing {
        name: saved.name,
        shape: vec![saved.values.len()],
        stored: FloatType::F32,
        values: Cow::Borrowed(saved.values),
    });
    write_safetensors(&folder.join(OPTIMIZER), tensors.collect(), HashMap::new())?;
    state::write(folder, optimizer, state)?;
    synced::sync(folder)
}

/// Takes up what [`save`] wrote: the weights of `network`, which was opened or drawn with the same options, and the state
/// of `optimizer`, which was made for it. Training goes on to the bit as if it had not been interrupted.
///
/// # Errors
/// If a file is missing or malformed, or is of another model or another optimizer; both are unspecified then.
pub fn restore(
    folder: &Path,
    network: &mut Network,
    optimizer: &mut Optimizer,
) -> Result<RunState, CheckpointError> {
    let (steps, state) = state::read(folder, optimizer)?;
    match network.options().lora {
        Some(_) => load_adapter(folder, network)?,
        None => model_file::load(folder, network)?,
    }
    let file = open(&folder.join(OPTIMIZER))?;
    optimizer.restore(steps, |name| -> Result<_, CheckpointError> {
        let mut values = Vec::new();
        file.read_f32(name, &mut values)?;
        Ok(values)
    })?;
    Ok(state)
}

/// One safetensors file.
fn open(path: &Path) -> Result<Checkpoint, StoreError> {
    Safetensors::open_file(path).map(Checkpoint::Safetensors)
}
