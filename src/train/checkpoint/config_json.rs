//! A model's configuration as Hugging Face writes it.

use serde_json::{Map, Value, json};

use crate::llama::RopeScaling;
use crate::store::FloatType;
use crate::train::network::Network;

/// The `config.json` of a network whose weights are stored as `stored`.
pub(crate) fn config_json(network: &Network, stored: FloatType) -> Value {
    let config = network.config();
    let class = match config.architecture.as_str() {
        "mistral" => "MistralForCausalLM",
        "qwen2" => "Qwen2ForCausalLM",
        _ => "LlamaForCausalLM",
    };
    let scaling = match config.rope_scaling {
        None => Value::Null,
        Some(RopeScaling::Linear { factor }) => json!({"rope_type": "linear", "factor": factor}),
        Some(RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_context,
        }) => json!({
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": low_freq_factor,
            "high_freq_factor": high_freq_factor,
            "original_max_position_embeddings": original_context,
        }),
    };
    let stored = match stored {
        FloatType::F32 => "float32",
        FloatType::Bf16 => "bfloat16",
        FloatType::F16 => "float16",
    };
    let mut json = json!({
        "architectures": [class],
        "model_type": config.architecture,
        "vocab_size": config.vocab,
        "hidden_size": config.hidden,
        "intermediate_size": config.intermediate,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "max_position_embeddings": config.context,
        "hidden_act": "silu",
        "rms_norm_eps": short(config.norm_eps),
        "rope_theta": short(config.rope_theta),
        "rope_scaling": scaling,
        "tie_word_embeddings": network.is_tied(),
        "torch_dtype": stored,
        "use_cache": true,
    });
    if let Value::Object(map) = &mut json {
        by_architecture(map, network);
        let special = network.special_tokens();
        if let Some(bos) = special.bos {
            map.insert("bos_token_id".to_owned(), json!(bos));
        }
        match special.eos.as_slice() {
            [] => {}
            [one] => drop(map.insert("eos_token_id".to_owned(), json!(one))),
            more => drop(map.insert("eos_token_id".to_owned(), json!(more))),
        }
    }
    json
}

fn by_architecture(map: &mut Map<String, Value>, network: &Network) {
    let window = network.config().sliding_window;
    match network.config().architecture.as_str() {
        "mistral" => {
            map.insert("sliding_window".to_owned(), json!(window));
        }
        "qwen2" => {
            map.insert("use_sliding_window".to_owned(), json!(window.is_some()));
            map.insert("sliding_window".to_owned(), json!(window));
        }
        _ => {
            map.insert("attention_bias".to_owned(), json!(false));
            map.insert("mlp_bias".to_owned(), json!(false));
        }
    }
}

/// What GGUF files hold in float32 is written with its digits: 1e-5, not 9.999999747378752e-6.
fn short(value: f64) -> f64 {
    let narrow = value as f32;
    match f64::from(narrow) == value {
        true => narrow.to_string().parse().unwrap_or(value),
        false => value,
    }
}
