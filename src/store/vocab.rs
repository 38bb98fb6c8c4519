//! The vocabulary inside a GGUF file, checked and handed to the tokenizer.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use std::path::Path;

use super::StoreError;
use super::gguf::{Array, Metadata};
use crate::ids::TokenId;
use crate::text::{Vocab, VocabModel};

/// ggml's type of a control token.
pub(super) const CONTROL: i32 = 3;

/// Reads the `tokenizer.ggml.*` entries of the file at `path`. What a file leaves out is filled in
/// as llama.cpp does.
///
/// # Errors
/// [`StoreError::Malformed`] if lists disagree in length or an id is not in the vocabulary;
/// [`StoreError::Unsupported`] for a tokenizer other than "gpt2" (BPE) and "llama" (SentencePiece).
pub fn from_metadata(metadata: &Metadata, path: &Path) -> Result<Vocab, StoreError> {
    let model = read_model(metadata, path)?;
    let tokens = metadata
        .strings("tokenizer.ggml.tokens")
        .filter(|tokens| !tokens.is_empty())
        .ok_or_else(|| missing(path, "tokenizer.ggml.tokens", "a list of texts"))?
        .to_vec();
    let merges = metadata
        .strings("tokenizer.ggml.merges")
        .unwrap_or_default()
        .to_vec();
    let spm = model == VocabModel::Spm;
    if merges.is_empty() && !spm {
        return Err(missing(path, "tokenizer.ggml.merges", "a list of texts"));
    }
    let pre = metadata.str("tokenizer.ggml.pre").map(str::to_owned);
    let llama3 = matches!(pre.as_deref(), Some("llama-bpe" | "llama3" | "llama-v3"));
    let flag = |key: &str, default| metadata.bool(key).unwrap_or(default);
    let id = |key: &str, default| read_id(metadata, key, default, tokens.len(), path);
    let spm_id = |id: TokenId| spm.then_some(id);
    Ok(Vocab {
        model,
        scores: read_scores(metadata, tokens.len(), path)?,
        types: read_types(metadata, tokens.len(), path)?,
        merges,
        bos: id("tokenizer.ggml.bos_token_id", spm_id(1))?,
        eos: id("tokenizer.ggml.eos_token_id", spm_id(2))?,
        eot: id("tokenizer.ggml.eot_token_id", None)?,
        unk: id("tokenizer.ggml.unknown_token_id", spm_id(0))?,
        add_bos: flag("tokenizer.ggml.add_bos_token", spm || llama3),
        add_eos: flag("tokenizer.ggml.add_eos_token", false),
        add_space_prefix: flag("tokenizer.ggml.add_space_prefix", spm),
        pre,
        tokens,
    })
}

fn read_model(metadata: &Metadata, path: &Path) -> Result<VocabModel, StoreError> {
    match metadata.str("tokenizer.ggml.model") {
        Some("gpt2") => Ok(VocabModel::Bpe),
        Some("llama") => Ok(VocabModel::Spm),
        Some(other) => Err(StoreError::Unsupported {
            path: path.to_path_buf(),
            reason: format!("its tokenizer is {other:?}, and \"gpt2\" and \"llama\" are read"),
        }),
        None => Err(missing(path, "tokenizer.ggml.model", "a text")),
    }
}

fn missing(path: &Path, key: &str, kind: &str) -> StoreError {
    StoreError::malformed(
        path,
        key,
        format!("is missing or empty where {kind} belongs"),
    )
}

/// One score a token; all zero if the file has none.
fn read_scores(metadata: &Metadata, count: usize, path: &Path) -> Result<Vec<f32>, StoreError> {
    let key = "tokenizer.ggml.scores";
    match metadata.get(key).map(|value| value.as_array()) {
        None => Ok(vec![0.0; count]),
        Some(Some(Array::F32(scores))) if scores.len() == count => Ok(scores.clone()),
        Some(_) => Err(StoreError::malformed(
            path,
            key,
            format!("is no list of {count} f32"),
        )),
    }
}

/// One type a token, or none at all: the tokenizer then guesses.
fn read_types(metadata: &Metadata, count: usize, path: &Path) -> Result<Vec<i32>, StoreError> {
    let key = "tokenizer.ggml.token_type";
    match metadata.get(key).map(|value| value.as_array()) {
        None => Ok(Vec::new()),
        Some(Some(Array::I32(types))) if types.len() == count => Ok(types.clone()),
        Some(_) => Err(StoreError::malformed(
            path,
            key,
            format!("is no list of {count} i32"),
        )),
    }
}

/// An id of the vocabulary. All ones is how some writers say that there is none.
fn read_id(
    metadata: &Metadata,
    key: &str,
    default: Option<TokenId>,
    count: usize,
    path: &Path,
) -> Result<Option<TokenId>, StoreError> {
    let Some(value) = metadata.get(key) else {
        return Ok(default.filter(|id| (*id as usize) < count));
    };
    match value.as_u64() {
        Some(id) if id == u64::from(u32::MAX) => Ok(None),
        Some(id) if id < count as u64 => Ok(TokenId::try_from(id).ok()),
        _ => {
            let reason = format!("is {value:?} in a vocabulary of {count}");
            Err(StoreError::malformed(path, key, reason))
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::super::gguf::write::Writer;
    use super::super::gguf::{Header, Value};
    use super::*;

    fn texts(list: &[&str]) -> Value {
        Value::Array(Array::String(list.iter().map(|t| t.to_string()).collect()))
    }

    fn metadata(entries: &[(&str, Value)]) -> Metadata {
        let writer = entries.iter().fold(Writer::new(), |writer, (key, value)| {
            writer.metadata(&format!("tokenizer.ggml.{key}"), value.clone())
        });
        Header::parse(&writer.finish()).unwrap().metadata
    }

    fn read(entries: &[(&str, Value)]) -> Result<Vocab, String> {
        from_metadata(&metadata(entries), Path::new("m.gguf")).map_err(|e| e.to_string())
    }

    #[test]
    fn gaps_are_filled_as_the_kind_asks() {
        let spm = read(&[
            ("model", Value::String("llama".into())),
            ("tokens", texts(&["<unk>", "<s>", "</s>", "a"])),
        ])
        .unwrap();
        assert_eq!((spm.bos, spm.eos, spm.unk), (Some(1), Some(2), Some(0)));
        assert!(spm.add_bos && spm.add_space_prefix && !spm.add_eos);
        assert_eq!((spm.scores.len(), spm.types), (4, Vec::new()));
        let bpe = read(&[
            ("model", Value::String("gpt2".into())),
            ("pre", Value::String("llama-bpe".into())),
            ("tokens", texts(&["a", "b", "ab"])),
            ("merges", texts(&["a b"])),
            ("eos_token_id", Value::U32(2)),
            ("bos_token_id", Value::U32(u32::MAX)),
        ])
        .unwrap();
        assert_eq!((bpe.bos, bpe.eos), (None, Some(2)));
        assert!(bpe.add_bos && !bpe.add_space_prefix);
    }

    #[test]
    fn lists_and_ids_must_agree() {
        let model = ("model", Value::String("llama".into()));
        let tokens = ("tokens", texts(&["a", "b"]));
        let cases: [(&str, (&str, Value)); 4] = [
            ("scores", ("scores", Value::Array(Array::F32(vec![0.0])))),
            (
                "token_type",
                ("token_type", Value::Array(Array::I32(vec![1; 3]))),
            ),
            ("eos_token_id", ("eos_token_id", Value::U32(2))),
            ("bos_token_id", ("bos_token_id", Value::I32(-2))),
        ];
        for (part, extra) in cases {
            let error = read(&[model.clone(), tokens.clone(), extra]).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
        assert!(
            read(&[tokens])
                .unwrap_err()
                .contains("tokenizer.ggml.model")
        );
        assert!(
            read(&[("model", Value::String("bert".into()))])
                .unwrap_err()
                .contains("bert")
        );
    }
}
