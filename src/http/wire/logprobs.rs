//! The shapes of log-probabilities.

use serde::{Serialize, Serializer};

use crate::ids::TokenId;

/// Log-probabilities of the tokens of a choice.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(in crate::http) enum Logprobs {
    /// In a chat.
    Chat {
        /// One entry a token.
        content: Vec<ChatLogprob>,
        /// Always `null`.
        refusal: Option<String>,
    },
    /// The legacy shape: lists of one entry a token.
    Completion {
        /// Texts.
        tokens: Vec<String>,
        /// Log-probabilities; the first token of a prompt has none.
        token_logprobs: Vec<Option<f32>>,
        /// The most probable tokens, by text; different ids may share one, of which the best counts.
        top_logprobs: Vec<Option<ByText>>,
        /// Where each token begins in the text of the choice, in characters.
        text_offset: Vec<usize>,
        /// Ids.
        token_ids: Vec<TokenId>,
        /// The most probable tokens by id, best first.
        top_logprob_ids: Vec<Vec<(TokenId, f32)>>,
    },
}

/// Log-probabilities by the text of their tokens, best first.
#[derive(Debug)]
pub(in crate::http) struct ByText(pub(in crate::http) Vec<(String, f32)>);

impl Serialize for ByText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(text, logprob)| (text, logprob)))
    }
}

/// One token of a chat.
#[derive(Debug, Serialize)]
pub(in crate::http) struct ChatLogprob {
    /// The token.
    #[serde(flatten)]
    pub(in crate::http) own: TopLogprob,
    /// The most probable tokens, best first.
    pub(in crate::http) top_logprobs: Vec<TopLogprob>,
}

/// A token and its log-probability.
#[derive(Debug, Clone, Serialize)]
pub(in crate::http) struct TopLogprob {
    /// Its text; bytes that are no character are U+FFFD.
    pub(in crate::http) token: String,
    /// Its log-probability.
    pub(in crate::http) logprob: f32,
    /// Its exact bytes.
    pub(in crate::http) bytes: Vec<u8>,
    /// Its id.
    pub(in crate::http) token_id: TokenId,
}
