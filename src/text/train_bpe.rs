//! Training a byte-level BPE, and the files that make it a tokenizer everywhere.
//!
//! The words are cut as GPT-4 does, but with at most two digits a word, as nanochat does for small vocabularies
//! (<https://github.com/karpathy/nanochat>).

use std::io::Write as _;
use std::path::Path;

use serde_json::json;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::tokenizer::AddedToken;

use crate::ids::TokenId;

use super::rebuild_bpe::encode_error;
use super::tokenizer::MAX_TEXT_BYTES;
use super::vocab::MAX_VOCAB;
use super::{TextError, Tokenizer};

/// Contractions, letters with what leads them in, one or two digits, signs, line breaks, spaces.
const WORDS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,2}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+";

/// ChatML with the token that begins a text in front, as a document begins in pretraining.
const TEMPLATE: &str = "{{ bos_token }}{% for message in messages %}\
    {{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}\
    {% endfor %}\
    {% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// Ids of the bytes, which every vocabulary has.
const BYTES: usize = 256;

/// What to train.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BpeSpec {
    /// How many ids, special tokens and the 256 bytes included.
    pub vocab_size: usize,
    /// Begins a text, and stands in front of every encoded prompt.
    pub bos: String,
    /// Ends a text.
    pub eos: String,
    /// Further special tokens. They and the two above have the first ids, in this order.
    pub specials: Vec<String>,
}

impl BpeSpec {
    /// `<|begin_of_text|>` and `<|end_of_text|>` as Llama 3 has them, and the two tokens of ChatML.
    pub fn new(vocab_size: usize) -> Self {
        BpeSpec {
            vocab_size,
            bos: "<|begin_of_text|>".to_owned(),
            eos: "<|end_of_text|>".to_owned(),
            specials: vec!["<|im_start|>".to_owned(), "<|im_end|>".to_owned()],
        }
    }

    fn names(&self) -> Vec<&str> {
        let ends = [self.bos.as_str(), self.eos.as_str()];
        let names = ends
            .into_iter()
            .chain(self.specials.iter().map(String::as_str));
        names.collect()
    }

    fn check(&self) -> Result<(), TextError> {
        let names = self.names();
        for (at, name) in names.iter().enumerate() {
            if name.is_empty() || names.iter().take(at).any(|other| other == name) {
                return Err(train(format!(
                    "special token {name:?} is empty or named twice; name each once"
                )));
            }
        }
        for name in ["<|im_start|>", "<|im_end|>"] {
            if !names.contains(&name) {
                return Err(train(format!(
                    "the chat template needs the special token {name:?}; add it"
                )));
            }
        }
        let least = BYTES + names.len();
        match self.vocab_size {
            size if (least..=MAX_VOCAB).contains(&size) => Ok(()),
            size => Err(train(format!(
                "a vocabulary of {size} tokens is not possible; choose from {least} (bytes and special tokens) to {MAX_VOCAB}"
            ))),
        }
    }
}

fn train(reason: String) -> TextError {
    TextError::Train { reason }
}

/// A trained tokenizer with its files.
#[derive(Debug, Clone)]
pub struct TrainedTokenizer {
    file: Vec<u8>,
    config: Vec<u8>,
    tokenizer: Tokenizer,
}

impl TrainedTokenizer {
    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Source of the chat template: ChatML after the token that begins a text.
    pub fn template() -> &'static str {
        TEMPLATE
    }

    /// Writes `tokenizer.json` and `tokenizer_config.json`, which transformers and [`Tokenizer::from_file`] read.
    ///
    /// # Errors
    /// [`TextError::Write`] with the file.
    pub fn save(&self, folder: &Path) -> Result<(), TextError> {
        let files = [
            ("tokenizer.json", &self.file),
            ("tokenizer_config.json", &self.config),
        ];
        for (name, bytes) in files {
            let path = folder.join(name);
            let write = || {
                std::fs::create_dir_all(folder)?;
                let mut file = std::fs::File::create(&path)?;
                file.write_all(bytes)?;
                file.sync_all()
            };
            write().map_err(|source| TextError::Write {
                path: path.clone(),
                source,
            })?;
        }
        Ok(())
    }
}

/// Trains a byte-level BPE on texts. The same texts in the same order give the same tokenizer.
///
/// # Errors
/// [`TextError::Train`] when the vocabulary is not possible, or the texts are too few for it;
/// [`TextError::TextLength`] for a text above [`MAX_TEXT_BYTES`].
pub fn train_bpe(
    texts: impl Iterator<Item = String> + Send,
    spec: &BpeSpec,
) -> Result<TrainedTokenizer, TextError> {
    spec.check()?;
    let special = |name: &str| AddedToken::from(name.to_owned(), true).normalized(false);
    let trainer = BpeTrainer::builder()
        .vocab_size(spec.vocab_size)
        .show_progress(false)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .special_tokens(spec.names().into_iter().map(special).collect())
        .build();
    let mut tokenizer = frame(spec)?;
    let mut longest = 0;
    let texts = texts.inspect(|text| longest = longest.max(text.len()));
    let texts = texts.take_while(|text| text.len() <= MAX_TEXT_BYTES);
    tokenizer
        .train(&mut TrainerWrapper::BpeTrainer(trainer), texts)
        .map_err(encode_error)?;
    if longest > MAX_TEXT_BYTES {
        return Err(TextError::TextLength { bytes: longest });
    }
    let found = tokenizer.get_vocab_size(true);
    if found != spec.vocab_size {
        return Err(train(format!(
            "the texts give {found} tokens, not {}; give more text or ask for a smaller vocabulary",
            spec.vocab_size
        )));
    }
    let file = tokenizer
        .to_string(true)
        .map_err(encode_error)?
        .into_bytes();
    let config =
        serde_json::to_vec_pretty(&config(spec)).map_err(|error| train(error.to_string()))?;
    let id = |name: &str| tokenizer.token_to_id(name);
    let tokenizer = Tokenizer::from_bytes(&file)?.with_ends(id(&spec.bos), id(&spec.eos))?;
    Ok(TrainedTokenizer {
        file,
        config,
        tokenizer,
    })
}

/// The tokenizer around the model: read from its own file format, the library's only interface to all of its parts.
fn frame(spec: &BpeSpec) -> Result<tokenizers::Tokenizer, TextError> {
    let bos = spec.bos.as_str();
    let front = json!({"SpecialToken": {"id": bos, "type_id": 0}});
    let text = |id: &str, type_id: u32| json!({"Sequence": {"id": id, "type_id": type_id}});
    // The trainer gives the special tokens the first ids in their order, so the first is 0.
    let file = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": WORDS}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}]},
        "post_processor": {"type": "TemplateProcessing",
            "single": [front, text("A", 0)],
            "pair": [front, text("A", 0), text("B", 1)],
            "special_tokens": {bos: {"id": bos, "ids": [0], "tokens": [bos]}}},
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": serde_json::to_value(BPE::default()).map_err(|error| train(error.to_string()))?,
    });
    let bytes = serde_json::to_vec(&file).map_err(|error| train(error.to_string()))?;
    tokenizers::Tokenizer::from_bytes(bytes).map_err(encode_error)
}

fn config(spec: &BpeSpec) -> serde_json::Value {
    let added = |(id, name): (TokenId, &str)| {
        let token = json!({"content": name, "lstrip": false, "normalized": false, "rstrip": false,
            "single_word": false, "special": true});
        (id.to_string(), token)
    };
    let tokens: serde_json::Map<_, _> = (0..).zip(spec.names()).map(added).collect();
    json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": spec.bos,
        "eos_token": spec.eos,
        "pad_token": spec.eos,
        "additional_special_tokens": spec.specials,
        "added_tokens_decoder": tokens,
        "clean_up_tokenization_spaces": false,
        "chat_template": TEMPLATE,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::{ChatTemplate, Controls, Message, RenderOptions, Role, Specials};

    fn texts() -> impl Iterator<Item = String> + Send {
        let line = |n: u32| format!("the {n} quick foxes jumped over {} lazy dogs\n", n * 37);
        (0..200).map(line)
    }

    fn trained() -> TrainedTokenizer {
        train_bpe(texts(), &BpeSpec::new(320)).unwrap()
    }

    /// Test N5 of the tokenizer: unicode there and back, unique special ids, no special token from plain text.
    #[test]
    fn n5_round_trip_and_special_tokens() {
        let trained = trained();
        let tokenizer = trained.tokenizer();
        for text in [
            "héllo wörld",
            "日本語 🙂👩‍👩‍👧 x",
            "a\n\n  b\t12345",
            "",
            " lead",
        ] {
            let ids = tokenizer.encode(text, Specials::Literal).unwrap();
            assert_eq!(tokenizer.decode(&ids, Controls::Keep), text);
        }
        let names = BpeSpec::new(0);
        let ids: Vec<_> = names
            .names()
            .iter()
            .map(|n| tokenizer.token_to_id(n))
            .collect();
        assert_eq!(ids, [Some(0), Some(1), Some(2), Some(3)]);
        for name in names.names() {
            let plain = tokenizer.encode(name, Specials::Literal).unwrap();
            assert!(plain.iter().all(|id| !tokenizer.is_special(*id)), "{name}");
            assert_eq!(tokenizer.encode(name, Specials::Parse).unwrap().len(), 1);
        }
        assert_eq!(tokenizer.vocab_size(), 320);
    }

    #[test]
    fn numbers_are_cut_after_two_digits() {
        let trained = trained();
        let ids = trained
            .tokenizer()
            .encode("7400", Specials::Literal)
            .unwrap();
        assert!(ids.len() >= 2);
        let longest = (0..320).map(|id| trained.tokenizer().token_bytes(id));
        let digits = longest
            .filter(|b| b.iter().all(u8::is_ascii_digit))
            .map(|b| b.len());
        assert_eq!(digits.max(), Some(2));
    }

    #[test]
    fn the_files_give_the_same_tokenizer_and_a_chat_template() {
        let trained = trained();
        let folder = tempfile::tempdir().unwrap();
        trained.save(folder.path()).unwrap();
        let read = Tokenizer::from_file(&folder.path().join("tokenizer.json")).unwrap();
        assert_eq!((read.bos(), read.eos()), (Some(0), Some(1)));
        let prompt = read.encode_prompt("the foxes").unwrap();
        assert_eq!(prompt.first(), Some(&0));
        assert_eq!(
            prompt,
            trained.tokenizer().encode_prompt("the foxes").unwrap()
        );
        let config = std::fs::read(folder.path().join("tokenizer_config.json")).unwrap();
        let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
        let template = config["chat_template"].as_str().unwrap();
        let template = ChatTemplate::new(template, "<|begin_of_text|>", "<|end_of_text|>").unwrap();
        let chat = [Message::new(Role::User, "hi")];
        let text = template.render(&chat, &RenderOptions::default()).unwrap();
        assert_eq!(
            text,
            "<|begin_of_text|><|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
        );
        let file = folder.path().join("tokenizer.json");
        assert!(matches!(trained.save(&file), Err(TextError::Write { .. })));
    }

    #[test]
    fn training_again_gives_the_same_bytes() {
        assert_eq!(trained().file, trained().file);
    }

    #[test]
    fn what_cannot_be_trained_is_refused() {
        let refused = |spec: BpeSpec| train_bpe(texts(), &spec).unwrap_err().to_string();
        assert!(refused(BpeSpec::new(259)).contains("from 260"));
        assert!(refused(BpeSpec::new(30_000)).contains("give more text"));
        let twice = BpeSpec {
            eos: "<|im_end|>".to_owned(),
            ..BpeSpec::new(300)
        };
        assert!(refused(twice).contains("named twice"));
        let bare = BpeSpec {
            specials: Vec::new(),
            ..BpeSpec::new(300)
        };
        assert!(refused(bare).contains("<|im_start|>"));
        let long = std::iter::once("x".repeat(MAX_TEXT_BYTES + 1));
        let error = train_bpe(long, &BpeSpec::new(300)).unwrap_err();
        assert!(matches!(error, TextError::TextLength { .. }), "{error}");
    }
}
