//! What a network needs to know of a checkpoint beside its tensors.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::NetworkError;
use crate::ids::TokenId;
use crate::llama::{ModelConfig, Part, Rope, RopeScaling};
use crate::store::Checkpoint;

/// Tokens that begin and end texts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SpecialTokens {
    /// Begins a text.
    pub bos: Option<TokenId>,
    /// Any of these ends one.
    pub eos: Vec<TokenId>,
}

/// The context of Llama 3's pretraining.
const LLAMA3_CONTEXT: usize = 8192;
/// The stretches of the published Llama 3.1 and 3.2 models.
const LLAMA3_FACTORS: [f64; 2] = [8.0, 32.0];

/// Reads and checks the configuration.
pub(super) fn read(checkpoint: &Checkpoint) -> Result<(ModelConfig, SpecialTokens), NetworkError> {
    let mut config = ModelConfig::read(checkpoint)?;
    if checkpoint.get("rope_freqs.weight").is_some() {
        config.rope_scaling = Some(scaling(checkpoint, &config)?);
    }
    Ok((config, special(checkpoint)))
}

/// Whether the head is a tensor of its own.
pub(in crate::train) fn has_head(checkpoint: &Checkpoint) -> bool {
    let name = Part::Head.name(checkpoint.metadata().is_some());
    checkpoint.get(&format!("{name}.weight")).is_some()
}

/// A GGUF file carries the divisors of frequencies, where Hugging Face's configuration, which a checkpoint is written
/// with, says what they follow from.
fn scaling(checkpoint: &Checkpoint, config: &ModelConfig) -> Result<RopeScaling, NetworkError> {
    let mut factors = Vec::new();
    checkpoint.read_f32("rope_freqs.weight", &mut factors)?;
    let plain = ModelConfig {
        rope_scaling: None,
        ..config.clone()
    };
    // At position 1 an angle is its frequency.
    let angles = |rope: Rope| -> Vec<f32> {
        let (cos, sin) = rope.position(1);
        cos.iter().zip(sin).map(|(c, s)| s.atan2(*c)).collect()
    };
    let stored = angles(Rope::new(&plain, Some(&factors)));
    for factor in LLAMA3_FACTORS {
        let scaling = RopeScaling::Llama3 {
            factor,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_context: LLAMA3_CONTEXT,
        };
        let known = ModelConfig {
            rope_scaling: Some(scaling),
            ..plain.clone()
        };
        let known = angles(Rope::new(&known, None));
        let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-3 * b.abs();
        if factors.len() == known.len() && stored.iter().zip(&known).all(near) {
            return Ok(scaling);
        }
    }
    Err(NetworkError::unsupported(
        "rope_freqs.weight",
        "these are not the factors of a published Llama 3 model: train from its safetensors folder",
    ))
}

fn special(checkpoint: &Checkpoint) -> SpecialTokens {
    let id = |value: u64| TokenId::try_from(value).ok();
    if let Some(metadata) = checkpoint.metadata() {
        let token = |key| metadata.u64(key).and_then(id);
        return SpecialTokens {
            bos: token("tokenizer.ggml.bos_token_id"),
            eos: token("tokenizer.ggml.eos_token_id").into_iter().collect(),
        };
    }
    let key = |name| checkpoint.config_json().and_then(|json| json.get(name));
    let number = |value: &Value| value.as_u64().and_then(id);
    SpecialTokens {
        bos: key("bos_token_id").and_then(number),
        eos: match key("eos_token_id") {
            Some(Value::Array(all)) => all.iter().filter_map(number).collect(),
            Some(one) => number(one).into_iter().collect(),
            None => Vec::new(),
        },
    }
}
