//! A model as the rest of the program takes it: tensors, tokenizer, chat template, facts.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use super::checkpoint::Checkpoint;
use super::gguf::{Gguf, Metadata};
use super::hf_folder::{self, TextConfig};
use super::safetensors::Safetensors;
use super::vocab::{self, CONTROL};
use super::{DType, StoreError};
use crate::ids::TokenId;
use crate::text::{ChatTemplate, TextError, Tokenizer};

/// Tokens that end a turn in some family; each counts if the chat template uses it.
const TURN_ENDS: [&str; 5] = [
    "<|im_end|>",
    "<|eot_id|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
];

/// An open model: nothing of its weights is in memory yet.
pub struct Model {
    /// The tensors.
    pub checkpoint: Checkpoint,
    /// Text to tokens and back.
    pub tokenizer: Tokenizer,
    /// Messages to text, if the model has a template that could be compiled.
    pub template: Option<ChatTemplate>,
    /// Why the model's template could not be compiled.
    pub template_error: Option<String>,
    /// The tokens that end an answer, ascending.
    pub eos: Vec<TokenId>,
    /// Facts to show.
    pub summary: Summary,
}

/// Facts about a model, as plain data.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// The name that the file gives itself.
    pub name: Option<String>,
    /// The family, as in "llama".
    pub architecture: Option<String>,
    /// Elements of all tensors.
    pub parameters: u64,
    /// Layers.
    pub layers: Option<u64>,
    /// The longest context that the model was made for, in tokens.
    pub context_length: Option<u64>,
    /// How the weights are stored, as in "Q4_1".
    pub quantization: String,
    /// Length of the weight files in bytes.
    pub file_bytes: u64,
    /// The licence, if the file says.
    pub license: Option<String>,
    /// True with a usable chat template.
    pub chat_template: bool,
}

/// What a format says about text, before it is built.
struct TextSide {
    tokenizer: Tokenizer,
    template: Option<String>,
    bos: String,
    eos: String,
    end_ids: Vec<TokenId>,
}

impl Model {
    /// The model's chat template, or ChatML when it has none that can be used.
    pub fn chat_template(&self) -> ChatTemplate {
        self.template.clone().unwrap_or_else(ChatTemplate::chatml)
    }

    /// Opens a `.gguf` file or a model folder with all that belongs to it.
    ///
    /// A chat template that does not compile is no error, for the model can still complete text:
    /// it is left out and [`Model::template_error`] says why.
    ///
    /// # Errors
    /// As [`Checkpoint::open`], and if the tokenizer is missing or broken.
    pub fn open(path: &Path) -> Result<Model, StoreError> {
        let checkpoint = Checkpoint::open(path)?;
        let text = match &checkpoint {
            Checkpoint::Gguf(file) => gguf_text(file)?,
            Checkpoint::Safetensors(folder) => folder_text(folder)?,
            Checkpoint::Memory(_) => {
                return Err(StoreError::Unsupported {
                    path: checkpoint.path().to_owned(),
                    reason: "tensors in memory have no tokenizer".to_owned(),
                });
            }
        };
        let compiled = text
            .template
            .as_deref()
            .map(|source| ChatTemplate::new(source, &text.bos, &text.eos))
            .transpose();
        let (template, template_error) = match compiled {
            Ok(template) => (template, None),
            Err(error) => (None, Some(error.to_string())),
        };
        let summary = Summary::new(&checkpoint, template.is_some());
        Ok(Model {
            checkpoint,
            tokenizer: text.tokenizer,
            template,
            template_error,
            eos: text.end_ids,
            summary,
        })
    }
}

fn text_error(path: &Path) -> impl FnOnce(TextError) -> StoreError {
    let path = path.to_path_buf();
    move |source| StoreError::Text { path, source }
}

fn gguf_text(file: &Gguf) -> Result<TextSide, StoreError> {
    let metadata = file.metadata();
    let vocab = vocab::from_metadata(metadata, file.path())?;
    let template = metadata.str("tokenizer.chat_template").map(str::to_owned);
    let named = |id: Option<TokenId>| {
        id.and_then(|id| vocab.tokens.get(id as usize))
            .cloned()
            .unwrap_or_default()
    };
    let tokens = (0..).zip(&vocab.tokens).zip(&vocab.types);
    let control = tokens
        .filter(|(_, kind)| **kind == CONTROL)
        .map(|((id, token), _)| (id, token.as_str()));
    Ok(TextSide {
        bos: named(vocab.bos),
        eos: named(vocab.eos),
        end_ids: end_ids(
            vocab.eos.into_iter().chain(vocab.eot),
            control,
            template.as_deref(),
        ),
        template,
        tokenizer: Tokenizer::from_vocab(vocab).map_err(text_error(file.path()))?,
    })
}

fn folder_text(folder: &Safetensors) -> Result<TextSide, StoreError> {
    let path = folder.path();
    let file = path.join("tokenizer.json");
    let added = hf_folder::added_tokens(&file)?;
    let text = TextConfig::read(path)?;
    let generation: Value =
        hf_folder::read_json_if_there(&path.join("generation_config.json"))?.unwrap_or_default();
    let key = "eos_token_id";
    let mut ids = hf_folder::token_ids(folder.config(), key);
    ids.extend(hf_folder::token_ids(&generation, key));
    let eos_token = added
        .iter()
        .find(|token| Some(&token.content) == text.eos.as_ref());
    ids.extend(eos_token.map(|token| token.id));
    let control = added
        .iter()
        .filter(|token| token.special)
        .map(|token| (token.id, token.content.as_str()));
    let end_ids = end_ids(ids, control, text.chat_template.as_deref());
    Ok(TextSide {
        tokenizer: Tokenizer::from_file(&file).map_err(text_error(&file))?,
        template: text.chat_template,
        bos: text.bos.unwrap_or_default(),
        eos: text.eos.unwrap_or_default(),
        end_ids,
    })
}

/// The given ids and those control tokens that are known to end a turn and occur in the template.
fn end_ids<'a>(
    given: impl IntoIterator<Item = TokenId>,
    control: impl Iterator<Item = (TokenId, &'a str)>,
    template: Option<&str>,
) -> Vec<TokenId> {
    let used = |text: &str| template.is_some_and(|source| source.contains(text));
    let turns = control.filter(|(_, text)| TURN_ENDS.contains(text) && used(text));
    let mut ids: Vec<TokenId> = given.into_iter().chain(turns.map(|(id, _)| id)).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

impl Summary {
    /// The facts of an open checkpoint.
    pub fn new(checkpoint: &Checkpoint, chat_template: bool) -> Summary {
        let parameters = checkpoint
            .tensors()
            .fold(0u64, |sum, info| sum.saturating_add(info.elements() as u64));
        let mut summary = Summary {
            name: None,
            architecture: None,
            parameters,
            layers: None,
            context_length: None,
            quantization: commonest(checkpoint).map_or("none", DType::name).to_owned(),
            file_bytes: checkpoint.file_bytes(),
            license: None,
            chat_template,
        };
        match (checkpoint.metadata(), checkpoint.config_json()) {
            (Some(metadata), _) => summary.add_metadata(metadata),
            (None, Some(config)) => summary.add_config(config),
            (None, None) => {}
        }
        summary
    }

    fn add_metadata(&mut self, metadata: &Metadata) {
        let text = |key: &str| metadata.str(key).map(str::to_owned);
        self.name = text("general.name");
        self.license = text("general.license");
        self.architecture = text("general.architecture");
        let family = self.architecture.as_deref().unwrap_or("llama");
        self.layers = metadata.u64(&format!("{family}.block_count"));
        self.context_length = metadata.u64(&format!("{family}.context_length"));
        if let Some(name) = metadata.u64("general.file_type").and_then(file_type) {
            self.quantization = name.to_owned();
        }
    }

    fn add_config(&mut self, config: &Value) {
        let number = |key: &str| config.get(key).and_then(Value::as_u64);
        self.architecture = config
            .get("model_type")
            .and_then(Value::as_str)
            .map(str::to_owned);
        self.layers = number("num_hidden_layers");
        self.context_length = number("max_position_embeddings");
    }
}

/// The type of most elements.
fn commonest(checkpoint: &Checkpoint) -> Option<DType> {
    let mut counts: BTreeMap<DType, usize> = BTreeMap::new();
    for info in checkpoint.tensors() {
        let count = counts.entry(info.dtype).or_default();
        *count = count.saturating_add(info.elements());
    }
    counts
        .into_iter()
        .max_by_key(|(_, count)| *count)
        .map(|(dtype, _)| dtype)
}

/// llama.cpp's names of `general.file_type` where they say more than a block type.
fn file_type(id: u64) -> Option<&'static str> {
    Some(match id {
        11 => "Q3_K_S",
        12 => "Q3_K_M",
        13 => "Q3_K_L",
        14 => "Q4_K_S",
        15 => "Q4_K_M",
        16 => "Q5_K_S",
        17 => "Q5_K_M",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turn_ends_count_only_as_used_control_tokens() {
        let control = [(7, "<|im_end|>"), (8, "<|eot_id|>"), (9, "<|tool|>")];
        let template = "{{ m }}<|im_end|><|tool|>";
        assert_eq!(end_ids([2, 7], control.into_iter(), Some(template)), [2, 7]);
        assert_eq!(end_ids([2], control.into_iter(), Some(template)), [2, 7]);
        assert_eq!(end_ids([2], control.into_iter(), None), [2]);
        assert_eq!(
            end_ids([], std::iter::empty(), Some("<|im_end|>")),
            [0u32; 0]
        );
    }
}
