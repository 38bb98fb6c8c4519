//! Encoding a rendered chat in parts: what the assistant says, and the rest.

use std::ops::Range;

use crate::ids::TokenId;

use super::literal::{control_text, controls_within, refuse_hidden_controls, template_parts};
use super::turns::Turns;
use super::{Message, RenderOptions, Specials, TextError, Tokenizer};

/// Ids of a chat, and which of them the assistant says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spoken {
    /// The ids of the whole chat.
    pub ids: Vec<TokenId>,
    /// One an id: whether the assistant says it; what ends a turn counts, what the template writes after that does not.
    pub said: Vec<bool>,
}

impl Spoken {
    fn extend(&mut self, ids: Vec<TokenId>, said: bool) {
        self.said.resize(self.said.len() + ids.len(), said);
        self.ids.extend(ids);
    }
}

/// Ids of `text`, which is `messages` rendered, and which of them lie in the byte ranges of `turns`. The text is cut at
/// the ends of the ranges, so no token belongs to two sides. `marked` is the text with placeholders.
pub(super) fn encode_spoken(
    tokenizer: &Tokenizer,
    text: &str,
    marked: Option<&str>,
    messages: &[Message],
    options: &RenderOptions,
    turns: Turns,
) -> Result<Spoken, TextError> {
    refuse_hidden_controls(tokenizer, messages, options)?;
    let own = marked.and_then(|marked| template_parts(marked, text, messages));
    let controls = match own {
        Some(own) => controls_within(tokenizer, text, own)?,
        None => {
            let spells = |message: &Message| tokenizer.names_control(&message.content);
            if let Some(at) = messages.iter().position(spells) {
                return Err(control_text(format!("message {at}")));
            }
            tokenizer.parse(text)?.controls
        }
    };
    let mut spoken = Spoken::default();
    let mut done = 0;
    for range in turns.said(&controls)? {
        spoken.extend(cut(tokenizer, text, done..range.start, &controls)?, false);
        spoken.extend(cut(tokenizer, text, range.clone(), &controls)?, true);
        done = range.end;
    }
    spoken.extend(cut(tokenizer, text, done..text.len(), &controls)?, false);
    Ok(spoken)
}

/// Ids of one part of a text, encoded apart from the rest.
fn cut(
    tokenizer: &Tokenizer,
    text: &str,
    part: Range<usize>,
    controls: &[(Range<usize>, TokenId)],
) -> Result<Vec<TokenId>, TextError> {
    let mut ids = Vec::new();
    let mut done = part.start;
    // SentencePiece puts a space before a text; here only where the whole text has one.
    let mut fresh = part.start == 0 || controls.iter().any(|(range, _)| range.end == part.start);
    let inside = controls
        .iter()
        .filter(|(range, _)| range.start >= part.start && range.end <= part.end);
    for (range, id) in inside {
        let between = text.get(done..range.start).unwrap_or_default();
        ids.extend(encode_piece(tokenizer, between, fresh)?);
        ids.push(*id);
        (done, fresh) = (range.end, true);
    }
    let rest = text.get(done..part.end).unwrap_or_default();
    ids.extend(encode_piece(tokenizer, rest, fresh)?);
    Ok(ids)
}

/// Ids of a literal text that begins afresh, or goes on within a text.
fn encode_piece(tokenizer: &Tokenizer, text: &str, fresh: bool) -> Result<Vec<TokenId>, TextError> {
    if fresh || text.is_empty() || !tokenizer.strips_leading_space() {
        return match text {
            "" => Ok(Vec::new()),
            text => tokenizer.encode(text, Specials::Literal),
        };
    }
    let front = tokenizer.encode("\n", Specials::Literal)?;
    let ids = tokenizer.encode(&format!("\n{text}"), Specials::Literal)?;
    match ids.strip_prefix(front.as_slice()) {
        Some(rest) => Ok(rest.to_vec()),
        None => Err(TextError::Encode {
            reason: "a line break merges with what follows it, so the text cannot be cut there"
                .to_owned(),
        }),
    }
}
