//! Text with `{field}` in it.

use serde_json::{Map, Value};

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(String),
}

/// Text with the places of fields: `Q: {question}`. `{{` and `}}` stand for braces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    parts: Vec<Part>,
}

impl Pattern {
    /// Reads `text`.
    ///
    /// # Errors
    /// What is wrong: a brace without its other half, or a field without a name.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, after) = rest.split_at(at);
            plain += before;
            if let Some(after) = after.strip_prefix("{{") {
                plain.push('{');
                rest = after;
            } else if let Some(after) = after.strip_prefix("}}") {
                plain.push('}');
                rest = after;
            } else if let Some(after) = after.strip_prefix('{') {
                let (name, after) = after.split_once('}').ok_or_else(|| {
                    format!("{text:?} opens a field and does not close it; write {{{{ for a brace")
                })?;
                let word = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
                if name.is_empty() || !name.chars().all(word) {
                    return Err(format!("{{{name}}} names no field; write {{{{ for a brace"));
                }
                parts.push(Part::Text(std::mem::take(&mut plain)));
                parts.push(Part::Field(name.to_owned()));
                rest = after;
            } else {
                return Err(format!(
                    "{text:?} closes a field that was not opened; write }}}} for a brace"
                ));
            }
        }
        plain += rest;
        parts.push(Part::Text(plain));
        Ok(Pattern { parts })
    }

    /// One field and nothing else.
    pub fn field(name: &str) -> Self {
        Pattern {
            parts: vec![Part::Field(name.to_owned())],
        }
    }

    /// The names of its fields, in order.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Field(name) => Some(name.as_str()),
            Part::Text(_) => None,
        })
    }

    /// The text with `fields` in their places: strings as they are, numbers and truth values as JSON writes them.
    ///
    /// # Errors
    /// A field that is missing or of another type.
    pub fn fill(&self, fields: &Map<String, Value>) -> Result<String, String> {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(plain) => text += plain,
                Part::Field(name) => text += &plain(fields, name)?,
            }
        }
        Ok(text)
    }
}

/// A field as text.
pub(super) fn plain(fields: &Map<String, Value>, name: &str) -> Result<String, String> {
    match fields.get(name) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(value @ (Value::Number(_) | Value::Bool(_))) => Ok(value.to_string()),
        Some(_) => Err(format!(
            "field {name:?} is not text, a number or true/false"
        )),
        None => {
            let known: Vec<&str> = fields.keys().map(String::as_str).collect();
            Err(format!(
                "there is no field {name:?}; there are {}",
                known.join(", ")
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fields() -> Map<String, Value> {
        let Value::Object(map) = json!({"a": "x{b}", "n": 2.5, "t": true, "l": []}) else {
            unreachable!()
        };
        map
    }

    #[test]
    fn fields_are_filled_in_once() {
        for (pattern, text) in [
            ("", ""),
            ("Q: {a}\nA:", "Q: x{b}\nA:"),
            ("{n}{t}", "2.5true"),
            ("{{{n}}}", "{2.5}"),
        ] {
            assert_eq!(
                Pattern::parse(pattern).unwrap().fill(&fields()).unwrap(),
                text
            );
        }
        let names = Pattern::parse("{a} {n}").unwrap();
        assert_eq!(names.fields().collect::<Vec<_>>(), ["a", "n"]);
    }

    #[test]
    fn faults_are_named() {
        for (pattern, fault) in [
            ("{a", "does not close"),
            ("a}", "not opened"),
            ("{}", "names no field"),
            ("{a b}", "names no field"),
        ] {
            let error = Pattern::parse(pattern).unwrap_err();
            assert!(error.contains(fault), "{error}");
        }
        for (pattern, fault) in [("{z}", "there are a, n, t, l"), ("{l}", "is not text")] {
            let error = Pattern::parse(pattern)
                .unwrap()
                .fill(&fields())
                .unwrap_err();
            assert!(error.contains(fault), "{error}");
        }
    }
}
