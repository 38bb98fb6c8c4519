//! Log-probabilities with the texts of their tokens.

use std::iter;

use super::wire::{ByText, ChatLogprob, Endpoint, Logprobs, TopLogprob};
use crate::ids::TokenId;
use crate::runtime::TokenPiece;
use crate::sample::TokenLogprob;
use crate::text::{Detokenizer, Tokenizer};

/// What JSON has for minus infinity.
const LEAST: f32 = -9999.0;

/// Tells the tokens of one choice, in the order in which they come.
pub(super) struct Teller {
    tokenizer: Tokenizer,
    endpoint: Endpoint,
    /// Counts the characters before the next token.
    detokenizer: Detokenizer,
    offset: usize,
}

impl Teller {
    /// At the start of a choice.
    pub(super) fn new(tokenizer: &Tokenizer, endpoint: Endpoint) -> Self {
        Teller {
            tokenizer: tokenizer.clone(),
            endpoint,
            detokenizer: Detokenizer::new(tokenizer),
            offset: 0,
        }
    }

    /// The next tokens.
    pub(super) fn tell(&mut self, pieces: &[TokenPiece]) -> Logprobs {
        match self.endpoint {
            Endpoint::Chat => Logprobs::Chat {
                content: self.entries(pieces),
                refusal: None,
            },
            Endpoint::Completion => self.lists(pieces),
        }
    }

    /// The next tokens, one entry each, as chats have them.
    pub(super) fn entries(&self, pieces: &[TokenPiece]) -> Vec<ChatLogprob> {
        pieces.iter().map(|piece| self.entry(piece)).collect()
    }

    fn entry(&self, piece: &TokenPiece) -> ChatLogprob {
        ChatLogprob {
            own: self.top(piece.token, own(piece)),
            top_logprobs: best(piece)
                .iter()
                .map(|&(token, logprob)| self.top(token, logprob))
                .collect(),
        }
    }

    fn top(&self, token: TokenId, logprob: f32) -> TopLogprob {
        TopLogprob {
            token: self.text(token),
            logprob: finite(logprob),
            bytes: self.tokenizer.token_bytes(token),
            token_id: token,
        }
    }

    fn lists(&mut self, pieces: &[TokenPiece]) -> Logprobs {
        let mut offsets = Vec::with_capacity(pieces.len());
        for piece in pieces {
            offsets.push(self.offset);
            self.offset += self.detokenizer.push(piece.token).chars().count();
        }
        let by_text = |piece: &TokenPiece| {
            let mut told: Vec<(String, f32)> = Vec::new();
            for &(token, logprob) in best(piece) {
                let text = self.text(token);
                // Best first, so the first of equal texts is the one to keep.
                if !told.iter().any(|(known, _)| *known == text) {
                    told.push((text, finite(logprob)));
                }
            }
            ByText(told)
        };
        let by_id = |piece: &TokenPiece| {
            best(piece)
                .iter()
                .map(|&(token, logprob)| (token, finite(logprob)))
                .collect()
        };
        Logprobs::Completion {
            tokens: pieces.iter().map(|piece| self.text(piece.token)).collect(),
            token_logprobs: pieces.iter().map(known).collect(),
            top_logprobs: pieces
                .iter()
                .map(|piece| piece.logprob.as_ref().map(|_| by_text(piece)))
                .collect(),
            text_offset: offsets,
            token_ids: pieces.iter().map(|piece| piece.token).collect(),
            top_logprob_ids: pieces.iter().map(by_id).collect(),
        }
    }

    fn text(&self, token: TokenId) -> String {
        String::from_utf8_lossy(&self.tokenizer.token_bytes(token)).into_owned()
    }
}

fn own(piece: &TokenPiece) -> f32 {
    known(piece).unwrap_or(LEAST)
}

fn known(piece: &TokenPiece) -> Option<f32> {
    let told = piece.logprob.as_ref();
    told.map(|told| finite(told.logprob))
}

/// The tokens of a prompt with what was told of them; the first comes behind nothing.
pub(super) fn of_prompt(prompt: &[TokenId], told: Vec<TokenLogprob>) -> Vec<TokenPiece> {
    let told = iter::once(None).chain(told.into_iter().map(Some));
    let told = told.chain(iter::repeat(None));
    let pieces = prompt.iter().zip(told);
    pieces
        .map(|(&token, logprob)| TokenPiece { token, logprob })
        .collect()
}

fn best(piece: &TokenPiece) -> &[(TokenId, f32)] {
    piece
        .logprob
        .as_ref()
        .map_or(&[], |told| told.top.as_slice())
}

fn finite(logprob: f32) -> f32 {
    if logprob.is_finite() { logprob } else { LEAST }
}
