//! Fields of a JSON object, read with their names at hand.

use serde_json::{Map, Value};

/// What is wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FieldError {
    /// Its path, such as `messages[2].content`; none for the record as a whole.
    pub(super) field: Option<String>,
    pub(super) reason: String,
}

impl FieldError {
    pub(super) fn of(field: impl Into<String>, reason: impl Into<String>) -> Self {
        FieldError {
            field: Some(field.into()),
            reason: reason.into(),
        }
    }

    pub(super) fn whole(reason: impl Into<String>) -> Self {
        FieldError {
            field: None,
            reason: reason.into(),
        }
    }
}

/// What a value is, for messages.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// An object and the path that leads to it; the path ends with a dot unless it is empty.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a> {
    pub(super) map: &'a Map<String, Value>,
    pub(super) path: &'a str,
}

impl<'a> Fields<'a> {
    pub(super) fn name(&self, key: &str) -> String {
        format!("{}{key}", self.path)
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    fn value(&self, key: &str) -> Result<&'a Value, FieldError> {
        let value = self.map.get(key);
        value.ok_or_else(|| FieldError::of(self.name(key), "is missing; add it"))
    }

    /// A text, which may be empty.
    pub(super) fn any_text(&self, key: &str) -> Result<&'a str, FieldError> {
        match self.value(key)? {
            Value::String(text) => Ok(text),
            other => Err(FieldError::of(
                self.name(key),
                format!("is {}, a text is needed", kind(other)),
            )),
        }
    }

    /// A text with something in it.
    pub(super) fn text(&self, key: &str) -> Result<&'a str, FieldError> {
        let text = self.any_text(key)?;
        match text.trim().is_empty() {
            true => Err(FieldError::of(
                self.name(key),
                "is empty; fill it or remove the record",
            )),
            false => Ok(text),
        }
    }

    /// A list with something in it; tables hold lists as JSON in a text.
    pub(super) fn list(&self, key: &str) -> Result<Vec<Value>, FieldError> {
        let value = self.value(key)?;
        let parsed = match value {
            Value::String(text) => serde_json::from_str(text).map_err(|error| {
                FieldError::of(
                    self.name(key),
                    format!("is a text that is no JSON: {error}"),
                )
            })?,
            other => other.clone(),
        };
        match parsed {
            Value::Array(items) if items.is_empty() => Err(FieldError::of(
                self.name(key),
                "is an empty list; fill it or remove the record",
            )),
            Value::Array(items) => Ok(items),
            other => Err(FieldError::of(
                self.name(key),
                format!("is {}, a list is needed", kind(&other)),
            )),
        }
    }
}

/// An item of a list as an object.
pub(super) fn object<'a>(
    value: &'a Value,
    field: &str,
) -> Result<&'a Map<String, Value>, FieldError> {
    value
        .as_object()
        .ok_or_else(|| FieldError::of(field, format!("is {}, an object is needed", kind(value))))
}
