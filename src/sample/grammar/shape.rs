//! What an answer is asked to be.

use serde_json::Value;

use super::calls::CallFormat;

/// Most bytes of a schema, a regular expression or a grammar; of a schema, as JSON.
pub const MAX_SHAPE_BYTES: usize = 128 << 10;
/// Most texts to choose from.
pub const MAX_CHOICES: usize = 4096;

/// What an answer is asked to be.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    /// Any JSON object.
    JsonObject,
    /// JSON that fulfils a schema (<https://json-schema.org/draft/2020-12>).
    JsonSchema(Value),
    /// A text that a regular expression matches from its beginning to its end; Rust's syntax without look-around.
    Regex(String),
    /// One of these.
    Choice(Vec<String>),
    /// A text of a context-free grammar in llguidance's dialect of Lark, from its rule `start`.
    Grammar(String),
    /// Calls of functions, or text and calls.
    Calls(CallFormat),
}

/// Why a shape is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct BadShape {
    /// Where in it, as a JSON pointer (<https://www.rfc-editor.org/rfc/rfc6901>); empty for the whole.
    pub pointer: String,
    /// What is wrong there and what would be right.
    pub reason: String,
}

impl BadShape {
    pub(super) fn whole(reason: impl Into<String>) -> Self {
        BadShape::at("", reason)
    }

    pub(super) fn at(pointer: impl Into<String>, reason: impl Into<String>) -> Self {
        BadShape {
            pointer: pointer.into(),
            reason: reason.into(),
        }
    }
}

impl Shape {
    /// Its bytes, near enough to weigh it.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Shape::JsonObject => 16,
            Shape::JsonSchema(schema) => schema.to_string().len(),
            Shape::Regex(text) | Shape::Grammar(text) => text.len(),
            Shape::Choice(texts) => texts.iter().map(|text| text.len() + 4).sum(),
            Shape::Calls(calls) => calls.bytes(),
        }
    }
}
