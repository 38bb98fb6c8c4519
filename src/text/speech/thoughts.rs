//! Thoughts before an answer.

use super::tag::{find, split_space};
use super::{Part, Thinking};

const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";

/// Takes thoughts from the beginning of a text. White space around them is dropped, and that between them and the answer.
#[derive(Debug, Clone)]
pub(super) struct Thoughts {
    at: At,
    held: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Nothing but white space came.
    Start,
    /// In thoughts; nothing of them came.
    Opened,
    /// In the middle of them.
    Inside,
    /// Behind them; nothing of the answer came.
    Closed,
    Outside,
}

impl Thoughts {
    pub(super) fn new(thinking: Thinking) -> Self {
        Thoughts {
            at: match thinking {
                Thinking::Never => At::Outside,
                Thinking::Maybe => At::Start,
                Thinking::Begun => At::Opened,
            },
            held: String::new(),
        }
    }

    pub(super) fn push(&mut self, text: &str) -> Vec<Part> {
        let mut parts = Vec::new();
        self.held.push_str(text);
        while self.step(&mut parts) {}
        parts
    }

    pub(super) fn finish(&mut self) -> Vec<Part> {
        let rest = std::mem::take(&mut self.held);
        match self.at {
            _ if rest.is_empty() => Vec::new(),
            At::Start | At::Outside => vec![Part::Words(rest)],
            At::Opened | At::Inside => vec![Part::Thought(rest)],
            At::Closed => Vec::new(),
        }
    }

    /// Takes one part from what is held. Returns whether there may be more.
    fn step(&mut self, parts: &mut Vec<Part>) -> bool {
        match self.at {
            At::Start => {
                let solid = self.held.trim_start();
                if let Some(rest) = solid.strip_prefix(OPEN) {
                    self.held = rest.to_owned();
                    self.at = At::Opened;
                    return true;
                }
                if OPEN.starts_with(solid) {
                    return false;
                }
                self.at = At::Outside;
                true
            }
            At::Opened | At::Closed => {
                self.held = self.held.trim_start().to_owned();
                if self.held.is_empty() {
                    return false;
                }
                self.at = match self.at {
                    At::Opened => At::Inside,
                    _ => At::Outside,
                };
                true
            }
            At::Inside => {
                let found = find(&self.held, CLOSE);
                let (Ok(end) | Err(end)) = found;
                let held = std::mem::take(&mut self.held);
                let (before, after) = held.split_at(end);
                let (solid, space) = split_space(before);
                if !solid.is_empty() {
                    parts.push(Part::Thought(solid.to_owned()));
                }
                match found {
                    Ok(_) => {
                        self.held = after.strip_prefix(CLOSE).unwrap_or(after).to_owned();
                        self.at = At::Closed;
                        true
                    }
                    Err(_) => {
                        self.held = format!("{space}{after}");
                        false
                    }
                }
            }
            At::Outside => {
                let text = std::mem::take(&mut self.held);
                if !text.is_empty() {
                    parts.push(Part::Words(text));
                }
                false
            }
        }
    }
}
