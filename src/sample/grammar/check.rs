//! The judgement of a complete answer, by a library that had no part in making it.

use std::fmt;
use std::sync::Arc;

use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

use super::shape::BadShape;

/// An answer that is complete and is not what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the answer is not what was asked for: {place}{reason}; try again, with another seed or a simpler schema"
)]
pub struct Unmet {
    /// Where in the answer, with a space after it; empty for the whole.
    place: String,
    /// What is wrong there. The answer itself is not repeated.
    reason: String,
}

impl Unmet {
    pub(super) fn new(reason: impl Into<String>) -> Self {
        Unmet {
            place: String::new(),
            reason: reason.into(),
        }
    }
}

/// Judges texts by a JSON schema.
#[derive(Clone)]
pub struct SchemaCheck(Arc<Validator>);

impl fmt::Debug for SchemaCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SchemaCheck")
    }
}

impl SchemaCheck {
    /// Compiles a schema; nothing is fetched. `format` is not judged: it is an annotation in JSON Schema.
    ///
    /// # Errors
    /// [`BadShape`] with the place that is no valid schema.
    pub fn new(schema: &Value) -> Result<Self, BadShape> {
        let built = jsonschema::options()
            // In linear time, whatever the pattern.
            .with_pattern_options(PatternOptions::regex())
            .should_validate_formats(false)
            .build(schema);
        match built {
            Ok(validator) => Ok(SchemaCheck(Arc::new(validator))),
            Err(error) => Err(BadShape::at(
                error.instance_path().as_str(),
                format!("is no valid schema: {}", short(&error.masked().to_string())),
            )),
        }
    }

    /// Judges `text`.
    ///
    /// # Errors
    /// [`Unmet`] when it is no JSON, or JSON that the schema does not allow.
    pub fn check(&self, text: &str) -> Result<(), Unmet> {
        let value = json(text)?;
        match self.0.validate(&value) {
            Ok(()) => Ok(()),
            Err(error) => {
                let place = match error.instance_path().as_str() {
                    "" => String::new(),
                    path => format!("{} ", short(path)),
                };
                Err(Unmet {
                    place,
                    reason: short(&error.masked().to_string()),
                })
            }
        }
    }
}

/// What complete answers are judged by.
#[derive(Debug, Clone)]
pub(super) enum Check {
    /// The automaton's word is enough.
    Nothing,
    /// A JSON object.
    Object,
    /// A schema.
    Schema(SchemaCheck),
    /// One of these texts.
    Choice(Vec<String>),
}

impl Check {
    pub(super) fn check(&self, text: &str) -> Result<(), Unmet> {
        match self {
            Check::Nothing => Ok(()),
            Check::Object if json(text)?.is_object() => Ok(()),
            Check::Object => Err(Unmet::new("it is no json object")),
            Check::Schema(schema) => schema.check(text),
            Check::Choice(texts) if texts.iter().any(|known| known == text) => Ok(()),
            Check::Choice(_) => Err(Unmet::new("it is none of the choices")),
        }
    }
}

fn json(text: &str) -> Result<Value, Unmet> {
    serde_json::from_str(text).map_err(|error| Unmet::new(format!("it is no json: {error}")))
}

/// The first line of what a library says, cut to a length for a message.
pub(super) fn short(text: &str) -> String {
    text.lines()
        .next()
        .unwrap_or_default()
        .chars()
        .take(240)
        .collect()
}
