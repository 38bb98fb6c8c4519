//! A SentencePiece-style BPE tokenizer rebuilt from the pieces and scores of a model file.
//!
//! SentencePiece merges the pair whose result has the best score
//! (<https://arxiv.org/abs/1808.06226>); as ranked merges these are all splits of each piece into
//! two pieces, best score first.

use std::cmp::Ordering;

use tokenizers::DecoderWrapper;
use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence as Decoders;
use tokenizers::decoders::strip::Strip;
use tokenizers::models::bpe::{BPE, Merges};
use tokenizers::normalizers::{NormalizerWrapper, Prepend, Replace, Sequence};

use super::TextError;
use super::rebuild_bpe::{add_tokens, encode_error, ids_by_token};
use super::vocab::{TokenKind, Vocab};

/// What SentencePiece writes for a space.
pub(super) const SPACE: char = '▁';

/// Builds the tokenizer; the vocabulary has been checked.
pub(super) fn spm(vocab: &Vocab, kinds: &[TokenKind]) -> Result<tokenizers::Tokenizer, TextError> {
    let ids = ids_by_token(vocab);
    let merges = merges(vocab, kinds, &ids);
    let mut builder = BPE::builder()
        .vocab_and_merges(ids, merges)
        .byte_fallback(true)
        .fuse_unk(true);
    if let Some(unk) = unknown(vocab, kinds) {
        builder = builder.unk_token(unk);
    }
    let mut tokenizer = tokenizers::Tokenizer::new(builder.build().map_err(encode_error)?);
    let mut steps = Vec::new();
    if vocab.add_space_prefix {
        steps.push(NormalizerWrapper::Prepend(Prepend::new(SPACE.to_string())));
    }
    let replace = Replace::new(" ", SPACE.to_string()).map_err(encode_error)?;
    steps.push(NormalizerWrapper::Replace(replace));
    let steps = NormalizerWrapper::Sequence(Sequence::new(steps));
    tokenizer
        .with_normalizer(Some(steps))
        .map_err(encode_error)?;
    tokenizer.with_decoder(Some(decoder(vocab.add_space_prefix)?));
    add_tokens(&mut tokenizer, vocab, kinds)?;
    Ok(tokenizer)
}

/// As Hugging Face writes it for these pieces. Our own decoding does not ask for it, but who reads a saved `tokenizer.json`
/// does.
fn decoder(strip: bool) -> Result<DecoderWrapper, TextError> {
    let replace = Replace::new(SPACE.to_string(), " ").map_err(encode_error)?;
    let mut steps = vec![
        DecoderWrapper::Replace(replace),
        DecoderWrapper::ByteFallback(ByteFallback::new()),
        DecoderWrapper::Fuse(Fuse::new()),
    ];
    if strip {
        steps.push(DecoderWrapper::Strip(Strip::new(' ', 1, 0)));
    }
    Ok(DecoderWrapper::Sequence(Decoders::new(steps)))
}

fn unknown(vocab: &Vocab, kinds: &[TokenKind]) -> Option<String> {
    let named = vocab.unk.map(|id| id as usize);
    let id = named.or_else(|| kinds.iter().position(|kind| *kind == TokenKind::Unknown))?;
    vocab.tokens.get(id).cloned()
}

/// Two pieces, their ids and the score of what they make.
struct Merge<'a> {
    left: &'a str,
    right: &'a str,
    ids: (u32, u32),
    score: f32,
}

fn merges(vocab: &Vocab, kinds: &[TokenKind], ids: &tokenizers::models::bpe::Vocab) -> Merges {
    let mut merges = Vec::new();
    for ((piece, kind), score) in vocab.tokens.iter().zip(kinds).zip(&vocab.scores) {
        if kind.is_special() || *kind == TokenKind::Byte {
            continue;
        }
        for (at, _) in piece.char_indices().skip(1) {
            let (left, right) = piece.split_at(at);
            if let (Some(l), Some(r)) = (ids.get(left), ids.get(right)) {
                merges.push(Merge {
                    left,
                    right,
                    ids: (*l, *r),
                    score: *score,
                });
            }
        }
    }
    merges.sort_by(best_first);
    merges
        .into_iter()
        .map(|merge| (merge.left.to_owned(), merge.right.to_owned()))
        .collect()
}

fn best_first(a: &Merge<'_>, b: &Merge<'_>) -> Ordering {
    b.score.total_cmp(&a.score).then(a.ids.cmp(&b.ids))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::vocab::VocabModel;
    use crate::text::vocab::tests::bare;
    use crate::text::{Controls, Specials, Tokenizer};

    fn vocab() -> Vocab {
        let tokens = [
            "<unk>", "<s>", "</s>", "<0xC3>", "<0xA9>", "▁", "a", "b", "ab", "▁ab", "▁a", "<", "s",
            ">", "s>",
        ];
        let scores = [
            0., 0., 0., 0., 0., -9., -10., -11., -1., -2., -3., -12., -13., -14., -15.,
        ]
        .to_vec();
        let types = vec![2, 3, 3, 6, 6, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1];
        Vocab {
            scores,
            types,
            bos: Some(1),
            eos: Some(2),
            unk: Some(0),
            add_bos: true,
            add_space_prefix: true,
            ..bare(VocabModel::Spm, &tokens)
        }
    }

    #[test]
    fn best_scores_merge_first_with_prefix_and_byte_fallback() {
        let tokenizer = Tokenizer::from_vocab(vocab()).unwrap();
        let encode = |text| tokenizer.encode(text, Specials::Parse).unwrap();
        assert_eq!(encode("ab"), [9]);
        assert_eq!(encode("aab ab"), [10, 8, 9]);
        assert_eq!(encode("é"), [5, 3, 4]);
        assert_eq!(encode("日"), [5, 0]);
        assert_eq!(encode("ab<s>ab"), [9, 1, 9]);
        assert_eq!(tokenizer.encode_prompt("ab").unwrap(), [1, 9]);
        assert_eq!(
            tokenizer.encode("<s>", Specials::Literal).unwrap(),
            [5, 11, 14]
        );
    }

    #[test]
    fn what_is_saved_reads_and_writes_the_same() {
        for add_space_prefix in [true, false] {
            let built = Tokenizer::from_vocab(Vocab {
                add_space_prefix,
                ..vocab()
            });
            let built = built.unwrap();
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), built.to_json().unwrap()).unwrap();
            let read = Tokenizer::from_file(file.path()).unwrap();
            for text in ["ab", "aab ab", "é", " ab  a", "ab<s>ab"] {
                let ids = built.encode(text, Specials::Parse).unwrap();
                assert_eq!(read.encode(text, Specials::Parse).unwrap(), ids);
                assert_eq!(
                    read.decode(&ids, Controls::Keep),
                    built.decode(&ids, Controls::Keep)
                );
            }
            let library = tokenizers::Tokenizer::from_file(file.path()).unwrap();
            let ids = built.encode("ab ab", Specials::Parse).unwrap();
            assert_eq!(library.decode(&ids, true).unwrap(), "ab ab");
        }
    }

    #[test]
    fn decoding_drops_one_leading_space() {
        let tokenizer = Tokenizer::from_vocab(vocab()).unwrap();
        assert_eq!(tokenizer.decode(&[1, 9, 9], Controls::Skip), "ab ab");
        assert_eq!(tokenizer.decode(&[1, 9, 9], Controls::Keep), "<s> ab ab");
        assert_eq!(tokenizer.decode(&[5, 5, 9], Controls::Skip), "  ab");
        assert_eq!(tokenizer.decode(&[3, 4, 3], Controls::Skip), "é\u{fffd}");
        assert_eq!(tokenizer.token_bytes(9), b" ab");
        assert_eq!(tokenizer.token_bytes(3), [0xC3]);
    }
}
