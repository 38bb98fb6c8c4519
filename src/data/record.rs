//! One record of training data, whatever file it came from.

use serde_json::{Value, json};

use crate::text::Message;

/// What a sample is made of.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// A document, or a passage of one that is too long to hold: all of it is learnt.
    Text {
        /// The text.
        text: String,
        /// Whether the document begins with this passage.
        first: bool,
        /// Whether it ends with it.
        last: bool,
    },
    /// A prompt and what is to follow it; the latter is learnt.
    Pair {
        /// What the model is given.
        prompt: String,
        /// What it is to write.
        completion: String,
    },
    /// A chat; what the assistant says is learnt.
    Chat {
        /// The messages.
        messages: Vec<Message>,
        /// Descriptions of tools, for the chat template.
        tools: Option<Value>,
    },
}

impl Record {
    /// A whole document.
    pub fn text(text: impl Into<String>) -> Self {
        Record::Text {
            text: text.into(),
            first: true,
            last: true,
        }
    }

    /// The record as an object of a JSON Lines file that reads back as the same record.
    pub fn to_json(&self) -> Value {
        match self {
            Record::Text { text, .. } => json!({ "text": text }),
            Record::Pair { prompt, completion } => {
                json!({ "prompt": prompt, "completion": completion })
            }
            Record::Chat {
                messages,
                tools: None,
            } => json!({ "messages": messages }),
            Record::Chat {
                messages,
                tools: Some(tools),
            } => json!({ "messages": messages, "tools": tools }),
        }
    }

    /// The texts that the record holds, for what counts text only.
    pub fn texts(&self) -> Vec<&str> {
        match self {
            Record::Text { text, .. } => vec![text],
            Record::Pair { prompt, completion } => vec![prompt, completion],
            Record::Chat { messages, .. } => messages.iter().map(|m| m.content.as_str()).collect(),
        }
    }
}
