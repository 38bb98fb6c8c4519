//! What an assistant says, taken apart as it comes: thoughts between `<think>` and `</think>`, words, and calls of
//! functions.

mod calls;
mod object;
mod syntax;
mod tag;
#[cfg(test)]
mod tests;
mod thoughts;

use calls::Calls;
pub use syntax::{CallSyntax, ToolUse};
use thoughts::Thoughts;

/// Where a text's thoughts are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Thinking {
    /// There are none: `<think>` is text.
    #[default]
    Never,
    /// It may begin with some.
    Maybe,
    /// The prompt has begun them.
    Begun,
}

/// A part of what was said, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// More of a thought.
    Thought(String),
    /// More of the words.
    Words(String),
    /// A call begins.
    Call {
        /// Which, from 0.
        index: usize,
        /// The function.
        name: String,
    },
    /// More of the arguments of a call, as JSON text.
    Arguments {
        /// Which call.
        index: usize,
        /// The text.
        text: String,
    },
}

/// Takes a text apart. The pieces may be cut anywhere.
#[derive(Debug, Clone)]
pub struct Speech {
    thoughts: Thoughts,
    calls: Option<Calls>,
}

impl Speech {
    /// At the beginning of a text.
    pub fn new(thinking: Thinking) -> Self {
        Speech {
            thoughts: Thoughts::new(thinking),
            calls: None,
        }
    }

    /// Reads calls of these functions; what names another one is words.
    #[must_use]
    pub fn calling(mut self, syntax: CallSyntax, functions: Vec<String>) -> Self {
        self.calls = Some(Calls::new(syntax, functions));
        self
    }

    /// The parts that are certain with `text`.
    pub fn push(&mut self, text: &str) -> Vec<Part> {
        let parts = self.thoughts.push(text);
        self.take(parts)
    }

    /// The parts that were held back until the end.
    pub fn finish(&mut self) -> Vec<Part> {
        let parts = self.thoughts.finish();
        let mut parts = self.take(parts);
        if let Some(calls) = &mut self.calls {
            calls.finish(&mut parts);
        }
        parts
    }

    fn take(&mut self, parts: Vec<Part>) -> Vec<Part> {
        let Some(calls) = &mut self.calls else {
            return parts;
        };
        let mut out = Vec::new();
        for part in parts {
            match part {
                Part::Words(text) => calls.push(&text, &mut out),
                other => out.push(other),
            }
        }
        out
    }
}
