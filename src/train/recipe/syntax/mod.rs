//! The formats of recipes. Each is read into the same tree, and refuses what stands twice.

mod json;
mod toml;
mod yaml;

use std::path::Path;

use super::node::Table;
use super::{Place, RecipeError};

/// What a format's reader finds wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// The text is not of the format.
    Syntax { line: Option<usize>, reason: String },
    /// A key stands twice.
    Twice {
        line: usize,
        key: String,
        first: usize,
    },
}

impl Fault {
    fn at(self, path: &Path) -> RecipeError {
        let place = |line| Place::File {
            path: path.to_owned(),
            line,
        };
        match self {
            Fault::Syntax { line, reason } => RecipeError::Syntax {
                place: place(line),
                reason,
            },
            Fault::Twice { line, key, first } => RecipeError::Twice {
                place: place(Some(line)),
                key,
                first,
            },
        }
    }
}

/// Reads `text` by the extension of `path`.
pub(super) fn parse(path: &Path, text: &str) -> Result<Table, RecipeError> {
    let read = match path.extension().and_then(|extension| extension.to_str()) {
        Some("toml") => toml::parse,
        Some("yaml" | "yml") => yaml::parse,
        Some("json") => json::parse,
        _ => {
            return Err(RecipeError::Format {
                path: path.to_owned(),
            });
        }
    };
    read(text).map_err(|fault| fault.at(path))
}

/// Reads the value of an override: TOML's notation where it is one, else the text as it is.
pub(super) fn value(text: &str) -> super::node::Value {
    toml::value(text)
}

/// The line, from 1 on, of a byte offset.
fn line_at(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().iter().take(offset);
    1 + before.filter(|byte| **byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::node::{Node, Value};
    use super::*;

    fn lines(table: &Table) -> Vec<(String, Option<usize>)> {
        let mut found = Vec::new();
        for (key, node) in table {
            found.push((key.clone(), node.line));
            if let Value::Table(inner) = &node.value {
                found.extend(lines(inner));
            }
            if let Value::List(items) = &node.value {
                for item in items {
                    if let Value::Table(inner) = &item.value {
                        found.extend(lines(inner));
                    }
                }
            }
        }
        found
    }

    const TOML: &str = "stage = \"sft\"\n[data]\npath = [\"a\"]\n\n[[data.mixture]]\npath = \"b\"\nweight = 2\n[optim]\nlr = 1e-4\n";
    const YAML: &str = "stage: sft\ndata:\n  path: [a]\n\n  mixture:\n    - path: b\n      weight: 2\noptim:\n  lr: 1e-4\n";
    const JSON: &str = "{\"stage\": \"sft\",\n\"data\": {\n \"path\": [\"a\"], \"mixture\": [\n\n{\"path\": \"b\",\n\"weight\": 2}]},\n\"optim\": {\n\"lr\": 1e-4}}";

    #[test]
    fn formats_read_into_one_tree_with_lines() {
        let all = [
            ("r.toml", TOML, [1, 2, 3, 5, 6, 7, 8, 9]),
            ("r.yaml", YAML, [1, 2, 3, 5, 6, 7, 8, 9]),
            ("r.json", JSON, [1, 2, 3, 3, 5, 6, 7, 8]),
        ];
        let mut values = Vec::new();
        for (name, text, expected) in all {
            let table = parse(Path::new(name), text).unwrap();
            let found: Vec<usize> = lines(&table).into_iter().filter_map(|(_, l)| l).collect();
            assert_eq!(found, expected, "{name}");
            let node = Node {
                line: None,
                value: Value::Table(table),
            };
            values.push(node.json().unwrap());
        }
        assert_eq!(values[0], values[1]);
        assert_eq!(values[0], values[2]);
    }

    #[test]
    fn a_broken_file_is_told_with_its_line() {
        for (name, text, start) in [
            ("r.toml", "a = 1\nb = [\n", "r.toml:"),
            ("r.yaml", "a: 1\nb: [1\n c: }", "r.yaml:"),
            ("r.yaml", "- a\n- b\n", "r.yaml:1: "),
            ("r.yaml", "a: 1\n---\nb: 2\n", "r.yaml:2: "),
            ("r.yaml", "a: &x 1\nb: *x\n", "r.yaml:2: "),
            ("r.json", "{\"a\": 1,\n\"b\": }", "r.json:2: "),
            ("r.json", "[1]", "r.json:1: "),
            ("r.ini", "a=1", "r.ini: recipes are .toml"),
        ] {
            let error = parse(&PathBuf::from(name), text).unwrap_err().to_string();
            assert!(error.starts_with(start), "{name}: {error}");
        }
    }

    #[test]
    fn values_of_overrides() {
        assert_eq!(value("1e-4"), Value::Number(1e-4));
        assert_eq!(value("12"), Value::Integer(12));
        assert_eq!(value("true"), Value::Bool(true));
        assert_eq!(value("null"), Value::Null);
        assert_eq!(value("a/b.txt"), Value::Text("a/b.txt".to_owned()));
        assert_eq!(value("\"12\""), Value::Text("12".to_owned()));
        assert_eq!(value("../x = 1\ny"), Value::Text("../x = 1\ny".to_owned()));
        assert!(matches!(value("[\"a\", \"b\"]"), Value::List(items) if items.len() == 2));
        assert!(matches!(value("[a, b]"), Value::Text(_)));
    }
}
