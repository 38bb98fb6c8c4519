//! The small JSON files beside the weights of a safetensors folder.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use std::io::Read;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::StoreError;
use crate::ids::TokenId;

/// The largest JSON file that is read whole: the largest published tokenizers are about 35 MB.
const LARGEST: u64 = 256 << 20;

/// True if the folder has `config.json` and safetensors under one of the two usual names.
pub fn looks_like(folder: &Path) -> bool {
    let has = |name: &str| folder.join(name).is_file();
    has("config.json") && (has("model.safetensors") || has("model.safetensors.index.json"))
}

/// The text of a file that is not larger than the limit.
pub fn read_text(path: &Path) -> Result<String, StoreError> {
    let about = std::fs::metadata(path).map_err(StoreError::io("open", path))?;
    if !about.is_file() {
        return Err(StoreError::malformed(path, "file", "is not a regular file"));
    }
    let file = std::fs::File::open(path).map_err(StoreError::io("open", path))?;
    let mut text = String::new();
    file.take(LARGEST.saturating_add(1))
        .read_to_string(&mut text)
        .map_err(StoreError::io("read", path))?;
    if text.len() as u64 > LARGEST {
        return Err(StoreError::malformed(
            path,
            "file",
            format!("is larger than {LARGEST} bytes"),
        ));
    }
    Ok(text)
}

/// A JSON file that must be there.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, StoreError> {
    let text = read_text(path)?;
    serde_json::from_str(&text)
        .map_err(|error| StoreError::malformed(path, "json", error.to_string()))
}

/// A JSON file that may be missing.
pub fn read_json_if_there<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StoreError> {
    if path.exists() {
        read_json(path).map(Some)
    } else {
        Ok(None)
    }
}

/// What the folder says about its text side, beyond `tokenizer.json`.
#[derive(Debug, Default, PartialEq)]
pub struct TextConfig {
    /// The chat template's source.
    pub chat_template: Option<String>,
    /// The text of the beginning-of-text token.
    pub bos: Option<String>,
    /// The text of the end-of-text token.
    pub eos: Option<String>,
}

impl TextConfig {
    /// Reads `tokenizer_config.json`, and `chat_template.jinja`, which wins.
    pub fn read(folder: &Path) -> Result<TextConfig, StoreError> {
        let path = folder.join("tokenizer_config.json");
        let config: Value = read_json_if_there(&path)?.unwrap_or(Value::Null);
        let own = folder.join("chat_template.jinja");
        let chat_template = match own.exists() {
            true => Some(read_text(&own)?),
            false => template(config.get("chat_template")),
        };
        Ok(TextConfig {
            chat_template,
            bos: token_text(config.get("bos_token")),
            eos: token_text(config.get("eos_token")),
        })
    }
}

/// A template is a string, or a list of named ones of which "default" is for chat.
fn template(value: Option<&Value>) -> Option<String> {
    let named = |entry: &&Value| entry.get("name").and_then(Value::as_str) == Some("default");
    match value? {
        Value::String(source) => Some(source.clone()),
        Value::Array(list) => {
            let entry = list.iter().find(named).or_else(|| list.first())?;
            entry.get("template")?.as_str().map(str::to_owned)
        }
        _ => None,
    }
}

/// A token is a string, or an object with its `content`.
fn token_text(value: Option<&Value>) -> Option<String> {
    let value = value?;
    value
        .as_str()
        .or_else(|| value.get("content")?.as_str())
        .map(str::to_owned)
}

/// The ids under `key` of `config.json` and `generation_config.json`: a number or a list each.
pub fn token_ids(config: &Value, key: &str) -> Vec<TokenId> {
    let id = |value: &Value| value.as_u64().and_then(|id| TokenId::try_from(id).ok());
    match config.get(key) {
        Some(Value::Array(list)) => list.iter().filter_map(id).collect(),
        Some(value) => id(value).into_iter().collect(),
        None => Vec::new(),
    }
}

/// One of `tokenizer.json`'s added tokens.
#[derive(Debug, Deserialize)]
pub struct AddedToken {
    /// The id.
    pub id: TokenId,
    /// The text.
    pub content: String,
    /// True for control tokens.
    #[serde(default)]
    pub special: bool,
}

/// The added tokens of `tokenizer.json`.
pub fn added_tokens(tokenizer: &Path) -> Result<Vec<AddedToken>, StoreError> {
    #[derive(Deserialize)]
    struct Tokens {
        #[serde(default)]
        added_tokens: Vec<AddedToken>,
    }
    read_json::<Tokens>(tokenizer).map(|file| file.added_tokens)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn templates_and_tokens_come_in_two_shapes_each() {
        let list =
            json!([{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]);
        assert_eq!(template(Some(&list)), Some("d".into()));
        assert_eq!(template(Some(&json!("x"))), Some("x".into()));
        assert_eq!(template(Some(&json!([]))), None);
        assert_eq!(
            token_text(Some(&json!({"content": "<s>"}))),
            Some("<s>".into())
        );
        assert_eq!(token_text(Some(&json!("<s>"))), Some("<s>".into()));
        assert_eq!(token_text(Some(&Value::Null)), None);
    }

    #[test]
    fn ids_are_a_number_or_a_list() {
        let config = json!({"eos_token_id": [1, 2, -3], "bos_token_id": 7});
        assert_eq!(token_ids(&config, "eos_token_id"), [1, 2]);
        assert_eq!(token_ids(&config, "bos_token_id"), [7]);
        assert_eq!(token_ids(&config, "pad_token_id"), [0u32; 0]);
    }

    #[test]
    fn a_template_file_wins_over_the_config() {
        let folder = tempfile::tempdir().unwrap();
        let config = r#"{"chat_template": "config", "eos_token": "</s>"}"#;
        std::fs::write(folder.path().join("tokenizer_config.json"), config).unwrap();
        let read = TextConfig::read(folder.path()).unwrap();
        assert_eq!(read.chat_template.as_deref(), Some("config"));
        std::fs::write(folder.path().join("chat_template.jinja"), "file").unwrap();
        let read = TextConfig::read(folder.path()).unwrap();
        assert_eq!(
            (read.chat_template.as_deref(), read.eos.as_deref()),
            (Some("file"), Some("</s>"))
        );
    }
}
