//! Schemas, put together (<https://json-schema.org/draft/2020-12>, which OpenAPI 3.1 is written in).

use serde_json::{Map, Value, json};

/// Any text.
pub(super) fn text() -> Value {
    json!({ "type": "string" })
}

/// One of these texts.
pub(super) fn one_of(names: &[&str]) -> Value {
    json!({ "type": "string", "enum": names })
}

/// True or false.
pub(super) fn flag() -> Value {
    json!({ "type": "boolean" })
}

/// A number from `low` to `high`.
pub(super) fn number(low: f64, high: f64) -> Value {
    json!({ "type": "number", "minimum": low, "maximum": high })
}

/// A number above 0, up to `high`.
pub(super) fn above_zero(high: f64) -> Value {
    json!({ "type": "number", "exclusiveMinimum": 0, "maximum": high })
}

/// A whole number from `low` to `high`.
pub(super) fn whole(low: i64, high: i64) -> Value {
    json!({ "type": "integer", "minimum": low, "maximum": high })
}

/// A whole number, `low` or more.
pub(super) fn at_least(low: i64) -> Value {
    json!({ "type": "integer", "minimum": low })
}

/// Any whole number.
pub(super) fn integer() -> Value {
    json!({ "type": "integer" })
}

/// A count of something in an answer.
pub(super) fn count() -> Value {
    json!({ "type": "integer", "minimum": 0 })
}

/// A measure of something in an answer.
pub(super) fn measure() -> Value {
    json!({ "type": "number" })
}

/// A list of at least `least` and at most `most`.
pub(super) fn list(items: Value, least: usize, most: usize) -> Value {
    json!({ "type": "array", "items": items, "minItems": least, "maxItems": most })
}

/// A list in an answer.
pub(super) fn all(items: Value) -> Value {
    json!({ "type": "array", "items": items })
}

/// Any of several.
pub(super) fn any_of(schemas: impl Into<Vec<Value>>) -> Value {
    json!({ "anyOf": schemas.into() })
}

/// An object of whatever names.
pub(super) fn map() -> Value {
    json!({ "type": "object" })
}

/// A schema of this name.
pub(super) fn named(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// Where a field is left out.
pub(super) fn unsaid(name: &str) -> Value {
    json!({ "properties": { name: { "type": "null" } } })
}

/// Where a field is left out, or says no more than that.
pub(super) fn unsaid_or(name: &str, nothing: impl Into<Value>) -> Value {
    json!({ "properties": { name: { "enum": [nothing.into(), null] } } })
}

/// The same, or `null`.
pub(super) fn or_null(mut schema: Value) -> Value {
    let Some(map) = schema.as_object_mut() else {
        return schema;
    };
    if let Some(Value::Array(names)) = map.get_mut("enum") {
        names.push(Value::Null);
    }
    if map.contains_key("$ref") {
        return any_of([schema, json!({ "type": "null" })]);
    }
    match map.get_mut("type") {
        Some(kind @ Value::String(_)) => *kind = json!([kind.take(), "null"]),
        Some(_) => {}
        None => {
            if let Some(Value::Array(list)) = map.get_mut("anyOf") {
                list.push(json!({ "type": "null" }));
            }
        }
    }
    schema
}

/// An object, field by field.
#[derive(Debug, Default)]
pub(super) struct Object {
    properties: Map<String, Value>,
    required: Vec<Value>,
    rules: Map<String, Value>,
    conditions: Vec<Value>,
}

impl Object {
    pub(super) fn new() -> Self {
        Object::default()
    }

    /// A field that has to be there.
    #[must_use]
    pub(super) fn must(mut self, name: &str, schema: Value, about: &str) -> Self {
        self.required.push(name.into());
        self.add(name, schema, about)
    }

    /// A field that may be left out, or be `null`, which is the same.
    #[must_use]
    pub(super) fn may(self, name: &str, schema: Value, about: &str) -> Self {
        self.add(name, or_null(schema), about)
    }

    /// A field that may be left out, and is not `null`.
    #[must_use]
    pub(super) fn can(self, name: &str, schema: Value, about: &str) -> Self {
        self.add(name, schema, about)
    }

    /// A keyword beside the fields.
    #[must_use]
    pub(super) fn rule(mut self, keyword: &str, value: Value) -> Self {
        self.rules.insert(keyword.to_owned(), value);
        self
    }

    /// All fields of another object, too.
    #[must_use]
    pub(super) fn and(mut self, other: Object) -> Self {
        self.properties.extend(other.properties);
        self.required.extend(other.required);
        self.rules.extend(other.rules);
        self.conditions.extend(other.conditions);
        self
    }

    /// `name` may be said only where `other` fits `schema`.
    #[must_use]
    pub(super) fn needs(self, name: &str, other: &str, schema: Value) -> Self {
        let there = json!({ "properties": { other: schema }, "required": [other] });
        self.either(unsaid(name), there)
    }

    /// One of two conditions holds.
    #[must_use]
    pub(super) fn either(mut self, one: Value, other: Value) -> Self {
        self.conditions.push(any_of([one, other]));
        self
    }

    fn add(mut self, name: &str, mut schema: Value, about: &str) -> Self {
        if let (Some(map), false) = (schema.as_object_mut(), about.is_empty()) {
            map.insert("description".to_owned(), about.into());
        }
        self.properties.insert(name.to_owned(), schema);
        self
    }

    /// The schema of it.
    pub(super) fn schema(self) -> Value {
        let mut schema = json!({ "type": "object", "properties": self.properties });
        if let Some(map) = schema.as_object_mut() {
            if !self.required.is_empty() {
                map.insert("required".to_owned(), self.required.into());
            }
            map.extend(self.rules);
            if !self.conditions.is_empty() {
                map.insert("allOf".to_owned(), self.conditions.into());
            }
        }
        schema
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_left_out_may_be_null() {
        for (schema, expected) in [
            (text(), json!({"type": ["string", "null"]})),
            (
                one_of(&["a"]),
                json!({"type": ["string", "null"], "enum": ["a", null]}),
            ),
            (
                any_of([text()]),
                json!({"anyOf": [{"type": "string"}, {"type": "null"}]}),
            ),
            (
                named("Kv"),
                json!({"anyOf": [{"$ref": "#/components/schemas/Kv"}, {"type": "null"}]}),
            ),
        ] {
            assert_eq!(or_null(schema), expected);
        }
    }

    #[test]
    fn an_object_names_what_it_must_have() {
        let schema = Object::new()
            .must("a", text(), "words")
            .and(Object::new().may("b", flag(), ""))
            .rule("minProperties", json!(1))
            .schema();
        let expected = json!({"type": "object", "properties": {
            "a": {"type": "string", "description": "words"}, "b": {"type": ["boolean", "null"]}},
            "required": ["a"], "minProperties": 1});
        assert_eq!(schema, expected);
    }
}
