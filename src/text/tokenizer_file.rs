//! Reading the tokenizer of a checkpoint: a `tokenizer.json`, and what stands beside it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use tokenizers::ModelWrapper;

use super::rebuild_bpe::encode_error;
use super::spelling::Spelling;
use super::tokenizer::Frame;
use super::{TextError, Tokenizer};

impl Tokenizer {
    /// Reads a `tokenizer.json`, and the names of `bos` and `eos` from a `tokenizer_config.json`
    /// beside it when there is one.
    ///
    /// # Errors
    /// [`TextError::Read`], or that of [`Tokenizer::from_bytes`].
    pub fn from_file(path: &Path) -> Result<Self, TextError> {
        let read = |path: &Path| {
            std::fs::read(path).map_err(|source| TextError::Read {
                path: path.to_owned(),
                source,
            })
        };
        let tokenizer = Self::from_bytes(&read(path)?)?;
        let config = path.with_file_name("tokenizer_config.json");
        if !config.is_file() {
            return Ok(tokenizer);
        }
        let config: serde_json::Value =
            serde_json::from_slice(&read(&config)?).map_err(file_error)?;
        let id = |key: &str| {
            let named = config.get(key)?;
            let name = named.as_str().or_else(|| named.get("content")?.as_str())?;
            tokenizer.token_to_id(name)
        };
        let (bos, eos) = (id("bos_token"), id("eos_token"));
        tokenizer.with_ends(bos, eos)
    }

    /// Reads the contents of a `tokenizer.json`. Truncation and padding settings are dropped: they
    /// belong to training scripts.
    ///
    /// # Errors
    /// [`TextError::TokenizerFile`] when it does not parse, [`TextError::Decoder`] when its tokens
    /// are neither byte-level nor SentencePiece-like.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TextError> {
        // The library indexes a fixed buffer by the lengths of a merge, so a bad merge panics.
        let parsed = catch_unwind(AssertUnwindSafe(|| {
            tokenizers::Tokenizer::from_bytes(bytes)
        }));
        let mut parsing = parsed
            .map_err(|_| file_error("its merges do not fit its vocabulary"))?
            .map_err(file_error)?;
        parsing.with_truncation(None).map_err(encode_error)?;
        parsing.with_padding(None);
        let spelling = Spelling::of_tokenizer(&parsing)?;
        let unk = unknown_of(&parsing).and_then(|name| parsing.token_to_id(&name));
        Ok(Self::assemble(
            parsing,
            spelling,
            Frame::PostProcessor,
            [None, None, unk],
        ))
    }
}

fn unknown_of(tokenizer: &tokenizers::Tokenizer) -> Option<String> {
    match tokenizer.get_model() {
        ModelWrapper::BPE(model) => model.get_unk_token().clone(),
        ModelWrapper::WordLevel(model) => Some(model.unk_token.clone()),
        ModelWrapper::WordPiece(model) => Some(model.unk_token.clone()),
        ModelWrapper::Unigram(_) => Some("<unk>".to_owned()),
    }
}

fn file_error(reason: impl ToString) -> TextError {
    TextError::TokenizerFile {
        reason: reason.to_string(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::text::{Controls, Specials};
    use serde_json::json;

    fn file() -> serde_json::Value {
        let added = |id: u32, content: &str, special: bool| {
            json!({"id": id, "content": content, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": special})
        };
        json!({
            "version": "1.0", "truncation": {"direction": "Right", "max_length": 2,
                "strategy": "LongestFirst", "stride": 0}, "padding": null,
            "added_tokens": [added(0, "<s>", true), added(5, "<tag>", false)],
            "normalizer": null,
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false,
                "trim_offsets": true, "use_regex": true},
            "post_processor": {"type": "TemplateProcessing",
                "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
                    {"Sequence": {"id": "A", "type_id": 0}}],
                "pair": [{"Sequence": {"id": "A", "type_id": 0}}],
                "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}}},
            "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true,
                "use_regex": true},
            "model": {"type": "BPE", "dropout": null, "unk_token": null,
                "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": false,
                "byte_fallback": false, "ignore_merges": false,
                "vocab": {"<s>": 0, "a": 1, "b": 2, "ab": 3, "Ġ": 4, "<tag>": 5, "<": 6, "s": 7, ">": 8},
                "merges": [["a", "b"]]}
        })
    }

    /// A tokenizer of nine tokens, read from a file.
    pub(crate) fn small() -> Tokenizer {
        from(&file()).unwrap()
    }

    fn from(file: &serde_json::Value) -> Result<Tokenizer, TextError> {
        Tokenizer::from_bytes(&serde_json::to_vec(file).unwrap())
    }

    #[test]
    fn a_tokenizer_file_frames_prompts_by_its_post_processor() {
        let tokenizer = from(&file()).unwrap();
        assert_eq!(tokenizer.encode_prompt("ab ab").unwrap(), [0, 3, 4, 3]);
        assert_eq!(tokenizer.encode("ab<s>", Specials::Parse).unwrap(), [3, 0]);
        assert_eq!(
            tokenizer.encode("ab<s>", Specials::Literal).unwrap(),
            [3, 6, 7, 8]
        );
        assert_eq!(
            tokenizer.decode(&[0, 3, 4, 3, 5], Controls::Skip),
            "ab ab<tag>"
        );
        assert_eq!(tokenizer.decode(&[0, 3, 4, 99], Controls::Keep), "<s>ab ");
        assert_eq!((tokenizer.vocab_size(), tokenizer.bos()), (9, None));
        assert!(tokenizer.is_special(0) && !tokenizer.is_special(5));
    }

    #[test]
    fn files_on_disk_name_their_ends_beside() {
        let dir = std::env::temp_dir().join(format!("llamahome-text-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("tokenizer.json");
        std::fs::write(&path, serde_json::to_vec(&file()).unwrap()).unwrap();
        std::fs::write(
            dir.join("tokenizer_config.json"),
            r#"{"bos_token": {"content": "<s>"}, "eos_token": "ab"}"#,
        )
        .unwrap();
        let tokenizer = Tokenizer::from_file(&path).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(0), Some(3)));
        assert!(matches!(
            Tokenizer::from_file(&path),
            Err(TextError::Read { .. })
        ));
    }

    #[test]
    fn files_that_are_not_tokenizers_are_refused() {
        let change = |pointer: &str, value: serde_json::Value| {
            let mut file = file();
            *file.pointer_mut(pointer).unwrap() = value;
            from(&file).unwrap_err()
        };
        let oversized = change("/model/merges", json!([["aaaaaaaa", "b"]]));
        assert!(
            matches!(oversized, TextError::TokenizerFile { .. }),
            "{oversized}"
        );
        let decoder = change("/decoder", json!(null));
        assert!(matches!(decoder, TextError::Decoder { .. }), "{decoder}");
        let sparse = change("/model/vocab/ab", json!(4_000_000_000u32));
        assert!(matches!(sparse, TextError::VocabSize { .. }), "{sparse}");
        assert!(Tokenizer::from_bytes(b"{}").is_err());
    }
}
