//! Ids to text as they come, without ever showing half a character.

use crate::ids::TokenId;

use super::Tokenizer;

/// Turns the ids of one sequence into text, piece by piece. The pieces joined are what
/// [`Tokenizer::decode`] gives for all ids with control tokens skipped.
#[derive(Debug, Clone)]
pub struct Detokenizer {
    tokenizer: Tokenizer,
    /// Bytes that do not make a whole character yet: at most three between calls.
    pending: Vec<u8>,
    /// Whether a leading space is still to be dropped.
    strip: bool,
}

impl Detokenizer {
    /// A detokenizer at the start of a sequence. Cheap: the tokenizer is shared.
    pub fn new(tokenizer: &Tokenizer) -> Self {
        Detokenizer {
            tokenizer: tokenizer.clone(),
            pending: Vec::new(),
            strip: tokenizer.strips_leading_space(),
        }
    }

    /// The text that is certain once `id` is known; may be empty. Bytes that can no longer become
    /// a character are U+FFFD.
    pub fn push(&mut self, id: TokenId) -> String {
        if self.tokenizer.is_special(id) {
            return String::new();
        }
        let mut bytes = self.tokenizer.bytes(id);
        if self.strip && !bytes.is_empty() {
            self.strip = false;
            bytes = bytes.strip_prefix(b" ").unwrap_or(bytes);
        }
        self.pending.extend_from_slice(bytes);
        let certain = certain_len(&self.pending);
        let rest = self.pending.split_off(certain);
        let text = String::from_utf8_lossy(&self.pending).into_owned();
        self.pending = rest;
        text
    }

    /// What is left when no more ids come: an unfinished character, as U+FFFD.
    pub fn flush(&mut self) -> String {
        let rest = std::mem::take(&mut self.pending);
        String::from_utf8_lossy(&rest).into_owned()
    }
}

/// The text of each of the tokens of one sequence, control tokens by their names. A character that several tokens make
/// is with the last of them.
pub fn pieces(tokenizer: &Tokenizer, ids: &[TokenId]) -> Vec<String> {
    let mut detokenizer = Detokenizer::new(tokenizer);
    let piece = |&id: &TokenId| match tokenizer.is_special(id) {
        true => {
            let mut text = detokenizer.flush();
            text.extend(tokenizer.id_to_token(id));
            text
        }
        false => detokenizer.push(id),
    };
    ids.iter().map(piece).collect()
}

/// How many bytes are certain: all but an unfinished character at the end.
fn certain_len(bytes: &[u8]) -> usize {
    let last = bytes.utf8_chunks().last();
    let tail = last.map_or(&[][..], |chunk| chunk.invalid());
    let unfinished = std::str::from_utf8(tail)
        .err()
        .is_some_and(|e| e.error_len().is_none());
    if unfinished {
        bytes.len() - tail.len()
    } else {
        bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::vocab::tests::bare;
    use crate::text::{Controls, Vocab, VocabModel};
    use proptest::prelude::*;

    /// Byte tokens, a piece with a space, a long piece and a control token.
    fn tokenizer(add_space_prefix: bool) -> Tokenizer {
        let bytes = (0..=255u8).map(|b| format!("<0x{b:02X}>"));
        let pieces = ["▁", "▁the", "日本", "</s>"].map(str::to_owned);
        let tokens: Vec<String> = bytes.chain(pieces).collect();
        let vocab = Vocab {
            scores: vec![0.0; tokens.len()],
            eos: Some(259),
            tokens,
            add_space_prefix,
            ..bare(VocabModel::Spm, &[])
        };
        Tokenizer::from_vocab(vocab).unwrap()
    }

    #[test]
    fn characters_come_whole_and_broken_ones_as_soon_as_they_are_certain() {
        let mut stream = Detokenizer::new(&tokenizer(true));
        let pushed = [
            257, 0xE6, 0x97, 0xA5, 259, 0xE6, 0x61, 0xFF, 257, 0xF0, 0x9F,
        ];
        let expected = [
            "the",
            "",
            "",
            "日",
            "",
            "",
            "\u{fffd}a",
            "\u{fffd}",
            " the",
            "",
            "",
        ];
        for (id, text) in pushed.into_iter().zip(expected) {
            assert_eq!(stream.push(id), text, "token {id}");
        }
        assert_eq!(stream.flush(), "\u{fffd}");
        assert_eq!(stream.flush(), "");
    }

    #[test]
    fn pieces_are_one_a_token_and_name_control_tokens() {
        let tokenizer = tokenizer(false);
        let ids = [257, 0xE6, 0x97, 0xA5, 0xE6, 259, 0x61];
        let expected = [" the", "", "", "日", "", "\u{fffd}</s>", "a"];
        assert_eq!(pieces(&tokenizer, &ids), expected);
    }

    fn id() -> impl Strategy<Value = TokenId> {
        let lead = prop::sample::select(vec![0x20, 0x41, 0xC3, 0xE6, 0xF0, 0xFF, 0xED]);
        prop_oneof![0..262u32, 0x80..0xC0u32, 256..260u32, lead]
    }

    proptest! {
        #[test]
        fn pieces_joined_are_the_decoded_text(
            ids in prop::collection::vec(id(), 0..40),
            prefix in any::<bool>(),
        ) {
            let tokenizer = tokenizer(prefix);
            let mut stream = Detokenizer::new(&tokenizer);
            let mut joined: String = ids.iter().map(|id| stream.push(*id)).collect();
            joined += &stream.flush();
            prop_assert_eq!(joined, tokenizer.decode(&ids, Controls::Skip));
        }
    }
}
