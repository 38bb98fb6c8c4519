//! The shape of a model in the terms that training counts in.

use serde_json::{Value as Json, json};

use crate::train::recipe::Model;

/// The shape of a Llama-family model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Rows of the embedding table.
    pub vocab: u64,
    /// Values of the residual stream.
    pub width: u64,
    /// Width of the feed-forward layer.
    pub intermediate: u64,
    /// Blocks.
    pub layers: u64,
    /// Query heads.
    pub heads: u64,
    /// KV heads.
    pub kv_heads: u64,
    /// Values of a head.
    pub head_dim: u64,
    /// The longest sequence in tokens.
    pub context: u64,
    /// Whether the output layer is the embedding table.
    pub tied: bool,
}

/// Why there is no such shape.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadShape {
    /// Without a depth there is nothing to follow.
    #[error("`model.depth` is missing: the shape of a new model follows from it")]
    NoDepth,
    /// Heads come in groups of equal size.
    #[error("`model.kv_ratio` = {ratio} does not divide the {heads} heads that follow from depth, aspect_ratio and head_dim: use one of {}", divisors(*.heads))]
    Ratio {
        /// Query heads.
        heads: u64,
        /// What was asked for.
        ratio: u64,
    },
    /// Every token of the tokenizer needs a row.
    #[error(
        "`model.vocab_size` = {rows} is less than the {tokens} tokens of the tokenizer: raise it or take it out"
    )]
    Vocabulary {
        /// What was asked for.
        rows: u64,
        /// Tokens of the tokenizer.
        tokens: u64,
    },
}

fn divisors(of: u64) -> String {
    let all = (1..=of).filter(|n| of.is_multiple_of(*n));
    all.map(|n| n.to_string()).collect::<Vec<_>>().join(", ")
}

impl Shape {
    /// The shape of a new model whose tokenizer has `tokens` tokens. The width is `depth * aspect_ratio`, rounded up to
    /// whole heads; the feed-forward layer is 8/3 of it, rounded up to a multiple of 32.
    ///
    /// # Errors
    /// No depth, KV heads that do not come out even, or fewer rows than tokens.
    pub fn of_depth(model: &Model, tokens: u64) -> Result<Shape, BadShape> {
        let depth = u64::from(model.depth.ok_or(BadShape::NoDepth)?);
        let head_dim = u64::from(model.head_dim.max(1));
        let heads = (depth * u64::from(model.aspect_ratio))
            .div_ceil(head_dim)
            .max(1);
        let width = heads * head_dim;
        let ratio = u64::from(model.kv_ratio.max(1));
        if !heads.is_multiple_of(ratio) {
            return Err(BadShape::Ratio { heads, ratio });
        }
        let rows = model.vocab_size.map(u64::from);
        if let Some(rows) = rows.filter(|rows| *rows < tokens) {
            return Err(BadShape::Vocabulary { rows, tokens });
        }
        Ok(Shape {
            vocab: rows.unwrap_or_else(|| tokens.next_multiple_of(64)),
            width,
            intermediate: (8 * width).div_ceil(3).next_multiple_of(32),
            layers: depth,
            heads,
            kv_heads: heads / ratio,
            head_dim,
            context: u64::from(model.context),
            tied: model.tied,
        })
    }

    /// Weights of the blocks' matrices.
    fn matrices(&self) -> u64 {
        let attention = 2 * self.width * self.head_dim * (self.heads + self.kv_heads);
        self.layers * (attention + 3 * self.width * self.intermediate)
    }

    /// All weights; a tied table counts once.
    pub fn parameters(&self) -> u64 {
        let tables = if self.tied { 1 } else { 2 };
        let norms = (2 * self.layers + 1) * self.width;
        self.matrices() + tables * self.vocab * self.width + norms
    }

    /// The weights that the horizon and the batch follow from: of the blocks' matrices and the output layer, also when
    /// that is the embedding table, since its products are computed all the same.
    pub fn scaling_parameters(&self) -> u64 {
        self.matrices() + self.vocab * self.width
    }

    /// Floating-point operations of a forward and backward pass for one token of a sequence of `tokens`: six for each
    /// weight that multiplies, and attention over the whole sequence, as is the convention for utilisation.
    pub fn flops_per_token(&self, tokens: u64) -> f64 {
        let attention = 12 * self.layers * self.heads * self.head_dim * tokens;
        6.0 * self.scaling_parameters() as f64 + attention as f64
    }

    /// The configuration as Hugging Face's `config.json` has it.
    pub fn config_json(&self) -> Json {
        json!({
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": self.vocab,
            "hidden_size": self.width,
            "intermediate_size": self.intermediate,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "max_position_embeddings": self.context,
            "tie_word_embeddings": self.tied,
            "hidden_act": "silu",
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "attention_bias": false,
            "mlp_bias": false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(depth: u32) -> Model {
        Model {
            depth: Some(depth),
            ..Model::default()
        }
    }

    #[test]
    fn a_depth_gives_a_shape() {
        let shape = Shape::of_depth(&model(12), 32_768).unwrap();
        assert_eq!((shape.width, shape.heads, shape.kv_heads), (768, 12, 12));
        assert_eq!((shape.intermediate, shape.vocab), (2048, 32_768));
        // As many weights in the blocks as nanochat's of the same depth.
        assert_eq!(shape.matrices(), 12 * 12 * 768 * 768);
        assert_eq!(shape.scaling_parameters(), 110_100_480);
        assert_eq!(shape.parameters(), 110_100_480 + 32_768 * 768 + 25 * 768);
        let tied = Shape {
            tied: true,
            ..shape
        };
        assert_eq!(tied.parameters(), 110_100_480 + 25 * 768);
        assert_eq!(tied.scaling_parameters(), shape.scaling_parameters());
        assert_eq!(shape.config_json()["intermediate_size"], 2048);
        assert_eq!(shape.flops_per_token(0), 6.0 * 110_100_480.0);
    }

    #[test]
    fn the_shipped_model_of_shakespeare_has_two_million_weights() {
        let model = Model {
            aspect_ratio: 48,
            head_dim: 32,
            tied: true,
            ..model(4)
        };
        let shape = Shape::of_depth(&model, 1024).unwrap();
        assert_eq!((shape.width, shape.heads), (192, 6));
        assert!(
            (1_900_000..2_100_000).contains(&shape.parameters()),
            "{}",
            shape.parameters()
        );
    }

    #[test]
    fn shapes_that_do_not_come_out_are_refused() {
        assert_eq!(
            Shape::of_depth(&Model::default(), 300),
            Err(BadShape::NoDepth)
        );
        let ratio = Model {
            kv_ratio: 5,
            ..model(12)
        };
        let error = Shape::of_depth(&ratio, 300).unwrap_err().to_string();
        assert!(error.ends_with("use one of 1, 2, 3, 4, 6, 12"), "{error}");
        let rows = Model {
            vocab_size: Some(299),
            ..model(12)
        };
        assert!(matches!(
            Shape::of_depth(&rows, 300),
            Err(BadShape::Vocabulary { .. })
        ));
        let padded = Shape::of_depth(&model(1), 300).unwrap();
        assert_eq!((padded.vocab, padded.width), (320, 64));
    }
}
