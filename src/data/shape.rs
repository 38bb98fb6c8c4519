//! The shapes of records: which fields hold what is trained on.

mod chat;
#[cfg(test)]
mod tests;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Record;
use super::json::{FieldError, Fields, kind, object};

/// Which fields a record has.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// `messages`: a list of `role` and `content`, with `tools` where there are any.
    Messages,
    /// `conversation`: the same under LlamaHome's name.
    Conversation,
    /// `conversations`: ShareGPT's list of `from` and `value`, or of `role` and `content`.
    Conversations,
    /// `prompt` and `completion`.
    PromptCompletion,
    /// `instruction` and `instances`, a list of `input` and `output`: one record each, as in Self-Instruct's seeds.
    Instances,
    /// `instruction`, `output` and perhaps `input`, as in Alpaca.
    Alpaca,
    /// `question` and `answer`, as in GSM8K.
    QuestionAnswer,
    /// `text`, perhaps with a `label`.
    Text,
}

/// In the order in which they are looked for.
const SHAPES: [Shape; 8] = [
    Shape::Messages,
    Shape::Conversation,
    Shape::Conversations,
    Shape::PromptCompletion,
    Shape::Instances,
    Shape::Alpaca,
    Shape::QuestionAnswer,
    Shape::Text,
];

/// What an object holds, and the names of its fields that mean nothing here.
#[derive(Debug, PartialEq)]
pub(super) struct Parsed {
    pub(super) shape: Shape,
    pub(super) records: Vec<Record>,
    pub(super) unused: Vec<String>,
}

impl Shape {
    /// The fields that a record of this shape must have.
    pub fn fields(self) -> &'static [&'static str] {
        match self {
            Shape::Messages => &["messages"],
            Shape::Conversation => &["conversation"],
            Shape::Conversations => &["conversations"],
            Shape::PromptCompletion => &["prompt", "completion"],
            Shape::Instances => &["instruction", "instances"],
            Shape::Alpaca => &["instruction", "output"],
            Shape::QuestionAnswer => &["question", "answer"],
            Shape::Text => &["text"],
        }
    }

    fn optional(self) -> &'static [&'static str] {
        match self {
            Shape::Messages | Shape::Conversation => &["tools"],
            Shape::Conversations => &["tools", "system"],
            Shape::Alpaca => &["input"],
            Shape::Text => &["label"],
            Shape::PromptCompletion | Shape::Instances | Shape::QuestionAnswer => &[],
        }
    }

    fn of(map: &Map<String, Value>) -> Result<Shape, FieldError> {
        let has_all = |shape: &&Shape| shape.fields().iter().all(|f| map.contains_key(*f));
        let found = SHAPES.iter().find(has_all).copied();
        found.ok_or_else(|| {
            let known: Vec<String> = SHAPES.iter().map(|s| s.fields().join("+")).collect();
            let has: Vec<&str> = map.keys().map(String::as_str).take(12).collect();
            FieldError::whole(format!(
                "no known fields among {has:?}; one of these is needed: {}",
                known.join(", ")
            ))
        })
    }

    /// The records of an object; a shape that is given is the only one that is tried.
    pub(super) fn parse(forced: Option<Shape>, value: &Value) -> Result<Parsed, FieldError> {
        let Some(map) = value.as_object() else {
            return Err(FieldError::whole(format!(
                "is {}, an object is needed",
                kind(value)
            )));
        };
        let shape = match forced {
            Some(shape) => shape,
            None => Shape::of(map)?,
        };
        let known = |key: &&String| {
            let key = key.as_str();
            !shape.fields().contains(&key) && !shape.optional().contains(&key)
        };
        Ok(Parsed {
            shape,
            records: shape.records(Fields { map, path: "" })?,
            unused: map.keys().filter(known).cloned().collect(),
        })
    }

    fn records(self, fields: Fields<'_>) -> Result<Vec<Record>, FieldError> {
        let pair = |prompt: &str, completion: &str| Record::Pair {
            prompt: prompt.to_owned(),
            completion: completion.to_owned(),
        };
        Ok(match self {
            Shape::Messages => vec![chat::messages(fields, "messages")?],
            Shape::Conversation => vec![chat::messages(fields, "conversation")?],
            Shape::Conversations => vec![chat::messages(fields, "conversations")?],
            Shape::PromptCompletion => {
                vec![pair(fields.text("prompt")?, fields.text("completion")?)]
            }
            Shape::QuestionAnswer => vec![pair(fields.text("question")?, fields.text("answer")?)],
            Shape::Alpaca => {
                let output = fields.text("output")?;
                vec![pair(&instruction(fields, fields)?, output)]
            }
            Shape::Instances => {
                let mut records = Vec::new();
                for (at, item) in fields.list("instances")?.iter().enumerate() {
                    let path = format!("instances[{at}]");
                    let map = object(item, &path)?;
                    let path = path + ".";
                    let instance = Fields { map, path: &path };
                    let output = instance.text("output")?;
                    records.push(pair(&instruction(fields, instance)?, output));
                }
                records
            }
            Shape::Text => {
                let text = fields.text("text")?;
                label(fields)?;
                vec![Record::text(text)]
            }
        })
    }
}

/// An instruction, and its input after a blank line when there is one.
fn instruction(fields: Fields<'_>, instance: Fields<'_>) -> Result<String, FieldError> {
    let instruction = fields.text("instruction")?;
    let input = match instance.map.get("input") {
        None | Some(Value::Null) => "",
        Some(_) => instance.any_text("input")?,
    };
    Ok(match input.trim().is_empty() {
        true => instruction.to_owned(),
        false => format!("{instruction}\n\n{input}"),
    })
}

/// A label plays no part in training a language model, but one that marks a missing class tells of a broken record.
fn label(fields: Fields<'_>) -> Result<(), FieldError> {
    let bad = |reason: String| Err(FieldError::of(fields.name("label"), reason));
    let negative = |number: f64| match number < 0.0 {
        true => bad(format!(
            "is {number}: no class; label the record or remove it"
        )),
        false => Ok(()),
    };
    match fields.map.get("label") {
        None | Some(Value::Bool(_)) => Ok(()),
        Some(Value::Number(number)) => negative(number.as_f64().unwrap_or(0.0)),
        Some(Value::String(text)) if text.trim().is_empty() => bad("is empty".to_owned()),
        Some(Value::String(text)) => negative(text.trim().parse().unwrap_or(0.0)),
        Some(other) => bad(format!("is {}, a class is needed", kind(other))),
    }
}
