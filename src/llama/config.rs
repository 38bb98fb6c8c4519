//! The shape of a model, read from GGUF metadata or an HF `config.json` and checked once.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use serde_json::Value;

use super::LlamaError;
use crate::kv::KvShape;
use crate::store::Checkpoint;
use crate::store::gguf::Metadata;

/// How rotary frequencies are stretched beyond the trained context.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RopeScaling {
    /// Positions divided by `factor`.
    Linear {
        /// The stretch.
        factor: f64,
    },
    /// Low frequencies divided by `factor`, high ones kept, those between blended
    /// ([Llama 3.1](https://arxiv.org/abs/2407.21783)).
    Llama3 {
        /// The stretch of low frequencies.
        factor: f64,
        /// Wavelengths longer than `original_context / low_freq_factor` are stretched in full.
        low_freq_factor: f64,
        /// Wavelengths shorter than `original_context / high_freq_factor` are kept.
        high_freq_factor: f64,
        /// The context of pretraining.
        original_context: usize,
    },
}

/// The shape of a model of the Llama family.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// `llama`, `mistral` or `qwen2`.
    pub architecture: String,
    /// Tokens of the vocabulary.
    pub vocab: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the feed-forward layer.
    pub intermediate: usize,
    /// Blocks.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// KV heads; divides `heads`.
    pub kv_heads: usize,
    /// Values of one head; even.
    pub head_dim: usize,
    /// Trained context in tokens.
    pub context: usize,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// How they are stretched, if they are.
    pub rope_scaling: Option<RopeScaling>,
    /// Epsilon of the RMS norms.
    pub norm_eps: f64,
    /// Attention sees only this many last positions, if bounded (Mistral).
    pub sliding_window: Option<usize>,
    /// Whether query and key rows of the file are stored for interleaved rotation, as llama.cpp's converter
    /// writes them for `llama`.
    pub interleaved_rope: bool,
}

impl ModelConfig {
    /// Reads and checks the configuration of an open checkpoint.
    pub fn read(checkpoint: &Checkpoint) -> Result<Self, LlamaError> {
        let config = match (checkpoint.metadata(), checkpoint.config_json()) {
            (Some(metadata), _) => Self::from_gguf(metadata, checkpoint)?,
            (None, Some(json)) => Self::from_json(json)?,
            (None, None) => return Err(LlamaError::Missing("configuration")),
        };
        config.checked()
    }

    fn from_gguf(metadata: &Metadata, checkpoint: &Checkpoint) -> Result<Self, LlamaError> {
        let architecture = metadata
            .str("general.architecture")
            .ok_or(LlamaError::Missing("general.architecture"))?;
        if !matches!(architecture, "llama" | "mistral" | "qwen2") {
            return Err(LlamaError::Architecture(architecture.to_owned()));
        }
        let key = |name: &str| format!("{architecture}.{name}");
        let count = |name: &'static str| {
            let value = metadata.u64(&key(name)).ok_or(LlamaError::Missing(name))?;
            small(name, value)
        };
        let heads = count("attention.head_count")?;
        let hidden = count("embedding_length")?;
        let kv_heads = match metadata.u64(&key("attention.head_count_kv")) {
            Some(value) => small("attention.head_count_kv", value)?,
            None => heads,
        };
        let head_dim = match metadata.u64(&key("attention.key_length")) {
            Some(value) => small("attention.key_length", value)?,
            None => hidden.checked_div(heads).unwrap_or(0),
        };
        let vocab = checkpoint
            .get("token_embd.weight")
            .and_then(|info| info.shape.first().copied())
            .ok_or(LlamaError::Missing("token_embd.weight"))?;
        let rope_scaling = match metadata.str(&key("rope.scaling.type")) {
            Some("linear") => metadata
                .f64(&key("rope.scaling.factor"))
                .map(|factor| RopeScaling::Linear { factor }),
            None | Some("none") => None,
            Some(other) => {
                return Err(LlamaError::Invalid {
                    field: "rope.scaling.type",
                    value: other.to_owned(),
                    reason: "only linear scaling and llama3 frequency factors are supported",
                });
            }
        };
        Ok(ModelConfig {
            architecture: architecture.to_owned(),
            vocab,
            hidden,
            intermediate: count("feed_forward_length")?,
            layers: count("block_count")?,
            heads,
            kv_heads,
            head_dim,
            context: count("context_length")?,
            rope_theta: metadata.f64(&key("rope.freq_base")).unwrap_or(10_000.0),
            rope_scaling,
            norm_eps: metadata
                .f64(&key("attention.layer_norm_rms_epsilon"))
                .unwrap_or(1e-5),
            sliding_window: metadata
                .u64(&key("attention.sliding_window"))
                .filter(|&window| window > 0)
                .map(|window| small("attention.sliding_window", window))
                .transpose()?,
            interleaved_rope: architecture != "qwen2",
        })
    }

    fn from_json(json: &Value) -> Result<Self, LlamaError> {
        let architecture = json
            .get("model_type")
            .and_then(Value::as_str)
            .ok_or(LlamaError::Missing("model_type"))?;
        if !matches!(architecture, "llama" | "mistral" | "qwen2") {
            return Err(LlamaError::Architecture(architecture.to_owned()));
        }
        let count = |name: &'static str| {
            let value = json.get(name).and_then(Value::as_u64);
            small(name, value.ok_or(LlamaError::Missing(name))?)
        };
        let optional = |name: &'static str| match json.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => small(name, value.as_u64().ok_or(LlamaError::Missing(name))?).map(Some),
        };
        let heads = count("num_attention_heads")?;
        let hidden = count("hidden_size")?;
        let sliding = json
            .get("use_sliding_window")
            .and_then(Value::as_bool)
            .unwrap_or(architecture == "mistral");
        let rope_theta = json.get("rope_theta").or_else(|| {
            json.get("rope_parameters")
                .and_then(|p| p.get("rope_theta"))
        });
        Ok(ModelConfig {
            architecture: architecture.to_owned(),
            vocab: count("vocab_size")?,
            hidden,
            intermediate: count("intermediate_size")?,
            layers: count("num_hidden_layers")?,
            heads,
            kv_heads: optional("num_key_value_heads")?.unwrap_or(heads),
            head_dim: optional("head_dim")?
                .unwrap_or_else(|| hidden.checked_div(heads).unwrap_or(0)),
            context: count("max_position_embeddings")?,
            rope_theta: rope_theta.and_then(Value::as_f64).unwrap_or(10_000.0),
            rope_scaling: scaling_from_json(
                json.get("rope_scaling")
                    .or_else(|| json.get("rope_parameters")),
            )?,
            norm_eps: json
                .get("rms_norm_eps")
                .and_then(Value::as_f64)
                .unwrap_or(1e-6),
            sliding_window: if sliding {
                optional("sliding_window")?
            } else {
                None
            },
            interleaved_rope: false,
        })
    }

    fn checked(self) -> Result<Self, LlamaError> {
        let invalid = |field, value: usize, reason| {
            Err(LlamaError::Invalid {
                field,
                value: value.to_string(),
                reason,
            })
        };
        if self.kv_heads > self.heads || !self.heads.is_multiple_of(self.kv_heads) {
            return invalid("kv heads", self.kv_heads, "it must divide the query heads");
        }
        if !self.head_dim.is_multiple_of(2) || self.head_dim > 1024 {
            return invalid(
                "head size",
                self.head_dim,
                "it must be even and at most 1024",
            );
        }
        let finite = self.rope_theta.is_finite() && self.rope_theta > 1.0;
        let small = self.norm_eps > 0.0 && self.norm_eps < 0.1;
        if !(finite && small) {
            return Err(LlamaError::Invalid {
                field: "rope theta or norm epsilon",
                value: format!("{} and {}", self.rope_theta, self.norm_eps),
                reason: "theta must be above 1, epsilon between 0 and 0.1",
            });
        }
        Ok(self)
    }

    /// What a token costs in KV cache when a value takes `value_bytes`.
    pub fn kv_shape(&self, value_bytes: usize) -> KvShape {
        KvShape {
            layers: self.layers,
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            value_bytes,
        }
    }
}

/// A count of a model: at least 1, and small enough that products of three fit into 64 bits.
fn small(field: &'static str, value: u64) -> Result<usize, LlamaError> {
    match usize::try_from(value) {
        Ok(n) if (1..=1 << 24).contains(&n) => Ok(n),
        _ => Err(LlamaError::Invalid {
            field,
            value: value.to_string(),
            reason: "it must be between 1 and 16777216",
        }),
    }
}

fn scaling_from_json(json: Option<&Value>) -> Result<Option<RopeScaling>, LlamaError> {
    let Some(json) = json.filter(|value| !value.is_null()) else {
        return Ok(None);
    };
    let kind = json.get("rope_type").or_else(|| json.get("type"));
    let number = |name: &'static str| {
        let value = json.get(name).and_then(Value::as_f64);
        value
            .filter(|v| v.is_finite() && *v > 0.0)
            .ok_or(LlamaError::Missing(name))
    };
    match kind.and_then(Value::as_str) {
        None | Some("default") => Ok(None),
        Some("linear") => Ok(Some(RopeScaling::Linear {
            factor: number("factor")?,
        })),
        Some("llama3") => Ok(Some(RopeScaling::Llama3 {
            factor: number("factor")?,
            low_freq_factor: number("low_freq_factor")?,
            high_freq_factor: number("high_freq_factor")?,
            original_context: number("original_max_position_embeddings")? as usize,
        })),
        Some(other) => Err(LlamaError::Invalid {
            field: "rope_scaling.rope_type",
            value: other.to_owned(),
            reason: "supported are default, linear and llama3",
        }),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use serde_json::json;

    use super::*;

    fn llama32() -> Value {
        json!({
            "model_type": "llama", "vocab_size": 128256, "hidden_size": 2048, "intermediate_size": 8192,
            "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64,
            "max_position_embeddings": 131072, "rope_theta": 500000.0, "rms_norm_eps": 1e-5,
            "rope_scaling": {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0,
                "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
        })
    }

    #[test]
    fn a_config_json_is_read() {
        let config = ModelConfig::from_json(&llama32())
            .unwrap()
            .checked()
            .unwrap();
        assert_eq!(
            (config.kv_heads, config.head_dim, config.context),
            (8, 64, 131_072)
        );
        assert!(matches!(
            config.rope_scaling,
            Some(RopeScaling::Llama3 {
                original_context: 8192,
                ..
            })
        ));
        assert!(!config.interleaved_rope && config.sliding_window.is_none());
    }

    #[test]
    fn mistral_slides_and_qwen2_only_when_told() {
        for (kind, flag, expected) in [
            ("mistral", Value::Null, Some(4096)),
            ("qwen2", json!(false), None),
            ("qwen2", json!(true), Some(4096)),
        ] {
            let mut json = llama32();
            json["model_type"] = json!(kind);
            json["use_sliding_window"] = flag;
            json["sliding_window"] = json!(4096);
            assert_eq!(
                ModelConfig::from_json(&json).unwrap().sliding_window,
                expected
            );
        }
    }

    #[test]
    fn numbers_that_make_no_model_are_named() {
        for (key, value, named) in [
            ("num_hidden_layers", json!(0), "num_hidden_layers"),
            ("hidden_size", json!(1u64 << 60), "hidden_size"),
            ("num_key_value_heads", json!(5), "kv heads"),
            ("head_dim", json!(63), "head size"),
            ("model_type", json!("gpt2"), "gpt2"),
            ("rope_theta", json!(0.0), "rope theta"),
            ("vocab_size", Value::Null, "vocab_size"),
            ("rope_scaling", json!({"rope_type": "yarn"}), "yarn"),
        ] {
            let mut json = llama32();
            json[key] = value;
            let error = ModelConfig::from_json(&json)
                .and_then(ModelConfig::checked)
                .unwrap_err()
                .to_string();
            assert!(error.contains(named), "{error}");
        }
    }
}
