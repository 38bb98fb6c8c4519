//! What an answer is asked to be: OpenAI's `response_format`, and vLLM's `structured_outputs` with its older names.

use serde_json::{Map, Value};

use super::fields::{strings, wrong};
use super::{ApiError, Fields};
use crate::sample::{BadShape, Shape};

/// Longest name of a schema.
const MAX_NAME: usize = 64;

/// What an answer is asked to be, and where the request says so.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::http) struct Format {
    /// What.
    pub(in crate::http) shape: Shape,
    /// The place in the body.
    pub(in crate::http) param: &'static str,
}

impl Format {
    pub(super) fn read(fields: &mut Fields) -> Result<Option<Self>, ApiError> {
        let mut found: Vec<Format> = Vec::new();
        found.extend(response_format(fields)?);
        found.extend(structured_outputs(fields)?);
        for (param, kind) in [
            ("guided_json", "json"),
            ("guided_regex", "regex"),
            ("guided_choice", "choice"),
            ("guided_grammar", "grammar"),
        ] {
            if let Some(value) = fields.take(param) {
                let shape = shape(param, kind, value)?;
                found.push(Format { shape, param });
            }
        }
        let hint = "white space in JSON is free, and bounded";
        fields.refuse("guided_whitespace_pattern", hint, |_| false)?;
        match found.as_slice() {
            [_, second, ..] => {
                let reason = "asks for another form than the one beside it: give one of them";
                Err(ApiError::bad(second.param, reason))
            }
            _ => Ok(found.pop()),
        }
    }

    /// A schema, which stands under `param`.
    pub(in crate::http) fn schema(
        param: &'static str,
        value: Option<Value>,
    ) -> Result<Self, ApiError> {
        let shape = match value {
            Some(schema @ Value::Object(_)) => Shape::JsonSchema(schema),
            Some(other) => return Err(wrong(param, &other, "a schema")),
            None => return Err(ApiError::bad(param, "is missing")),
        };
        Ok(Format { shape, param })
    }
}

/// A refused shape, with its place in the body: a JSON pointer follows the parameter.
pub(in crate::http) fn refused(param: &str, bad: &BadShape) -> ApiError {
    let place = match bad.pointer.as_str() {
        "" => param.to_owned(),
        pointer => format!("{param}#{pointer}"),
    };
    ApiError::bad(place, &bad.reason)
}

fn response_format(fields: &mut Fields) -> Result<Option<Format>, ApiError> {
    let Some(mut format) = fields.object("response_format")? else {
        return Ok(None);
    };
    let kind = match format.shift_remove("type") {
        Some(Value::String(kind)) => kind,
        Some(other) => return Err(wrong("response_format.type", &other, "a string")),
        None => return Err(ApiError::bad("response_format.type", "is missing")),
    };
    let asked = match kind.as_str() {
        "text" => None,
        "json_object" => Some(Format {
            shape: Shape::JsonObject,
            param: "response_format",
        }),
        "json_schema" => Some(json_schema(format.shift_remove("json_schema"))?),
        _ => {
            return Err(ApiError::bad(
                "response_format.type",
                "is not known, use text, json_object or json_schema",
            ));
        }
    };
    none_left("response_format", &format)?;
    Ok(asked)
}

fn json_schema(value: Option<Value>) -> Result<Format, ApiError> {
    const AT: &str = "response_format.json_schema";
    let at = |name: &str| format!("{AT}.{name}");
    let mut map = match value {
        Some(Value::Object(map)) => map,
        Some(other) => return Err(wrong(AT, &other, "an object")),
        None => return Err(ApiError::bad(AT, "is missing")),
    };
    let plain = |name: &str| {
        let letter = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        (1..=MAX_NAME).contains(&name.len()) && name.chars().all(letter)
    };
    match map.shift_remove("name") {
        Some(Value::String(name)) if plain(&name) => {}
        _ => {
            let reason = format!("is not 1 to {MAX_NAME} letters, digits, - and _");
            return Err(ApiError::bad(at("name"), reason));
        }
    }
    if let Some(other) = map.shift_remove("description")
        && !(other.is_string() || other.is_null())
    {
        return Err(wrong(&at("description"), &other, "a string"));
    }
    // A schema is kept to in any case.
    if let Some(other) = map.shift_remove("strict")
        && !(other.is_boolean() || other.is_null())
    {
        return Err(wrong(&at("strict"), &other, "true or false"));
    }
    let schema = map.shift_remove("schema");
    none_left(AT, &map)?;
    Format::schema("response_format.json_schema.schema", schema)
}

fn structured_outputs(fields: &mut Fields) -> Result<Option<Format>, ApiError> {
    let Some(map) = fields.object("structured_outputs")? else {
        return Ok(None);
    };
    let mut found = None;
    for (name, value) in map.into_iter().filter(|(_, value)| !value.is_null()) {
        let (param, kind) = match name.as_str() {
            "json" => ("structured_outputs.json", "json"),
            "json_object" => ("structured_outputs.json_object", "json_object"),
            "regex" => ("structured_outputs.regex", "regex"),
            "choice" => ("structured_outputs.choice", "choice"),
            "grammar" => ("structured_outputs.grammar", "grammar"),
            _ => {
                let param = format!("structured_outputs.{name}");
                let hint = "use json, json_object, regex, choice or grammar";
                return Err(ApiError::unsupported(param, hint));
            }
        };
        if kind == "json_object" && value == Value::Bool(false) {
            continue;
        }
        if found.is_some() {
            let reason = "asks for another form than the one beside it: give one of them";
            return Err(ApiError::bad(param, reason));
        }
        let shape = shape(param, kind, value)?;
        found = Some(Format { shape, param });
    }
    Ok(found)
}

fn shape(param: &'static str, kind: &str, value: Value) -> Result<Shape, ApiError> {
    match (kind, value) {
        ("json", Value::String(text)) => match serde_json::from_str(&text) {
            Ok(schema @ Value::Object(_)) => Ok(Shape::JsonSchema(schema)),
            Ok(other) => Err(wrong(param, &other, "a schema")),
            Err(error) => Err(ApiError::bad(param, format!("is no json: {error}"))),
        },
        ("json", schema @ Value::Object(_)) => Ok(Shape::JsonSchema(schema)),
        ("json_object", Value::Bool(true)) => Ok(Shape::JsonObject),
        ("regex", Value::String(text)) => Ok(Shape::Regex(text)),
        ("grammar", Value::String(text)) => Ok(Shape::Grammar(text)),
        ("choice", Value::Array(list)) => {
            strings(param, list, "a list of strings").map(Shape::Choice)
        }
        (kind, other) => {
            let wanted = match kind {
                "json" => "a schema, as an object or as text",
                "choice" => "a list of strings",
                "json_object" => "true or false",
                _ => "a string",
            };
            Err(wrong(param, &other, wanted))
        }
    }
}

fn none_left(at: &str, map: &Map<String, Value>) -> Result<(), ApiError> {
    match map.iter().find(|(_, value)| !value.is_null()) {
        Some((name, _)) => Err(ApiError::unsupported(
            format!("{at}.{name}"),
            "leave it out",
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(body: &str) -> Result<Option<Format>, ApiError> {
        Format::read(&mut Fields::parse(body.as_bytes())?)
    }

    #[test]
    fn each_way_to_ask_is_read() {
        let schema = || Shape::JsonSchema(json!({"type": "object"}));
        for (body, param, shape) in [
            (
                r#"{"response_format": {"type": "json_object"}}"#,
                "response_format",
                Shape::JsonObject,
            ),
            (
                r#"{"response_format": {"type": "json_schema", "json_schema": {"name": "a", "strict": true, "description": null,
                    "schema": {"type": "object"}}}}"#,
                "response_format.json_schema.schema",
                schema(),
            ),
            (
                r#"{"structured_outputs": {"json": {"type": "object"}, "regex": null}}"#,
                "structured_outputs.json",
                schema(),
            ),
            (
                r#"{"structured_outputs": {"json": "{\"type\": \"object\"}"}}"#,
                "structured_outputs.json",
                schema(),
            ),
            (
                r#"{"structured_outputs": {"regex": "a+"}}"#,
                "structured_outputs.regex",
                Shape::Regex("a+".to_owned()),
            ),
            (
                r#"{"guided_choice": ["a"]}"#,
                "guided_choice",
                Shape::Choice(vec!["a".to_owned()]),
            ),
            (
                r#"{"guided_grammar": "start: \"a\""}"#,
                "guided_grammar",
                Shape::Grammar("start: \"a\"".to_owned()),
            ),
            (
                r#"{"guided_json": {"type": "object"}}"#,
                "guided_json",
                schema(),
            ),
        ] {
            assert_eq!(read(body).unwrap(), Some(Format { shape, param }), "{body}");
        }
        for nothing in [
            "{}",
            r#"{"response_format": {"type": "text"}, "structured_outputs": {"json_object": false}}"#,
        ] {
            assert_eq!(read(nothing).unwrap(), None, "{nothing}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (body, param) in [
            (r#"{"response_format": "json"}"#, "response_format"),
            (r#"{"response_format": {}}"#, "response_format.type"),
            (
                r#"{"response_format": {"type": "xml"}}"#,
                "response_format.type",
            ),
            (
                r#"{"response_format": {"type": "text", "x": 1}}"#,
                "response_format.x",
            ),
            (
                r#"{"response_format": {"type": "json_schema"}}"#,
                "response_format.json_schema",
            ),
            (
                r#"{"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}}"#,
                "response_format.json_schema.name",
            ),
            (
                r#"{"response_format": {"type": "json_schema", "json_schema": {"name": "a b", "schema": {}}}}"#,
                "response_format.json_schema.name",
            ),
            (
                r#"{"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}}"#,
                "response_format.json_schema.schema",
            ),
            (
                r#"{"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": []}}}"#,
                "response_format.json_schema.schema",
            ),
            (
                r#"{"structured_outputs": {"structural_tag": "x"}}"#,
                "structured_outputs.structural_tag",
            ),
            (
                r#"{"structured_outputs": {"regex": "a", "choice": ["b"]}}"#,
                "structured_outputs.choice",
            ),
            (r#"{"guided_regex": 5}"#, "guided_regex"),
            (r#"{"guided_json": "{"}"#, "guided_json"),
            (r#"{"guided_choice": ["a", 1]}"#, "guided_choice"),
            (
                r#"{"guided_regex": "a", "response_format": {"type": "json_object"}}"#,
                "guided_regex",
            ),
            (
                r#"{"guided_whitespace_pattern": " "}"#,
                "guided_whitespace_pattern",
            ),
        ] {
            let error = read(body).unwrap_err();
            assert_eq!(
                (error.status, error.param.as_deref()),
                (400, Some(param)),
                "{body}"
            );
        }
        let reason = "is not supported".to_owned();
        let pointer = "/not".to_owned();
        let error = refused("guided_json", &BadShape { pointer, reason });
        assert_eq!(error.param.as_deref(), Some("guided_json#/not"));
    }
}
