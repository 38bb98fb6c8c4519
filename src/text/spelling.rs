//! The exact bytes of each token: what a token id looks like in a text.

use tokenizers::pre_tokenizers::metaspace::PrependScheme;

use crate::ids::TokenId;

use super::TextError;
use super::rebuild_spm::SPACE;
use super::vocab::{MAX_VOCAB, TokenKind, Vocab, VocabModel, byte_token};

/// How tokens are written in the vocabulary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Alphabet {
    /// One printable character a byte, as GPT-2 does.
    Bytes,
    /// `▁` for a space, `<0xNN>` for a byte.
    Pieces {
        /// Whether one leading space of a text was put there by the tokenizer.
        strip: bool,
    },
}

/// One entry a token: its bytes, and whether it is special.
#[derive(Debug, Clone)]
pub(super) struct Spelling {
    blob: Vec<u8>,
    ends: Vec<usize>,
    special: Vec<bool>,
    strip: bool,
}

impl Spelling {
    fn empty(alphabet: Alphabet) -> Self {
        Spelling {
            blob: Vec::new(),
            ends: Vec::new(),
            special: Vec::new(),
            strip: alphabet == Alphabet::Pieces { strip: true },
        }
    }

    /// From a checked vocabulary.
    pub(super) fn of_vocab(vocab: &Vocab, kinds: &[TokenKind]) -> Self {
        let alphabet = match vocab.model {
            VocabModel::Bpe => Alphabet::Bytes,
            VocabModel::Spm => Alphabet::Pieces {
                strip: vocab.add_space_prefix,
            },
        };
        let mut spelling = Spelling::empty(alphabet);
        for (token, kind) in vocab.tokens.iter().zip(kinds) {
            let as_written = kind.is_special() || *kind == TokenKind::UserDefined;
            spelling.push(token, (!as_written).then_some(alphabet), kind.is_special());
        }
        spelling
    }

    /// From a tokenizer of the tokenizers library.
    pub(super) fn of_tokenizer(tokenizer: &tokenizers::Tokenizer) -> Result<Self, TextError> {
        let alphabet = alphabet_of(tokenizer)?;
        let size = tokenizer
            .get_vocab(true)
            .into_values()
            .max()
            .map_or(0, |id| id as usize + 1);
        if size == 0 || size > MAX_VOCAB {
            return Err(TextError::VocabSize { found: size });
        }
        let added = tokenizer.get_added_tokens_decoder();
        let mut spelling = Spelling::empty(alphabet);
        for id in 0..size as TokenId {
            match added.get(&id) {
                Some(token) => spelling.push(&token.content, None, token.special),
                None => {
                    let token = tokenizer.id_to_token(id).unwrap_or_default();
                    spelling.push(&token, Some(alphabet), false);
                }
            }
        }
        Ok(spelling)
    }

    fn push(&mut self, token: &str, alphabet: Option<Alphabet>, special: bool) {
        match alphabet {
            None => self.blob.extend_from_slice(token.as_bytes()),
            Some(Alphabet::Bytes) => match token.chars().map(alphabet_byte).collect() {
                Some(Raw(bytes)) => self.blob.extend_from_slice(&bytes),
                None => self.blob.extend_from_slice(token.as_bytes()),
            },
            Some(Alphabet::Pieces { .. }) => match byte_token(token) {
                Some(byte) => self.blob.push(byte),
                None => self
                    .blob
                    .extend_from_slice(token.replace(SPACE, " ").as_bytes()),
            },
        }
        self.ends.push(self.blob.len());
        self.special.push(special);
    }

    /// How many ids there are.
    pub(super) fn size(&self) -> usize {
        self.ends.len()
    }

    /// The bytes of a token; none for an id outside the vocabulary.
    pub(super) fn bytes(&self, id: TokenId) -> &[u8] {
        let id = id as usize;
        let start = match id.checked_sub(1) {
            Some(before) => self.ends.get(before).copied(),
            None => Some(0),
        };
        let range = start.zip(self.ends.get(id).copied());
        range
            .and_then(|(start, end)| self.blob.get(start..end))
            .unwrap_or_default()
    }

    /// Whether the token is a control or unknown token.
    pub(super) fn is_special(&self, id: TokenId) -> bool {
        self.special.get(id as usize).copied().unwrap_or(false)
    }

    /// Ids of the special tokens.
    pub(super) fn special_ids(&self) -> impl Iterator<Item = TokenId> + '_ {
        (0..)
            .zip(&self.special)
            .filter_map(|(id, special)| special.then_some(id))
    }

    /// Whether one leading space of a decoded text is dropped.
    pub(super) fn strips(&self) -> bool {
        self.strip
    }
}

/// Bytes collected from characters of the byte alphabet.
struct Raw(Vec<u8>);

impl FromIterator<u8> for Raw {
    fn from_iter<I: IntoIterator<Item = u8>>(bytes: I) -> Self {
        Raw(bytes.into_iter().collect())
    }
}

/// The byte that a character of GPT-2's alphabet stands for: printable Latin-1 characters are
/// themselves, the other bytes follow from U+0100 on.
fn alphabet_byte(c: char) -> Option<u8> {
    let byte = match u32::from(c) {
        same @ (33..=126 | 161..=172 | 174..=255) => same,
        low @ 256..=288 => low - 256,
        high @ 289..=322 => high - 289 + 127,
        323 => 173,
        _ => return None,
    };
    u8::try_from(byte).ok()
}

/// Reads the alphabet off the decoder, the only part of a `tokenizer.json` that names it.
fn alphabet_of(tokenizer: &tokenizers::Tokenizer) -> Result<Alphabet, TextError> {
    use tokenizers::DecoderWrapper as D;
    let decoder = tokenizer.get_decoder();
    let steps: &[D] = match decoder {
        Some(D::Sequence(sequence)) => sequence.get_decoders(),
        Some(one) => std::slice::from_ref(one),
        None => &[],
    };
    if steps.iter().any(|step| matches!(step, D::ByteLevel(_))) {
        return Ok(Alphabet::Bytes);
    }
    let pieces = |step: &D| matches!(step, D::ByteFallback(_) | D::Metaspace(_) | D::Replace(_));
    if !steps.iter().any(pieces) {
        let found = decoder.map_or("none".to_owned(), |decoder| {
            format!("{decoder:?}")
                .chars()
                .take_while(char::is_ascii_alphanumeric)
                .collect()
        });
        return Err(TextError::Decoder { found });
    }
    let strip = steps.iter().any(|step| match step {
        D::Strip(strip) => strip.content == ' ' && strip.start > 0,
        D::Metaspace(space) => space.get_prepend_scheme() != PrependScheme::Never,
        _ => false,
    });
    Ok(Alphabet::Pieces { strip })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alphabet_is_the_librarys() {
        let alphabet = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet();
        let mut bytes: Vec<u8> = alphabet
            .iter()
            .map(|c| alphabet_byte(*c).unwrap())
            .collect();
        bytes.sort_unstable();
        assert_eq!(bytes, (0..=255).collect::<Vec<u8>>());
        assert_eq!(alphabet_byte('Ġ'), Some(b' '));
        assert_eq!(alphabet_byte('Ċ'), Some(b'\n'));
        assert_eq!(alphabet_byte('日'), None);
    }

    #[test]
    fn tokens_are_spelled_by_alphabet() {
        let mut spelling = Spelling::empty(Alphabet::Bytes);
        spelling.push("Ġab", Some(Alphabet::Bytes), false);
        spelling.push("<|end|>", None, true);
        spelling.push("▁x", Some(Alphabet::Pieces { strip: false }), false);
        spelling.push("<0x0A>", Some(Alphabet::Pieces { strip: false }), false);
        spelling.push("日", Some(Alphabet::Bytes), false);
        let expected: [&[u8]; 6] = [b" ab", b"<|end|>", b" x", b"\n", "日".as_bytes(), b""];
        for (id, bytes) in expected.iter().enumerate() {
            assert_eq!(spelling.bytes(id as TokenId), *bytes, "token {id}");
        }
        assert_eq!(spelling.special_ids().collect::<Vec<_>>(), [1]);
        assert!(!spelling.is_special(99));
    }
}
