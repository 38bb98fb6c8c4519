//! The tokenizer of a model: text to ids and back.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use crate::ids::TokenId;

use super::TextError;
use super::control_names::ControlNames;
use super::rebuild_bpe::{bpe, encode_error};
use super::rebuild_spm::spm;
use super::spelling::Spelling;
use super::vocab::{TokenKind, Vocab, VocabModel};

/// Most bytes that are encoded in one call (4 MiB): it keeps the pre-tokenizer's regular
/// expressions far from their own limits.
pub const MAX_TEXT_BYTES: usize = 4 << 20;

/// What control tokens spelled in a text become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Specials {
    /// The control tokens. For text written by a template or an operator.
    Parse,
    /// Ordinary tokens that spell the same text. For text of a client.
    Literal,
}

/// What a decoded text shows of control tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Controls {
    /// Their names.
    Keep,
    /// Nothing.
    Skip,
}

/// Encodes and decodes text. A clone shares everything; `Send` and `Sync`.
#[derive(Debug, Clone)]
pub struct Tokenizer(Arc<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    parsing: tokenizers::Tokenizer,
    /// The same with control tokens not parsed; built when a text first needs it.
    literal: OnceLock<tokenizers::Tokenizer>,
    spelling: Spelling,
    control_names: ControlNames,
    frame: Frame,
    bos: Option<TokenId>,
    eos: Option<TokenId>,
    unk: Option<TokenId>,
}

/// What is put around a prompt.
#[derive(Debug, Clone, Copy)]
pub(super) enum Frame {
    Vocab { bos: bool, eos: bool },
    PostProcessor,
}

impl Tokenizer {
    /// Rebuilds the tokenizer from the vocabulary of a model file.
    ///
    /// # Errors
    /// Names what is wrong with the vocabulary; see [`Vocab::check`].
    pub fn from_vocab(vocab: Vocab) -> Result<Self, TextError> {
        vocab.check()?;
        let kinds = vocab.kinds()?;
        let parsing = match vocab.model {
            VocabModel::Bpe => bpe(&vocab, &kinds)?,
            VocabModel::Spm => spm(&vocab, &kinds)?,
        };
        let spelling = Spelling::of_vocab(&vocab, &kinds);
        let frame = Frame::Vocab {
            bos: vocab.add_bos,
            eos: vocab.add_eos,
        };
        let is_unknown = |id: &TokenId| kinds.get(*id as usize) == Some(&TokenKind::Unknown);
        let unk = vocab.unk.filter(is_unknown);
        Ok(Self::assemble(
            parsing,
            spelling,
            frame,
            [vocab.bos, vocab.eos, unk],
        ))
    }

    pub(super) fn assemble(
        parsing: tokenizers::Tokenizer,
        spelling: Spelling,
        frame: Frame,
        [bos, eos, unk]: [Option<TokenId>; 3],
    ) -> Self {
        let control_names = ControlNames::of(&spelling, unk);
        let literal = OnceLock::new();
        Tokenizer(Arc::new(Inner {
            parsing,
            literal,
            spelling,
            control_names,
            frame,
            bos,
            eos,
            unk,
        }))
    }

    /// The tokenizer as `tokenizer.json` has it, which [`Tokenizer::from_bytes`] reads.
    ///
    /// # Errors
    /// [`TextError::Train`] when the library cannot write it.
    pub fn to_json(&self) -> Result<String, TextError> {
        let text = self.0.parsing.to_string(true);
        text.map_err(|error| TextError::Train {
            reason: format!("the tokenizer cannot be written: {error}"),
        })
    }

    /// The same tokenizer with other `bos` and `eos` tokens.
    ///
    /// # Errors
    /// [`TextError::TokenIdRange`] for an id outside the vocabulary.
    pub fn with_ends(
        mut self,
        bos: Option<TokenId>,
        eos: Option<TokenId>,
    ) -> Result<Self, TextError> {
        let size = self.vocab_size();
        for (field, id) in [("bos", bos), ("eos", eos)] {
            if let Some(id) = id.filter(|id| *id as usize >= size) {
                return Err(TextError::TokenIdRange { field, id, size });
            }
        }
        let inner = Arc::make_mut(&mut self.0);
        (inner.bos, inner.eos) = (bos, eos);
        Ok(self)
    }

    /// Ids of a text, with nothing put around it: chat templates write their own `bos`.
    ///
    /// # Errors
    /// [`TextError::TextLength`] above [`MAX_TEXT_BYTES`]; [`TextError::ControlText`] when a text
    /// to be taken literally can only be spelled with a control token.
    pub fn encode(&self, text: &str, specials: Specials) -> Result<Vec<TokenId>, TextError> {
        let ids = run(&self.0.parsing, text, false)?;
        if specials == Specials::Parse || !ids.iter().any(|id| self.is_control(*id)) {
            return Ok(ids);
        }
        let ids = run(self.literal(), text, false)?;
        if ids.iter().any(|id| self.is_control(*id)) {
            return Err(TextError::ControlText {
                place: "the text".to_owned(),
            });
        }
        Ok(ids)
    }

    /// Ids of a bare prompt: control tokens are parsed, and what the model expects around a text
    /// is put there.
    ///
    /// # Errors
    /// [`TextError::TextLength`] above [`MAX_TEXT_BYTES`].
    pub fn encode_prompt(&self, text: &str) -> Result<Vec<TokenId>, TextError> {
        let Frame::Vocab { bos, eos } = self.0.frame else {
            return run(&self.0.parsing, text, true);
        };
        let ids = self.encode(text, Specials::Parse)?;
        let front = self.0.bos.filter(|_| bos);
        let back = self.0.eos.filter(|_| eos);
        Ok(front.into_iter().chain(ids).chain(back).collect())
    }

    /// The text of ids; what is not UTF-8 becomes U+FFFD.
    pub fn decode(&self, ids: &[TokenId], controls: Controls) -> String {
        let shown = |id: &&TokenId| controls == Controls::Keep || !self.is_special(**id);
        let mut bytes = Vec::with_capacity(ids.len() * 4);
        for id in ids.iter().filter(shown) {
            bytes.extend_from_slice(self.0.spelling.bytes(*id));
        }
        let text = match bytes.strip_prefix(b" ") {
            Some(rest) if self.strips_leading_space() => rest,
            _ => &bytes,
        };
        String::from_utf8_lossy(text).into_owned()
    }

    /// The exact bytes of one token; none for an id outside the vocabulary.
    pub fn token_bytes(&self, id: TokenId) -> Vec<u8> {
        self.0.spelling.bytes(id).to_vec()
    }

    /// Whether the token is a control or unknown token, which no shown text contains.
    pub fn is_special(&self, id: TokenId) -> bool {
        self.0.spelling.is_special(id)
    }

    /// How many ids there are: the largest id, plus one.
    pub fn vocab_size(&self) -> usize {
        self.0.spelling.size()
    }

    /// Begins a text.
    pub fn bos(&self) -> Option<TokenId> {
        self.0.bos
    }

    /// Ends a text.
    pub fn eos(&self) -> Option<TokenId> {
        self.0.eos
    }

    /// The id of a token as the vocabulary writes it.
    pub fn token_to_id(&self, token: &str) -> Option<TokenId> {
        self.0.parsing.token_to_id(token)
    }

    /// A token as the vocabulary writes it.
    pub fn id_to_token(&self, id: TokenId) -> Option<String> {
        self.0.parsing.id_to_token(id)
    }

    pub(super) fn bytes(&self, id: TokenId) -> &[u8] {
        self.0.spelling.bytes(id)
    }

    /// Whether texts are encoded with a space before them, which is not shown.
    pub fn strips_leading_space(&self) -> bool {
        self.0.spelling.strips()
    }

    /// Whether a text contains the name of a control token.
    pub(super) fn names_control(&self, text: &str) -> bool {
        self.0.control_names.occur_in(text)
    }

    /// Ids of a text and where its control tokens are, control tokens parsed.
    pub(super) fn parse(&self, text: &str) -> Result<Parsed, TextError> {
        within_cap(text)?;
        let encoding = self.0.parsing.encode(text, false).map_err(encode_error)?;
        let places = encoding.get_ids().iter().zip(encoding.get_offsets());
        let controls = places
            .filter(|(id, _)| self.is_control(**id))
            .map(|(id, (start, end))| (*start..*end, *id))
            .collect();
        Ok(Parsed {
            ids: encoding.get_ids().to_vec(),
            controls,
        })
    }

    /// Special, and not merely what the vocabulary lacks.
    fn is_control(&self, id: TokenId) -> bool {
        self.is_special(id) && self.0.unk != Some(id)
    }

    fn literal(&self) -> &tokenizers::Tokenizer {
        self.0.literal.get_or_init(|| {
            let mut literal = self.0.parsing.clone();
            literal.set_encode_special_tokens(true);
            literal
        })
    }
}

/// A text with its control tokens found.
pub(super) struct Parsed {
    pub(super) ids: Vec<TokenId>,
    /// Byte range and id of each control token, in order.
    pub(super) controls: Vec<(Range<usize>, TokenId)>,
}

fn run(
    tokenizer: &tokenizers::Tokenizer,
    text: &str,
    framed: bool,
) -> Result<Vec<TokenId>, TextError> {
    within_cap(text)?;
    let encoding = tokenizer.encode_fast(text, framed).map_err(encode_error)?;
    Ok(encoding.get_ids().to_vec())
}

fn within_cap(text: &str) -> Result<(), TextError> {
    match text.len() {
        bytes if bytes > MAX_TEXT_BYTES => Err(TextError::TextLength { bytes }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::tokenizer_file::tests::small;

    #[test]
    fn tokenizers_and_templates_are_shared_between_threads() {
        fn shared<T: Send + Sync + Clone>() {}
        shared::<Tokenizer>();
        shared::<crate::text::ChatTemplate>();
    }

    #[test]
    fn text_beyond_the_cap_is_refused_and_long_spaces_are_not() {
        let tokenizer = small();
        let spaces = " ".repeat(MAX_TEXT_BYTES);
        assert_eq!(
            tokenizer.encode(&spaces, Specials::Parse).unwrap().len(),
            MAX_TEXT_BYTES
        );
        let error = tokenizer
            .encode(&(spaces + " "), Specials::Parse)
            .unwrap_err();
        assert!(matches!(error, TextError::TextLength { .. }));
    }
}
