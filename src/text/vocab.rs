//! A vocabulary as plain data: what a model file says about its tokens, before a tokenizer is built.

use crate::ids::TokenId;

use super::TextError;

/// Most tokens a vocabulary may have (4,194,304); published ones stay below 300,000.
pub const MAX_VOCAB: usize = 1 << 22;
/// Most bytes one token may have.
pub const MAX_TOKEN_BYTES: usize = 4096;

/// How text becomes tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VocabModel {
    /// Byte-level BPE with an explicit list of merges (ggml's `gpt2`).
    Bpe,
    /// SentencePiece with scores, byte fallback and `▁` for a space (ggml's `llama`).
    Spm,
}

/// The vocabulary of a model file. Token ids are indices into `tokens`.
#[derive(Debug, Clone)]
pub struct Vocab {
    /// Which algorithm the tokens belong to.
    pub model: VocabModel,
    /// Name of the pre-tokenizer (BPE only); `None` means `default`.
    pub pre: Option<String>,
    /// The tokens, in the alphabet of their algorithm.
    pub tokens: Vec<String>,
    /// One score a token (SPM only); a merge with a higher score goes first.
    pub scores: Vec<f32>,
    /// ggml token types, one a token: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused,
    /// 6 byte. May be empty.
    pub types: Vec<i32>,
    /// The merges (BPE only), best first, each two tokens with a space between them.
    pub merges: Vec<String>,
    /// Begins a text.
    pub bos: Option<TokenId>,
    /// Ends a text.
    pub eos: Option<TokenId>,
    /// Ends a turn of a chat.
    pub eot: Option<TokenId>,
    /// Stands for what the vocabulary cannot spell.
    pub unk: Option<TokenId>,
    /// Whether a prompt starts with `bos`.
    pub add_bos: bool,
    /// Whether a prompt ends with `eos`.
    pub add_eos: bool,
    /// Whether a space is put before the first word (SPM only).
    pub add_space_prefix: bool,
}

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenKind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

impl TokenKind {
    /// Whether the token is never part of a text that is shown.
    pub(super) fn is_special(self) -> bool {
        matches!(self, TokenKind::Control | TokenKind::Unknown)
    }

    fn from_ggml(kind: i32, id: usize) -> Result<Self, TextError> {
        match kind {
            0 | 1 => Ok(TokenKind::Normal),
            2 => Ok(TokenKind::Unknown),
            3 => Ok(TokenKind::Control),
            4 => Ok(TokenKind::UserDefined),
            5 => Ok(TokenKind::Unused),
            6 => Ok(TokenKind::Byte),
            found => Err(TextError::TokenType { id, found }),
        }
    }
}

impl Vocab {
    /// Checks sizes, ids and scores, so that what is built from the vocabulary need not.
    ///
    /// # Errors
    /// Names the first field that is out of bounds.
    pub fn check(&self) -> Result<(), TextError> {
        let size = self.tokens.len();
        if size == 0 || size > MAX_VOCAB {
            return Err(TextError::VocabSize { found: size });
        }
        self.check_lengths(size)?;
        for (field, id) in self.named_ids() {
            if id.is_some_and(|id| id as usize >= size) {
                return Err(TextError::TokenIdRange {
                    field,
                    id: id.unwrap_or_default(),
                    size,
                });
            }
        }
        if let Some(id) = self
            .tokens
            .iter()
            .position(|token| token.len() > MAX_TOKEN_BYTES)
        {
            return Err(TextError::TokenLength { id });
        }
        match self.scores.iter().position(|score| score.is_nan()) {
            Some(id) => Err(TextError::Score { id }),
            None => Ok(()),
        }
    }

    fn check_lengths(&self, size: usize) -> Result<(), TextError> {
        let scored = self.model == VocabModel::Spm;
        let lists = [
            ("types", self.types.len(), !self.types.is_empty()),
            (
                "scores",
                self.scores.len(),
                scored || !self.scores.is_empty(),
            ),
        ];
        for (field, found, wanted) in lists {
            if wanted && found != size {
                return Err(TextError::VocabShape { field, found, size });
            }
        }
        if self.model == VocabModel::Bpe && self.merges.is_empty() {
            return Err(TextError::NoMerges);
        }
        Ok(())
    }

    fn named_ids(&self) -> [(&'static str, Option<TokenId>); 4] {
        [
            ("bos", self.bos),
            ("eos", self.eos),
            ("eot", self.eot),
            ("unk", self.unk),
        ]
    }

    /// The kind of each token. A file that calls its own end-of-text token normal is corrected.
    pub(super) fn kinds(&self) -> Result<Vec<TokenKind>, TextError> {
        let mut kinds = if self.types.is_empty() {
            self.guessed_kinds()
        } else {
            let typed = self.types.iter().enumerate();
            typed
                .map(|(id, kind)| TokenKind::from_ggml(*kind, id))
                .collect::<Result<_, _>>()?
        };
        for id in [self.bos, self.eos, self.eot].into_iter().flatten() {
            if let Some(kind) = kinds.get_mut(id as usize) {
                *kind = TokenKind::Control;
            }
        }
        Ok(kinds)
    }

    fn guessed_kinds(&self) -> Vec<TokenKind> {
        let guess = |(id, token): (usize, &String)| {
            if self.unk.is_some_and(|unk| unk as usize == id) {
                TokenKind::Unknown
            } else if self.model == VocabModel::Spm && byte_token(token).is_some() {
                TokenKind::Byte
            } else {
                TokenKind::Normal
            }
        };
        self.tokens.iter().enumerate().map(guess).collect()
    }
}

/// The byte that a SentencePiece token such as `<0x0A>` stands for.
pub(super) fn byte_token(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    let two_digits = digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    two_digits
        .then(|| u8::from_str_radix(digits, 16).ok())
        .flatten()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A vocabulary with no merges that is otherwise whole.
    pub(crate) fn bare(model: VocabModel, tokens: &[&str]) -> Vocab {
        Vocab {
            model,
            pre: None,
            tokens: tokens.iter().map(|token| token.to_string()).collect(),
            scores: Vec::new(),
            types: Vec::new(),
            merges: Vec::new(),
            bos: None,
            eos: None,
            eot: None,
            unk: None,
            add_bos: false,
            add_eos: false,
            add_space_prefix: false,
        }
    }

    #[test]
    fn byte_tokens_are_two_hex_digits() {
        assert_eq!(byte_token("<0x0A>"), Some(10));
        assert_eq!(byte_token("<0xff>"), Some(255));
        for not in ["<0x0>", "<0x0AA>", "0x0A", "<0xG0>", "<0x+1>", ""] {
            assert_eq!(byte_token(not), None, "{not}");
        }
    }

    #[test]
    fn what_is_out_of_bounds_is_named() {
        let good = Vocab {
            merges: vec!["a b".into()],
            ..bare(VocabModel::Bpe, &["a", "b", "ab"])
        };
        good.check().unwrap();
        let cases = [
            (
                Vocab {
                    tokens: vec![],
                    ..good.clone()
                },
                "0 tokens",
            ),
            (
                Vocab {
                    types: vec![1],
                    ..good.clone()
                },
                "types",
            ),
            (
                Vocab {
                    eot: Some(3),
                    ..good.clone()
                },
                "eot",
            ),
            (
                Vocab {
                    merges: vec![],
                    ..good.clone()
                },
                "merges",
            ),
            (
                Vocab {
                    scores: vec![0.0, f32::NAN, 0.0],
                    ..good.clone()
                },
                "token 1",
            ),
            (
                Vocab {
                    tokens: vec!["x".repeat(5000)],
                    ..good.clone()
                },
                "token 0",
            ),
            (bare(VocabModel::Spm, &["a"]), "scores"),
        ];
        for (vocab, part) in cases {
            let error = vocab.check().unwrap_err().to_string();
            assert!(error.contains(part), "{error} must name {part}");
        }
        let odd = Vocab {
            types: vec![1, 1, 9],
            ..good
        };
        assert!(odd.kinds().is_err());
    }

    #[test]
    fn a_normal_end_of_text_token_becomes_control() {
        let vocab = Vocab {
            types: vec![1, 1],
            eos: Some(1),
            ..bare(VocabModel::Bpe, &["a", "</s>"])
        };
        assert_eq!(
            vocab.kinds().unwrap(),
            [TokenKind::Normal, TokenKind::Control]
        );
    }
}
