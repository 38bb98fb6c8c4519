//! The tokens of a model as llguidance reads them: a trie of their bytes.

use std::sync::Arc;

use toktrie::{TokEnv, TokRxInfo, TokTrie, TokenizerEnv};

use crate::ids::TokenId;
use crate::text::{Specials, Tokenizer};

struct Vocabulary {
    tokenizer: Tokenizer,
    trie: TokTrie,
    canonical: bool,
}

/// The environment of `tokenizer`; `ends` are the ids that end a text, at least one.
///
/// Control tokens have no bytes here: none but the ends may come in an answer that keeps to a grammar.
pub(super) fn environment(tokenizer: &Tokenizer, ends: &[TokenId]) -> Option<TokEnv> {
    let first = *ends.first()?;
    let size = tokenizer.vocab_size();
    if ends.iter().any(|&end| end as usize >= size) {
        return None;
    }
    let words: Vec<Vec<u8>> = (0..size as TokenId)
        .map(|id| match tokenizer.is_special(id) || ends.contains(&id) {
            true => Vec::new(),
            false => word(tokenizer.token_bytes(id)),
        })
        .collect();
    let info = TokRxInfo::new(size as u32, first);
    let trie = TokTrie::from(&info, &words).with_eos_tokens(ends);
    Some(Arc::new(Vocabulary {
        // A tokenizer that puts a space before a text does not spell the middle of one.
        canonical: !tokenizer.strips_leading_space(),
        tokenizer: tokenizer.clone(),
        trie,
    }))
}

/// Bytes that begin with the sign for control tokens would be taken for one, and no UTF-8 text has it.
fn word(bytes: Vec<u8>) -> Vec<u8> {
    match bytes.first() {
        Some(&TokTrie::SPECIAL_TOKEN_MARKER) => Vec::new(),
        _ => bytes,
    }
}

impl TokenizerEnv for Vocabulary {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, text: &[u8]) -> Vec<TokenId> {
        self.trie.tokenize_with_greedy_fallback(text, |text| {
            let ids = self.tokenizer.encode(text, Specials::Literal);
            // What the tokenizer cannot write literally is spelled with the longest tokens that fit.
            ids.unwrap_or_else(|_| self.trie.greedy_tokenize(text.as_bytes()))
        })
    }

    fn tokenize_is_canonical(&self) -> bool {
        self.canonical
    }
}
