//! Which model is trained, and its tokenizer.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which model is trained: one that is here (`base`), or a new one whose shape follows from `depth`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Model {
    /// The name or the path of the model that the run starts from.
    #[schemars(extend("examples" = ["smollm2"]))]
    pub base: Option<String>,
    /// Blocks of a new model; its width and all else that is absent follow from it.
    #[schemars(range(min = 1, max = 256), extend("examples" = [12]))]
    pub depth: Option<u32>,
    /// Width of a new model for each of its blocks, rounded up to whole heads.
    #[schemars(range(min = 1, max = 1024))]
    pub aspect_ratio: u32,
    /// Values of one head of a new model; even.
    #[schemars(range(min = 2, max = 512))]
    pub head_dim: u32,
    /// Query heads of a new model for each of its KV heads; divides the number of heads.
    #[schemars(range(min = 1, max = 256))]
    pub kv_ratio: u32,
    /// Rows of the embedding table of a new model; absent = those of its tokenizer, rounded up to a multiple of 64.
    #[schemars(range(min = 2, max = 1048576), extend("examples" = [32768]))]
    pub vocab_size: Option<u32>,
    /// Whether a new model's output layer is its embedding table.
    pub tied: bool,
    /// The longest sequence of a new model, in tokens.
    #[schemars(range(min = 8, max = 1048576))]
    pub context: u32,
}

impl Default for Model {
    fn default() -> Self {
        Model {
            base: None,
            depth: None,
            aspect_ratio: 64,
            head_dim: 64,
            kv_ratio: 1,
            vocab_size: None,
            tied: false,
            context: 2048,
        }
    }
}

impl Model {
    /// The base, if it is a name: a name of a model is no path, unless there is a file of that name.
    pub fn base_name(&self) -> Option<&str> {
        let named = self.base.as_deref();
        named.filter(|base| !Path::new(base).exists())
    }
}

/// The tokenizer of a new model: one that is here (`from`), or a byte-pair encoding trained on the run's text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Tokenizer {
    /// The model or folder whose tokenizer is taken as it is; absent = one is trained.
    #[schemars(extend("examples" = ["smollm2"]))]
    pub from: Option<String>,
    /// Tokens of a tokenizer that is trained, special ones included.
    #[schemars(range(min = 260, max = 1048576))]
    pub vocab_size: u32,
    /// How many characters of the text are read to train one.
    #[schemars(range(min = 1))]
    pub max_chars: u64,
    /// How many characters of one document are read at most.
    #[schemars(range(min = 1))]
    pub doc_cap: u64,
}

impl Default for Tokenizer {
    fn default() -> Self {
        Tokenizer {
            from: None,
            vocab_size: 32_768,
            max_chars: 2_000_000_000,
            doc_cap: 10_000,
        }
    }
}
