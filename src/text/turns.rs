//! What the assistant says in a rendered chat: the ranges of the text that a model learns to write.

use std::ops::Range;

use crate::ids::TokenId;

use super::template_env::{BEGIN, END};
use super::{Message, Role, TextError};

/// Byte ranges of a rendered chat, in order and apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turns {
    /// What the template marks.
    Marked(Vec<Range<usize>>),
    /// What the template adds for a reply, by the number of its message.
    Added(Vec<(usize, Range<usize>)>),
}

impl Turns {
    /// The ranges to learn: an added one ends with its last control token, since a model stops there.
    pub(super) fn said(
        self,
        controls: &[(Range<usize>, TokenId)],
    ) -> Result<Vec<Range<usize>>, TextError> {
        let turns = match self {
            Turns::Marked(ranges) => return Ok(ranges),
            Turns::Added(turns) => turns,
        };
        let until_end = |(message, turn): (usize, Range<usize>)| {
            let inside = |range: &Range<usize>| range.start >= turn.start && range.end <= turn.end;
            let mut ends = controls.iter().map(|(range, _)| range);
            match ends.rfind(|range| inside(range)) {
                Some(end) => Ok(turn.start..end.end),
                None => Err(TextError::Turns {
                    message,
                    reason: "no control token ends it, so a model could not learn to stop",
                }),
            }
        };
        turns.into_iter().map(until_end).collect()
    }
}

/// Ranges between the signs of `marked`, which is `text` with signs in it.
pub(super) fn by_marks(marked: &str, text: &str) -> Result<Turns, TextError> {
    let mut plain = String::with_capacity(text.len());
    let mut ranges = Vec::new();
    let mut begun = None;
    for part in marked.split_inclusive([BEGIN, END]) {
        plain.push_str(part.trim_end_matches([BEGIN, END]));
        match (part.chars().next_back(), begun) {
            (Some(BEGIN), None) => begun = Some(plain.len()),
            (Some(END), Some(start)) => {
                ranges.push(start..plain.len());
                begun = None;
            }
            (Some(BEGIN | END), _) => {
                return Err(TextError::Template {
                    reason: "its {% generation %} marks are not in pairs".to_owned(),
                });
            }
            _ => {}
        }
    }
    match plain == text && begun.is_none() {
        true => Ok(Turns::Marked(ranges)),
        false => Err(TextError::Template {
            reason: "its {% generation %} marks change the text around them".to_owned(),
        }),
    }
}

/// Ranges that the template adds to the prompt for each reply. `render` renders the first messages, with or without
/// asking for a reply.
pub(super) fn by_prompts(
    messages: &[Message],
    text: &str,
    render: impl Fn(&[Message], bool) -> Result<String, TextError>,
) -> Result<Turns, TextError> {
    let mut turns = Vec::new();
    let replies = messages.iter().enumerate();
    for (at, _) in replies.filter(|(_, message)| message.role == Role::Assistant) {
        let refuse = |reason| TextError::Turns {
            message: at,
            reason,
        };
        let before = render(messages.get(..at).unwrap_or_default(), true);
        let before = before
            .map_err(|_| refuse("the template refuses the messages before it on their own"))?;
        let upto = render(messages.get(..=at).unwrap_or_default(), false);
        let upto =
            upto.map_err(|_| refuse("the template refuses the messages up to it on their own"))?;
        if !text.starts_with(&upto) {
            return Err(refuse(
                "the template writes the messages up to it otherwise when more follow",
            ));
        }
        if !upto.starts_with(&before) {
            return Err(refuse(
                "the prompt for it is not how the template writes what precedes it",
            ));
        }
        turns.push((at, before.len()..upto.len()));
    }
    Ok(Turns::Added(turns))
}

#[cfg(test)]
mod tests;
