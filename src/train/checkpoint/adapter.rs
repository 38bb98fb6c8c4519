//! Adapters in PEFT's format.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{CheckpointError, model_file, synced};
use crate::store::{FloatType, Outgoing, write_safetensors};
use crate::train::network::{LoraSpec, Network, Role};

const WEIGHTS: &str = "adapter_model.safetensors";
const CONFIG: &str = "adapter_config.json";

/// What PEFT writes to `adapter_config.json`, as far as it bears on the weights.
#[derive(Serialize, Deserialize)]
struct AdapterConfig {
    peft_type: String,
    #[serde(default)]
    task_type: Option<String>,
    r: usize,
    #[serde(serialize_with = "synced::short")]
    lora_alpha: f32,
    #[serde(default, serialize_with = "synced::short")]
    lora_dropout: f32,
    target_modules: Targets,
    #[serde(default = "none")]
    bias: String,
    #[serde(default)]
    base_model_name_or_path: Option<String>,
    #[serde(default)]
    fan_in_fan_out: bool,
    #[serde(default)]
    inference_mode: bool,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    use_dora: bool,
    #[serde(default)]
    modules_to_save: Value,
    #[serde(default)]
    layers_to_transform: Value,
    #[serde(default)]
    rank_pattern: Value,
    #[serde(default)]
    alpha_pattern: Value,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Targets {
    List(Vec<String>),
    One(String),
}

fn none() -> String {
    "none".to_owned()
}

/// Writes `adapter_model.safetensors` and `adapter_config.json` into `folder`, which is made if it is not there, in
/// float32.
///
/// # Errors
/// If the network has no adapters, or the file system refuses.
pub fn save_adapter(folder: &Path, network: &Network) -> Result<(), CheckpointError> {
    let Some(spec) = &network.options().lora else {
        return Err(CheckpointError::NoAdapters("write"));
    };
    synced::folder(folder)?;
    let parameters = network.parameters();
    let adapters: Vec<_> = parameters
        .iter()
        .filter(|p| p.role == Role::Adapter)
        .collect();
    // PEFT takes lists as ends of names, without wildcards: the last words of what was selected are such, unless patterns
    // chose among layers, when whole names say it.
    let linears: BTreeSet<&str> = adapters.iter().filter_map(|p| linear_of(p.name)).collect();
    let ends: BTreeSet<&str> = linears
        .iter()
        .filter_map(|n| n.rsplit('.').next())
        .collect();
    let by_ends = ends.len() * network.config().layers == linears.len();
    let targets = if by_ends { ends } else { linears };
    let config = AdapterConfig {
        peft_type: "LORA".to_owned(),
        task_type: Some("CAUSAL_LM".to_owned()),
        r: spec.rank,
        lora_alpha: spec.alpha,
        lora_dropout: spec.dropout,
        target_modules: Targets::List(targets.into_iter().map(str::to_owned).collect()),
        bias: none(),
        base_model_name_or_path: None,
        fan_in_fan_out: false,
        inference_mode: true,
        use_rslora: false,
        use_dora: false,
        modules_to_save: Value::Null,
        layers_to_transform: Value::Null,
        rank_pattern: Value::Object(Default::default()),
        alpha_pattern: Value::Object(Default::default()),
    };
    let tensors = adapters.iter().map(|p| Outgoing {
        name: p.name.to_owned(),
        shape: p.shape.clone(),
        stored: FloatType::F32,
        values: Cow::Borrowed(p.values),
    });
    let notes = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    write_safetensors(&folder.join(WEIGHTS), tensors.collect(), notes)?;
    synced::write_json(&folder.join(CONFIG), &config)?;
    synced::sync(folder)
}

/// The linear that an adapter's tensor belongs to.
fn linear_of(name: &str) -> Option<&str> {
    let name = name.strip_prefix("base_model.model.")?;
    Some(name.split_once(".lora_")?.0)
}

/// What adapters a folder of PEFT's holds.
///
/// # Errors
/// If the file is missing or malformed, or says something that is not supported here.
pub fn read_adapter_spec(folder: &Path) -> Result<LoraSpec, CheckpointError> {
    let path = folder.join(CONFIG);
    let config: AdapterConfig = synced::read_json(&path)?;
    let empty = |value: &Value| match value {
        Value::Null => true,
        Value::Array(all) => all.is_empty(),
        Value::Object(all) => all.is_empty(),
        _ => false,
    };
    let unsupported = [
        ("peft_type", config.peft_type != "LORA"),
        ("bias", config.bias != "none"),
        ("fan_in_fan_out", config.fan_in_fan_out),
        ("use_rslora", config.use_rslora),
        ("use_dora", config.use_dora),
        ("modules_to_save", !empty(&config.modules_to_save)),
        ("layers_to_transform", !empty(&config.layers_to_transform)),
        ("rank_pattern", !empty(&config.rank_pattern)),
        ("alpha_pattern", !empty(&config.alpha_pattern)),
    ];
    if let Some((field, _)) = unsupported.iter().find(|(_, found)| *found) {
        let reason = format!("{field} is set to what is not supported: plain LoRA is");
        return Err(CheckpointError::other(path, reason));
    }
    let targets = match config.target_modules {
        Targets::List(list) => list,
        Targets::One(all) if all == "all-linear" => vec![all],
        Targets::One(pattern) => {
            let reason = format!("target_modules is the pattern {pattern:?}: lists are read");
            return Err(CheckpointError::other(path, reason));
        }
    };
    Ok(LoraSpec {
        rank: config.r,
        alpha: config.lora_alpha,
        dropout: config.lora_dropout,
        targets,
    })
}

/// Reads adapters of PEFT's format into a network that has the same.
///
/// # Errors
/// If a file is missing or malformed, or has other adapters than the network.
pub fn load_adapter(folder: &Path, network: &mut Network) -> Result<(), CheckpointError> {
    let spec = read_adapter_spec(folder)?;
    let Some(own) = &network.options().lora else {
        return Err(CheckpointError::NoAdapters("read into"));
    };
    if (own.rank, own.alpha) != (spec.rank, spec.alpha) {
        let reason = format!(
            "it has rank {} and alpha {}, the run has {} and {}",
            spec.rank, spec.alpha, own.rank, own.alpha
        );
        return Err(CheckpointError::other(folder.join(CONFIG), reason));
    }
    let path = folder.join(WEIGHTS);
    model_file::fill(&path, network, |name| linear_of(name).is_some())
}
