//! Gradients against differences, and ways to compute the same against each other.

mod agreement;
mod equalities;
mod gradients;
mod refusals;

use super::*;
use crate::llama::testing::{tiny_config, tiny_gguf};

/// A model small enough to change every weight four times.
pub(crate) fn minute_config() -> ModelConfig {
    ModelConfig {
        vocab: 11,
        hidden: 8,
        intermediate: 10,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        head_dim: 4,
        context: 32,
        interleaved_rope: false,
        ..tiny_config()
    }
}

/// Adapters of some linears, of a stack and alone.
pub(crate) fn lora(dropout: f32) -> Option<LoraSpec> {
    Some(LoraSpec {
        rank: 3,
        alpha: 6.0,
        dropout,
        targets: ["q_proj", "v_proj", "up_proj", "down_proj", "o_proj"]
            .map(str::to_owned)
            .to_vec(),
    })
}

/// A model whose weights are large enough for attention to be uneven.
pub(crate) fn lively(config: &ModelConfig, tied: bool, options: NetworkOptions) -> Network {
    let mut network = Network::random(config, tied, options).unwrap();
    let mut state = 1u64;
    for parameter in network.parameters_mut() {
        let norm = parameter.role == Role::Norm;
        for value in parameter.values.iter_mut() {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(11);
            let noise = (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5;
            *value = if norm { 1.0 + 0.4 * noise } else { noise };
        }
    }
    network
}

pub(crate) fn options() -> NetworkOptions {
    NetworkOptions {
        threads: 2,
        seed: 7,
        ..NetworkOptions::default()
    }
}

/// Three packed samples with rows that do not count.
pub(crate) fn packed() -> Pass {
    let mut pass = Pass::next_tokens(&[&[1, 5, 9, 2, 10], &[3, 3, 8], &[0, 7, 4, 6]]);
    for (index, weight) in pass.objective.weights.iter_mut().enumerate() {
        *weight = [1.0, 0.0, 0.5, 2.0][index % 4];
    }
    pass
}

/// The model of [`tiny_gguf`] as a file.
pub(crate) fn tiny_checkpoint(folder: &std::path::Path) -> Checkpoint {
    let path = folder.join("tiny.gguf");
    std::fs::write(&path, tiny_gguf(&tiny_config(), 3).unwrap()).unwrap();
    Checkpoint::open(&path).unwrap()
}

pub(crate) fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let differences = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, f32::max)
}
