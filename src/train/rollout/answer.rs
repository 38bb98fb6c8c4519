//! What a model wrote.

use crate::eval::suite::{CalculatorState, Markers};
use crate::ids::TokenId;
use crate::text::{Controls, Detokenizer, Specials, TextError, Tokenizer};

/// An answer to a prompt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// Its tokens, with the one that ends it.
    pub ids: Vec<TokenId>,
    /// One a token: whether the model drew it. The others were forced on it, such as what the calculator wrote.
    pub drawn: Vec<bool>,
    /// Whether the model ended it, and not the limit of tokens.
    pub ended: bool,
    /// Its text, without the token that ends it.
    pub text: String,
    /// Calls of the calculator that had no value.
    pub refusals: usize,
}

impl Answer {
    /// Tokens that the model drew.
    pub fn drawn_tokens(&self) -> usize {
        self.drawn.iter().filter(|drawn| **drawn).count()
    }
}

/// An answer while it is written.
pub(super) struct Writing<'a> {
    tokenizer: &'a Tokenizer,
    /// With the text of its tokens, where the calculator may be called.
    calculator: Option<(CalculatorState, Detokenizer)>,
    most: usize,
    answer: Answer,
}

impl<'a> Writing<'a> {
    pub(super) fn new(tokenizer: &'a Tokenizer, calculator: Option<&Markers>, most: usize) -> Self {
        let calculator = calculator.map(|markers| {
            (
                CalculatorState::new(markers.clone()),
                Detokenizer::new(tokenizer),
            )
        });
        Writing {
            tokenizer,
            calculator,
            most,
            answer: Answer::default(),
        }
    }

    /// Takes in a token that was drawn, which `ends` the answer or not. Returns the tokens that the model is to read before
    /// the next is drawn; none when the answer is over.
    pub(super) fn push(&mut self, id: TokenId, ends: bool) -> Result<Vec<TokenId>, TextError> {
        let from = self.answer.ids.len();
        let mut forced = None;
        let mut stands = true;
        if let (Some((state, text)), false) = (&mut self.calculator, ends) {
            let piece = text.push(id);
            if let Some(found) = state.push(&piece) {
                let kept = piece.get(..found.keep).unwrap_or_default();
                stands = kept.len() == piece.len();
                // A token that holds the model's own guess at the result gives way as a whole.
                forced = Some(match stands {
                    true => found.text,
                    false => format!("{kept}{}", found.text),
                });
            }
        }
        if stands {
            self.write(id, true);
        }
        if let Some(forced) = forced {
            for id in self.tokenizer.encode(&forced, Specials::Parse)? {
                self.write(id, false);
            }
        }
        self.answer.ended = ends;
        match ends || self.answer.ids.len() >= self.most {
            true => Ok(Vec::new()),
            false => Ok(self.answer.ids.get(from..).unwrap_or_default().to_vec()),
        }
    }

    /// Past the limit nothing is written.
    fn write(&mut self, id: TokenId, drawn: bool) {
        if self.answer.ids.len() < self.most {
            self.answer.ids.push(id);
            self.answer.drawn.push(drawn);
        }
    }

    pub(super) fn finish(self) -> Answer {
        let mut answer = self.answer;
        let said = match (answer.ended, answer.ids.split_last()) {
            (true, Some((_, said))) => said,
            _ => &answer.ids,
        };
        answer.text = self.tokenizer.decode(said, Controls::Skip);
        answer.refusals = self
            .calculator
            .map_or(0, |(state, _)| state.refusals().len());
        answer
    }
}
