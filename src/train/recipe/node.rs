//! The tree of a recipe's file: values with the lines of their keys.

use serde_json::{Map, Number, Value as Json};

/// A value and the line, from 1 on, of the key that it belongs to.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub line: Option<usize>,
    pub value: Value,
}

/// What all formats have in common.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Integer(i64),
    Number(f64),
    Text(String),
    List(Vec<Node>),
    Table(Table),
}

/// Keys and values in the order of the file.
pub(super) type Table = Vec<(String, Node)>;

impl Node {
    /// The value without its lines; `None` for a number that is not finite, which JSON has not.
    pub fn json(&self) -> Option<Json> {
        Some(match &self.value {
            Value::Null => Json::Null,
            Value::Bool(value) => Json::Bool(*value),
            Value::Integer(value) => Json::from(*value),
            Value::Number(value) => Json::Number(Number::from_f64(*value)?),
            Value::Text(text) => Json::from(text.as_str()),
            Value::List(items) => Json::Array(items.iter().map(Node::json).collect::<Option<_>>()?),
            Value::Table(table) => {
                let entry = |(key, node): &(String, Node)| Some((key.clone(), node.json()?));
                Json::Object(table.iter().map(entry).collect::<Option<Map<_, _>>>()?)
            }
        })
    }

    /// What the value is, for people.
    pub fn kind(&self) -> &'static str {
        match &self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "true or false",
            Value::Integer(_) | Value::Number(_) => "a number",
            Value::Text(_) => "a text",
            Value::List(_) => "a list",
            Value::Table(_) => "a table",
        }
    }
}
