//! A compiled shape, and the state of one answer that keeps to it.

use std::fmt;
use std::sync::Arc;

use llguidance::{Matcher as Automaton, TokenParser};

use super::check::{Check, SchemaCheck, Unmet, short};
use crate::ids::TokenId;

/// A shape that was compiled for the tokens of a model. A clone shares it; two are equal when they are the same one.
#[derive(Clone)]
pub struct Constraint(Arc<Compiled>);

pub(super) struct Compiled {
    pub(super) kind: &'static str,
    /// Never fed a token: answers begin with copies.
    pub(super) start: TokenParser,
    pub(super) check: Check,
    /// By the name of a function, what its arguments are judged by.
    pub(super) arguments: Vec<(String, SchemaCheck)>,
}

impl fmt::Debug for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Constraint").field(&self.0.kind).finish()
    }
}

impl PartialEq for Constraint {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Constraint {
    pub(super) fn new(compiled: Compiled) -> Self {
        Constraint(Arc::new(compiled))
    }

    /// The state of an answer that has no token yet.
    pub fn matcher(&self) -> Matcher {
        // Sharing the lexer's states would let one answer use up what is left for those that come later.
        Matcher {
            automaton: Automaton::new(Ok(self.0.start.deep_clone())),
        }
    }

    /// Judges the text of an answer that ended by itself. Thoughts before it are not part of it.
    ///
    /// # Errors
    /// [`Unmet`] when it is not what was asked for.
    pub fn check(&self, text: &str) -> Result<(), Unmet> {
        self.0.check.check(text)
    }

    /// Judges the arguments of a call.
    ///
    /// # Errors
    /// [`Unmet`] when there is no such function, or it does not take these.
    pub fn check_call(&self, name: &str, arguments: &str) -> Result<(), Unmet> {
        let known = self.0.arguments.iter().find(|(known, _)| known == name);
        let (_, check) =
            known.ok_or_else(|| Unmet::new("it calls a function that there is not"))?;
        check.check(arguments)
    }
}

/// Why an answer cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the answer cannot be kept to what was asked for: {0}; ask for something simpler")]
pub struct Stuck(String);

impl Stuck {
    /// Why, for the refusal of a shape.
    pub(super) fn reason(&self) -> String {
        format!("cannot be begun: {}; ask for something simpler", self.0)
    }
}

/// The state of one answer: which tokens may come next.
pub struct Matcher {
    automaton: Automaton,
}

impl Clone for Matcher {
    fn clone(&self) -> Self {
        Matcher {
            automaton: self.automaton.deep_clone(),
        }
    }
}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Matcher")
    }
}

impl Matcher {
    /// Makes every token that may not come next impossible (minus infinity) in a row of logits (`[vocabulary]`). When
    /// the answer is complete, only tokens that end it are left.
    ///
    /// # Errors
    /// [`Stuck`] when there is none, or to find them out costs more than an answer may.
    pub fn restrict(&mut self, logits: &mut [f32]) -> Result<(), Stuck> {
        let mask = self.automaton.compute_mask_or_eos().map_err(stuck)?;
        let words = mask.as_slice();
        // A model may have more rows than its vocabulary has tokens: words that are missing allow nothing.
        let all = words.iter().copied().chain(std::iter::repeat(0));
        for (chunk, word) in logits.chunks_mut(32).zip(all) {
            match word {
                u32::MAX => {}
                0 => chunk.fill(f32::NEG_INFINITY),
                word => {
                    for (bit, logit) in chunk.iter_mut().enumerate() {
                        if word >> bit & 1 == 0 {
                            *logit = f32::NEG_INFINITY;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes in the token that was drawn.
    ///
    /// # Errors
    /// [`Stuck`] when it may not come here.
    pub fn advance(&mut self, token: TokenId) -> Result<(), Stuck> {
        if self.automaton.is_stopped() && !self.automaton.is_error() {
            // Behind the end nothing counts.
            return Ok(());
        }
        self.automaton.consume_token(token).map_err(stuck)
    }

    /// Whether the answer may end here.
    ///
    /// # Errors
    /// [`Stuck`] when it cannot be told.
    pub fn may_end(&mut self) -> Result<bool, Stuck> {
        if self.automaton.is_stopped() && !self.automaton.is_error() {
            return Ok(true);
        }
        self.automaton.is_accepting().map_err(stuck)
    }
}

fn stuck(error: impl fmt::Display) -> Stuck {
    Stuck(short(&error.to_string()))
}
