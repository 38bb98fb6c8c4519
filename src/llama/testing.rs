//! A tiny model with random weights, for tests and examples: written as a GGUF file and read back like any other.

use crate::store::gguf::Value;
use crate::store::gguf::write::Writer;
use crate::store::quant::{self, DType};
use rand::{RngExt, SeedableRng};

use super::{LlamaError, ModelConfig};

/// Its shape: 3 layers, 4 query heads, 2 KV heads of 8, a vocabulary of 96 and a context of 256.
pub fn tiny_config() -> ModelConfig {
    ModelConfig {
        architecture: "llama".to_owned(),
        vocab: 96,
        hidden: 32,
        intermediate: 48,
        layers: 3,
        heads: 4,
        kv_heads: 2,
        head_dim: 8,
        context: 256,
        rope_theta: 10_000.0,
        rope_scaling: None,
        norm_eps: 1e-5,
        sliding_window: None,
        interleaved_rope: true,
    }
}

/// The file of a model of shape `config`, float32, with weights drawn from `seed`.
pub fn tiny_gguf(config: &ModelConfig, seed: u64) -> Result<Vec<u8>, LlamaError> {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let queries = config.heads * config.head_dim;
    let keys = config.kv_heads * config.head_dim;
    let (hidden, inner) = (config.hidden, config.intermediate);
    let mut shapes = vec![
        ("token_embd".to_owned(), vec![config.vocab, hidden]),
        ("output_norm".to_owned(), vec![hidden]),
        ("output".to_owned(), vec![config.vocab, hidden]),
    ];
    for layer in 0..config.layers {
        let parts: [(&str, Vec<usize>); 9] = [
            ("attn_norm", vec![hidden]),
            ("attn_q", vec![queries, hidden]),
            ("attn_k", vec![keys, hidden]),
            ("attn_v", vec![keys, hidden]),
            ("attn_output", vec![hidden, queries]),
            ("ffn_norm", vec![hidden]),
            ("ffn_gate", vec![inner, hidden]),
            ("ffn_up", vec![inner, hidden]),
            ("ffn_down", vec![hidden, inner]),
        ];
        shapes.extend(parts.map(|(name, shape)| (format!("blk.{layer}.{name}"), shape)));
    }
    let mut writer = header(config);
    for (name, shape) in shapes {
        let norm = name.ends_with("norm");
        let count = shape.iter().product();
        // Wide enough that attention is far from even, so that eviction has something to choose by.
        let values: Vec<f32> = (0..count)
            .map(|_| {
                let noise: f32 = rng.random_range(-0.6..0.6);
                if norm { 1.0 + noise / 10.0 } else { noise }
            })
            .collect();
        let bytes = quant::encode(DType::F32, &values).unwrap_or_default();
        writer = writer.tensor(&format!("{name}.weight"), &shape, DType::F32, bytes);
    }
    Ok(writer.finish())
}

fn header(config: &ModelConfig) -> Writer {
    let count = |n: usize| Value::U32(n as u32);
    Writer::new()
        .metadata(
            "general.architecture",
            Value::String(config.architecture.clone()),
        )
        .metadata("llama.block_count", count(config.layers))
        .metadata("llama.context_length", count(config.context))
        .metadata("llama.embedding_length", count(config.hidden))
        .metadata("llama.feed_forward_length", count(config.intermediate))
        .metadata("llama.attention.head_count", count(config.heads))
        .metadata("llama.attention.head_count_kv", count(config.kv_heads))
        .metadata("llama.attention.key_length", count(config.head_dim))
        .metadata(
            "llama.attention.layer_norm_rms_epsilon",
            Value::F32(config.norm_eps as f32),
        )
        .metadata("llama.rope.freq_base", Value::F32(config.rope_theta as f32))
        .metadata(
            "llama.attention.sliding_window",
            count(config.sliding_window.unwrap_or(0)),
        )
}
