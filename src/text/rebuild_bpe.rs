//! A byte-level BPE tokenizer rebuilt from the vocabulary and merges of a model file.

use std::collections::HashMap;

use tokenizers::models::bpe::{BPE, Merges};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::tokenizer::AddedToken;

use super::TextError;
use super::pretokenizer::pretokenizer;
use super::vocab::{TokenKind, Vocab};

/// Builds the tokenizer; the vocabulary has been checked.
pub(super) fn bpe(vocab: &Vocab, kinds: &[TokenKind]) -> Result<tokenizers::Tokenizer, TextError> {
    let pre = pretokenizer(vocab.pre.as_deref())?;
    let model = BPE::builder()
        .vocab_and_merges(ids_by_token(vocab), merges(vocab, kinds)?)
        .ignore_merges(pre.whole_words)
        .build()
        .map_err(encode_error)?;
    let mut tokenizer = tokenizers::Tokenizer::new(model);
    tokenizer.with_pre_tokenizer(Some(pre.steps));
    // Our own decoding does not ask for it, but who reads a saved tokenizer.json does.
    tokenizer.with_decoder(Some(ByteLevel::default()));
    add_tokens(&mut tokenizer, vocab, kinds)?;
    Ok(tokenizer)
}

/// The tokenizers library's map type, whose hasher it does not name.
pub(super) fn ids_by_token(vocab: &Vocab) -> tokenizers::models::bpe::Vocab {
    vocab
        .tokens
        .iter()
        .zip(0u32..)
        .map(|(token, id)| (token.clone(), id))
        .collect()
}

/// Control, unknown and user-defined tokens are found in the text before it is cut into words.
pub(super) fn add_tokens(
    tokenizer: &mut tokenizers::Tokenizer,
    vocab: &Vocab,
    kinds: &[TokenKind],
) -> Result<(), TextError> {
    let added = vocab.tokens.iter().zip(kinds).filter_map(|(token, kind)| {
        let added = kind.is_special() || *kind == TokenKind::UserDefined;
        (added && !token.is_empty())
            .then(|| AddedToken::from(token.clone(), kind.is_special()).normalized(false))
    });
    let added: Vec<AddedToken> = added.collect();
    tokenizer
        .add_tokens(added)
        .map(|_| ())
        .map_err(encode_error)
}

/// Pairs in order of rank. A merge that would spell a control token is left out: text never
/// becomes one by merging.
fn merges(vocab: &Vocab, kinds: &[TokenKind]) -> Result<Merges, TextError> {
    let tokens = vocab.tokens.iter().map(String::as_str);
    let known: HashMap<&str, TokenKind> = tokens.zip(kinds.iter().copied()).collect();
    let mut pairs = Vec::with_capacity(vocab.merges.len());
    for (index, merge) in vocab.merges.iter().enumerate() {
        let bad = || TextError::Merge {
            index,
            merge: merge.chars().take(80).collect(),
        };
        let (left, right) = two_tokens(merge).ok_or_else(bad)?;
        let result = known
            .get(format!("{left}{right}").as_str())
            .ok_or_else(bad)?;
        if !known.contains_key(left) || !known.contains_key(right) {
            return Err(bad());
        }
        if !result.is_special() {
            pairs.push((left.to_owned(), right.to_owned()));
        }
    }
    Ok(pairs)
}

/// Splits at the first space that is not the first character.
fn two_tokens(merge: &str) -> Option<(&str, &str)> {
    let (at, _) = merge.char_indices().skip(1).find(|(_, c)| *c == ' ')?;
    let (left, right) = (merge.get(..at)?, merge.get(at + 1..)?);
    (!right.is_empty()).then_some((left, right))
}

pub(super) fn encode_error(error: tokenizers::Error) -> TextError {
    TextError::Encode {
        reason: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::vocab::VocabModel;
    use crate::text::vocab::tests::bare;
    use crate::text::{Controls, Specials, Tokenizer};

    fn vocab() -> Vocab {
        let tokens = [
            "<|end|>", "a", "b", "ab", "Ġ", "Ġab", "<", "|", "e", "n", "d", ">", "<tag>",
        ];
        Vocab {
            pre: Some("gpt-2".into()),
            types: vec![3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 4],
            merges: vec!["a b".into(), "Ġ ab".into()],
            ..bare(VocabModel::Bpe, &tokens)
        }
    }

    #[test]
    fn merges_apply_and_control_tokens_are_parsed_only_when_asked() {
        let tokenizer = Tokenizer::from_vocab(vocab()).unwrap();
        let encode = |text, how| tokenizer.encode(text, how).unwrap();
        assert_eq!(encode("ab ab", Specials::Parse), [3, 5]);
        assert_eq!(encode("ab<|end|><tag>", Specials::Parse), [3, 0, 12]);
        assert_eq!(
            encode("ab<|end|>", Specials::Literal),
            [3, 6, 7, 8, 9, 10, 7, 11]
        );
    }

    #[test]
    fn what_is_saved_reads_and_writes_the_same() {
        let built = Tokenizer::from_vocab(vocab()).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), built.to_json().unwrap()).unwrap();
        let read = Tokenizer::from_file(file.path()).unwrap();
        let library = tokenizers::Tokenizer::from_file(file.path()).unwrap();
        for text in ["ab ab", "ab<|end|><tag>", "ab<end"] {
            let ids = built.encode(text, Specials::Parse).unwrap();
            assert_eq!(read.encode(text, Specials::Parse).unwrap(), ids);
            assert_eq!(read.decode(&ids, Controls::Keep), text);
            assert_eq!(library.decode(&ids, false).unwrap(), text);
        }
    }

    #[test]
    fn a_merge_never_spells_a_control_token() {
        let mut vocab = vocab();
        vocab.tokens[0] = "ba".into();
        vocab.merges.push("b a".into());
        let tokenizer = Tokenizer::from_vocab(vocab).unwrap();
        assert_eq!(tokenizer.encode("ba", Specials::Literal).unwrap(), [2, 1]);
    }

    #[test]
    fn a_merge_of_unknown_tokens_is_refused() {
        for bad in ["a x", "b a", "ab", "a ", " a", ""] {
            let mut vocab = vocab();
            vocab.merges.push(bad.into());
            let error = Tokenizer::from_vocab(vocab).unwrap_err();
            assert!(
                matches!(error, TextError::Merge { index: 2, .. }),
                "{bad:?}: {error}"
            );
        }
    }
}
