//! Calls of functions as a grammar: whatever is written as a call names a function that there is, with arguments that
//! it takes.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::schema;
use super::shape::BadShape;
use crate::text::CallSyntax;

/// A function that may be called.
#[derive(Debug, Clone, PartialEq)]
pub struct Callable {
    /// Its name: letters, digits and `_-.:/`, so that it is written as it is in JSON.
    pub name: String,
    /// The schema of its arguments, an object; `None` when it takes none.
    pub parameters: Option<Value>,
}

/// How functions are called.
#[derive(Debug, Clone, PartialEq)]
pub struct CallFormat {
    /// Those that there are, at least one.
    pub functions: Vec<Callable>,
    /// How calls are written.
    pub syntax: CallSyntax,
    /// Whether the answer is a call; else it may be text.
    pub required: bool,
    /// Whether several calls may be made at once.
    pub several: bool,
}

/// What is said of a name that is none.
pub const NO_NAME: &str = "is no name: use 1 to 64 letters, digits and _ - . : /";

/// Whether a function may be called so: a name that a grammar and every template can write as it is.
pub fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.:/".contains(c);
    (1..=64).contains(&name.len()) && name.chars().all(plain)
}

impl CallFormat {
    pub(super) fn bytes(&self) -> usize {
        let of = |callable: &Callable| {
            let schema = callable.parameters.as_ref();
            callable.name.len() + schema.map_or(64, |schema| schema.to_string().len())
        };
        self.functions.iter().map(of).sum()
    }

    /// The grammar, in llguidance's dialect of Lark.
    ///
    /// # Errors
    /// [`BadShape`] with a pointer into the list of functions.
    pub(super) fn lark(&self) -> Result<String, BadShape> {
        let mut rules = String::new();
        let mut names = Vec::new();
        for (place, callable) in self.functions.iter().enumerate() {
            let name = &callable.name;
            if !is_name(name) {
                let at = format!("/{place}/function/name");
                return Err(BadShape::at(at, NO_NAME));
            }
            if self
                .functions
                .iter()
                .take(place)
                .any(|other| other.name == *name)
            {
                return Err(BadShape::at(
                    format!("/{place}/function/name"),
                    "is the name of an earlier function: give each its own",
                ));
            }
            let arguments = Value::Object(schema::prepared(self.arguments(place)?));
            let (open, close) = match self.syntax {
                CallSyntax::Hermes => (
                    format!("\n{{\"name\": \"{name}\", \"arguments\": "),
                    "}\n</tool_call>",
                ),
                CallSyntax::Llama => (format!("{{\"name\": \"{name}\", \"parameters\": "), "}"),
            };
            let (open, close) = (json!(open), json!(close));
            // Writing to a string cannot fail.
            let _ = writeln!(
                rules,
                "call_{place}: {open} args_{place} {close}\nargs_{place}: %json {arguments}"
            );
            names.push(format!("call_{place}"));
        }
        let call = names.join(" | ");
        let start = match (self.syntax, self.required, self.several) {
            (CallSyntax::Hermes, true, false) => "\"<tool_call>\" call",
            (CallSyntax::Hermes, true, true) => "\"<tool_call>\" call (\"\\n<tool_call>\" call)*",
            (CallSyntax::Hermes, false, false) => "words | begin call",
            (CallSyntax::Hermes, false, true) => "(begin call)* words",
            (CallSyntax::Llama, true, false) => "call",
            (CallSyntax::Llama, true, true) => "call (\"; \" call)*",
            (CallSyntax::Llama, false, false) => "call | prose",
            (CallSyntax::Llama, false, true) => "call (\"; \" call)* | prose",
        };
        let words = match (self.syntax, self.required) {
            (_, true) => "",
            (CallSyntax::Hermes, false) => {
                "words: WORDS\nWORDS: /(?s:.*)/\nbegin[lazy]: /(?s:.*)<tool_call>/\n"
            }
            // What begins as a call does is one.
            (CallSyntax::Llama, false) => "prose: PROSE\nPROSE: /(?s:[^{\\s].*)?/\n",
        };
        Ok(format!("start: {start}\ncall: {call}\n{words}{rules}"))
    }

    /// The checked schema of a function's arguments, an object.
    pub(super) fn arguments(&self, place: usize) -> Result<Map<String, Value>, BadShape> {
        let at = format!("/{place}/function/parameters");
        let given = self
            .functions
            .get(place)
            .and_then(|f| f.parameters.as_ref());
        let mut schema = match given {
            None => {
                let none =
                    json!({"type": "object", "properties": {}, "additionalProperties": false});
                return Ok(none.as_object().cloned().unwrap_or_default());
            }
            Some(Value::Object(schema)) => schema.clone(),
            Some(_) => return Err(BadShape::at(at, "is no schema: use an object")),
        };
        match schema.get("type") {
            None => {
                schema.insert("type".to_owned(), json!("object"));
            }
            Some(Value::String(kind)) if kind == "object" => {}
            Some(_) => {
                let reason = "is not \"object\": arguments are one object";
                return Err(BadShape::at(format!("{at}/type"), reason));
            }
        }
        let whole = Value::Object(schema);
        schema::check(&whole).map_err(|bad| BadShape {
            pointer: format!("{at}{}", bad.pointer),
            ..bad
        })?;
        match whole {
            Value::Object(schema) => Ok(schema),
            _ => Ok(Map::new()),
        }
    }
}
