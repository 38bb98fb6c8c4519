//! What can be wrong with a vocabulary, a text or a chat template.

use std::io;
use std::path::PathBuf;

use crate::ids::TokenId;

use super::tokenizer::MAX_TEXT_BYTES;
use super::vocab::{MAX_TOKEN_BYTES, MAX_VOCAB};

/// Why a tokenizer or a template could not be made or used.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// A file of the tokenizer cannot be read.
    #[error("cannot read {}: {source}; check the path and its permissions", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A tokenizer file is not what it should be.
    #[error("tokenizer file is not valid: {reason}; export it again with the tokenizers library")]
    TokenizerFile {
        /// What the parser found.
        reason: String,
    },
    /// The vocabulary is empty or too large.
    #[error(
        "vocabulary has {found} tokens, from 1 to {MAX_VOCAB} are supported; check the model file"
    )]
    VocabSize {
        /// How many tokens there are.
        found: usize,
    },
    /// A list of the vocabulary does not have one entry a token.
    #[error(
        "vocabulary list `{field}` has {found} entries for {size} tokens; convert the model again"
    )]
    VocabShape {
        /// Which list.
        field: &'static str,
        /// Its length.
        found: usize,
        /// How many tokens there are.
        size: usize,
    },
    /// A special token's id is not in the vocabulary.
    #[error(
        "{field} token id {id} is outside the vocabulary of {size} tokens; convert the model again"
    )]
    TokenIdRange {
        /// Which special token.
        field: &'static str,
        /// Its id.
        id: TokenId,
        /// How many tokens there are.
        size: usize,
    },
    /// A token type that ggml does not define.
    #[error("token {id} has the unknown type {found}; convert the model again")]
    TokenType {
        /// The token.
        id: usize,
        /// Its type.
        found: i32,
    },
    /// A token is longer than any real one.
    #[error("token {id} is longer than {MAX_TOKEN_BYTES} bytes; the model file is damaged")]
    TokenLength {
        /// The token.
        id: usize,
    },
    /// A score is not a number.
    #[error("the score of token {id} is not a number; the model file is damaged")]
    Score {
        /// The token.
        id: usize,
    },
    /// A BPE vocabulary without merges.
    #[error("a bpe vocabulary needs merges and has none; convert the model again")]
    NoMerges,
    /// A merge that is not two tokens giving a third.
    #[error(
        "merge {index} ({merge:?}) names a token that the vocabulary lacks; convert the model again"
    )]
    Merge {
        /// Its place in the list.
        index: usize,
        /// The merge.
        merge: String,
    },
    /// A pre-tokenizer that is not known here.
    #[error(
        "pre-tokenizer {name:?} is not known; known are {known}; use the model's tokenizer.json"
    )]
    PreTokenizer {
        /// What the model file says.
        name: String,
        /// The names that would do.
        known: String,
    },
    /// A `tokenizer.json` whose tokens cannot be spelled exactly.
    #[error(
        "tokenizer.json has the decoder {found}; byte-level and SentencePiece ones are supported"
    )]
    Decoder {
        /// Its type.
        found: String,
    },
    /// The text is too long to encode in one go.
    #[error("text of {bytes} bytes is longer than {MAX_TEXT_BYTES}; split it")]
    TextLength {
        /// Its length.
        bytes: usize,
    },
    /// The tokenizer refused the text.
    #[error("cannot encode text: {reason}")]
    Encode {
        /// What it said.
        reason: String,
    },
    /// Text of a client spells a control token where it cannot be told from the template's own.
    #[error("{place} spells a control token of this model; remove it from the text")]
    ControlText {
        /// Which part of the request.
        place: String,
    },
    /// The template's source or output is too long.
    #[error("chat template {part} is longer than {max} bytes; send less or use a shorter template")]
    TemplateSize {
        /// `source` or `output`.
        part: &'static str,
        /// The bound.
        max: usize,
    },
    /// The template does not compile, failed, or refused the messages.
    #[error("chat template: {reason}")]
    Template {
        /// What it said.
        reason: String,
    },
    /// A template argument that is not on the list.
    #[error("template argument {name:?} is not allowed; allowed are {allowed}")]
    Argument {
        /// What was sent.
        name: String,
        /// The names that would do.
        allowed: String,
    },
    /// A template from which the assistant's own words cannot be told.
    #[error(
        "chat template: cannot tell what the assistant says in message {message}: {reason}; use a template with {{% generation %}} marks"
    )]
    Turns {
        /// The message, counted from 0.
        message: usize,
        /// What does not fit.
        reason: &'static str,
    },
    /// A tokenizer cannot be trained as asked.
    #[error("cannot train a tokenizer: {reason}")]
    Train {
        /// Why not, and what to change.
        reason: String,
    },
    /// A file of the tokenizer cannot be written.
    #[error("cannot write {}: {source}; check the folder and its permissions", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}
