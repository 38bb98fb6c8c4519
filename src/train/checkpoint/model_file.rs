//! A whole model in Hugging Face's names.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use super::config_json::config_json;
use super::{CheckpointError, open, synced};
use crate::store::{FloatType, Outgoing, write_safetensors};
use crate::train::network::Network;

const WEIGHTS: &str = "model.safetensors";

/// Writes `model.safetensors` and `config.json` into `folder`, which is made if it is not there: the model as it is, with
/// adapters folded in. The tokenizer's files are the caller's.
///
/// # Errors
/// If the file system refuses.
pub fn save_model(
    folder: &Path,
    network: &Network,
    stored: FloatType,
) -> Result<(), CheckpointError> {
    synced::folder(folder)?;
    let outgoing = |name, shape, values| Outgoing {
        name,
        shape,
        stored,
        values,
    };
    let tensors = match network.options().lora {
        // Nothing to fold, and nothing in narrower types: no copy is needed.
        None => network
            .parameters()
            .into_iter()
            .map(|p| outgoing(p.name.to_owned(), p.shape, Cow::Borrowed(p.values)))
            .collect(),
        Some(_) => network
            .merged()
            .map(|(name, shape, values)| outgoing(name, shape, Cow::Owned(values)))
            .collect(),
    };
    let notes = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    write_safetensors(&folder.join(WEIGHTS), tensors, notes)?;
    synced::write_json(&folder.join("config.json"), &config_json(network, stored))?;
    synced::sync(folder)
}

/// Reads the weights of a network from a folder that [`save_model`] wrote.
pub(super) fn load(folder: &Path, network: &mut Network) -> Result<(), CheckpointError> {
    fill(&folder.join(WEIGHTS), network, |_| true)
}

/// Fills the parameters that `takes` names from a file that holds those and no others.
pub(super) fn fill(
    path: &Path,
    network: &mut Network,
    takes: impl Fn(&str) -> bool,
) -> Result<(), CheckpointError> {
    let file = open(path)?;
    let mut found: BTreeMap<&str, &[usize]> = file
        .tensors()
        .map(|info| (info.name.as_str(), info.shape.as_slice()))
        .collect();
    for parameter in network.parameters_mut() {
        if !takes(parameter.name) {
            continue;
        }
        let shape = found.remove(parameter.name);
        if shape != Some(parameter.shape.as_slice()) {
            let reason = match shape {
                None => format!("{:?} is not in it", parameter.name),
                Some(shape) => format!(
                    "{:?} has shape {shape:?}, the run has {:?}",
                    parameter.name, parameter.shape
                ),
            };
            return Err(CheckpointError::other(path, reason));
        }
        let mut values = Vec::new();
        file.read_f32(parameter.name, &mut values)?;
        parameter.values.copy_from_slice(&values);
    }
    match found.keys().next() {
        None => Ok(()),
        Some(name) => {
            let reason = format!("{name:?} is not a parameter of the run");
            Err(CheckpointError::other(path, reason))
        }
    }
}
