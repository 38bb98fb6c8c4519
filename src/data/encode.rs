//! Records to token ids, with what of them is learnt.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ids::TokenId;
use crate::text::{ChatTemplate, Message, RenderOptions, Role, Specials, TextError, Tokenizer};

use super::Record;

/// Most bytes of a text that are encoded in one call.
const PIECE: usize = 1 << 20;

/// What becomes of a prompt and its completion.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Pairs {
    /// A chat of two turns, by the chat template.
    #[default]
    Turns,
    /// Plain text: the prompt, this text, the completion.
    Text(String),
}

/// What becomes of a sample that does not fit in a row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Overlong {
    /// It is an error.
    #[default]
    Refuse,
    /// Its end is cut off; how many were cut is told.
    Truncate,
}

/// How records are encoded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EncodeOptions {
    /// What becomes of prompts and completions.
    pub pairs: Pairs,
    /// Most tokens of a sample; none where documents are cut into rows.
    pub context: Option<usize>,
    /// What becomes of longer ones.
    pub overlong: Overlong,
}

/// Ids and which of them are learnt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sample {
    /// The ids.
    pub ids: Vec<TokenId>,
    /// One an id: whether the model learns to write it. The first of a sample follows nothing and is never learnt.
    pub learnt: Vec<bool>,
}

impl Sample {
    fn push(&mut self, ids: impl IntoIterator<Item = TokenId>, learnt: bool) {
        self.ids.extend(ids);
        self.learnt.resize(self.ids.len(), learnt);
    }

    /// How many tokens are learnt.
    pub fn learnt_tokens(&self) -> usize {
        self.learnt.iter().skip(1).filter(|learnt| **learnt).count()
    }
}

/// Encodes records by a tokenizer and a chat template.
#[derive(Debug, Clone)]
pub struct Encoder {
    tokenizer: Tokenizer,
    template: Option<ChatTemplate>,
    options: EncodeOptions,
    /// What the tokenizer puts in front of a text.
    front: Vec<TokenId>,
}

impl Encoder {
    /// An encoder. Without a template, chats are refused.
    ///
    /// # Errors
    /// [`TextError::Encode`] when the tokenizer cannot encode an empty prompt.
    pub fn new(
        tokenizer: Tokenizer,
        template: Option<ChatTemplate>,
        options: EncodeOptions,
    ) -> Result<Self, TextError> {
        let mut front = tokenizer.encode_prompt("")?;
        front.retain(|id| tokenizer.is_special(*id));
        let alone = front.len() == 1 && tokenizer.bos() == tokenizer.eos();
        if front.last().copied() == tokenizer.eos() && !alone {
            front.pop();
        }
        Ok(Encoder {
            tokenizer,
            template,
            options,
            front,
        })
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// How records are encoded.
    pub fn options(&self) -> &EncodeOptions {
        &self.options
    }

    /// The sample of a record.
    ///
    /// A text is what the tokenizer puts in front of a prompt, the text, and the token that ends a text, and all of it
    /// is learnt; a passage of a document has the ends that it holds. Of a pair as text the completion and the end are
    /// learnt, of a chat what the assistant says with the tokens that end its turns. Control tokens that a text spells
    /// are plain text.
    ///
    /// # Errors
    /// [`TextError::Template`] for a chat without a template, or with tool calls that the template does not write;
    /// [`TextError::Turns`] for a template from which the assistant's words cannot be told.
    pub fn encode(&self, record: &Record) -> Result<Sample, TextError> {
        match record {
            Record::Text { text, first, last } => self.document(text, *first, *last),
            Record::Pair { prompt, completion } => match &self.options.pairs {
                Pairs::Text(between) => self.pair(prompt, between, completion),
                Pairs::Turns => {
                    let turns = [
                        Message::new(Role::User, prompt),
                        Message::new(Role::Assistant, completion),
                    ];
                    self.chat(&turns, None)
                }
            },
            Record::Chat { messages, tools } => self.chat(messages, tools.as_ref()),
        }
    }

    fn document(&self, text: &str, first: bool, last: bool) -> Result<Sample, TextError> {
        let mut sample = Sample::default();
        if first {
            sample.push(self.front.iter().copied(), true);
        }
        sample.push(text_ids(&self.tokenizer, text)?, true);
        if last {
            sample.push(self.tokenizer.eos(), true);
        }
        Ok(sample)
    }

    fn pair(&self, prompt: &str, between: &str, completion: &str) -> Result<Sample, TextError> {
        let mut sample = Sample::default();
        sample.push(self.front.iter().copied(), false);
        // Apart, as the model will meet them: no token belongs to both.
        sample.push(
            text_ids(&self.tokenizer, &format!("{prompt}{between}"))?,
            false,
        );
        sample.push(text_ids(&self.tokenizer, completion)?, true);
        sample.push(self.tokenizer.eos(), true);
        Ok(sample)
    }

    fn chat(&self, messages: &[Message], tools: Option<&Value>) -> Result<Sample, TextError> {
        let refuse = |reason: &str| {
            Err(TextError::Template {
                reason: reason.to_owned(),
            })
        };
        let Some(template) = &self.template else {
            return refuse(
                "the model has none, and this record is a chat: name a template, or train on pairs as text",
            );
        };
        let calls = messages.iter().any(|message| message.tool_calls.is_some());
        if calls && !template.source().contains("tool_calls") {
            return refuse(
                "it does not write tool calls, and this chat has some: use one that does",
            );
        }
        if tools.is_some() && !template.source().contains("tools") {
            return refuse("it does not write tools, and this chat has some: use one that does");
        }
        let options = RenderOptions {
            add_generation_prompt: false,
            tools: tools.cloned(),
            ..RenderOptions::default()
        };
        let spoken = template.render_spoken(&self.tokenizer, messages, &options)?;
        Ok(Sample {
            ids: spoken.ids,
            learnt: spoken.said,
        })
    }
}

/// Ids of a plain text of any length.
pub(super) fn text_ids(tokenizer: &Tokenizer, text: &str) -> Result<Vec<TokenId>, TextError> {
    let mut ids = Vec::new();
    let mut rest = text;
    while rest.len() > PIECE {
        let end = (PIECE - 3..=PIECE)
            .rev()
            .find(|at| rest.is_char_boundary(*at));
        let room = rest.get(..end.unwrap_or(PIECE)).unwrap_or(rest);
        // After a line where there is one, so that no word is cut.
        let cut = room.rfind('\n').map_or(room.len(), |at| at + 1);
        let (piece, more) = rest.split_at(cut);
        ids.extend(tokenizer.encode(piece, Specials::Literal)?);
        rest = more;
    }
    if !rest.is_empty() {
        ids.extend(tokenizer.encode(rest, Specials::Literal)?);
    }
    Ok(ids)
}

#[cfg(test)]
pub(super) mod tests;
