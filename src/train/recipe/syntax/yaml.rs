//! YAML: one document, a mapping at its top, without aliases.

use std::collections::BTreeMap;

use yaml_rust2::Yaml;
use yaml_rust2::parser::{Event, MarkedEventReceiver, Parser};
use yaml_rust2::scanner::{Marker, TScalarStyle};

use super::super::node::{Node, Table, Value};
use super::Fault;

/// Reads a document. A key that stands twice is told with both of its lines.
pub(super) fn parse(text: &str) -> Result<Table, Fault> {
    let mut builder = Builder::default();
    let mut parser = Parser::new_from_str(text);
    parser
        .load(&mut builder, true)
        .map_err(|error| Fault::Syntax {
            line: Some(error.marker().line()),
            reason: error.info().to_owned(),
        })?;
    match (builder.fault, builder.root) {
        (Some(fault), _) => Err(fault),
        (None, None) => Ok(Table::new()),
        (None, Some(node)) => match node.value {
            Value::Table(table) => Ok(table),
            Value::Null => Ok(Table::new()),
            _ => Err(Fault::Syntax {
                line: Some(1),
                reason: format!(
                    "{} stands at the top: a recipe is a table of keys",
                    node.kind()
                ),
            }),
        },
    }
}

/// A list or mapping that is not closed yet.
enum Open {
    List(usize, Vec<Node>),
    Table {
        line: usize,
        entries: Table,
        seen: BTreeMap<String, usize>,
        key: Option<(String, usize)>,
    },
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    root: Option<Node>,
    documents: usize,
    fault: Option<Fault>,
}

impl Builder {
    fn fail(&mut self, line: usize, reason: &str) {
        self.fault.get_or_insert(Fault::Syntax {
            line: Some(line),
            reason: reason.to_owned(),
        });
    }

    fn put(&mut self, line: usize, value: Value) {
        match self.open.last_mut() {
            None => {
                self.root = Some(Node {
                    line: Some(line),
                    value,
                });
            }
            Some(Open::List(_, items)) => items.push(Node {
                line: Some(line),
                value,
            }),
            Some(Open::Table {
                entries, seen, key, ..
            }) => match key.take() {
                Some((name, line)) => entries.push((
                    name,
                    Node {
                        line: Some(line),
                        value,
                    },
                )),
                None => match value {
                    Value::Text(name) => {
                        if let Some(&first) = seen.get(&name) {
                            let key = name.clone();
                            self.fault.get_or_insert(Fault::Twice { line, key, first });
                        } else {
                            seen.insert(name.clone(), line);
                        }
                        *key = Some((name, line));
                    }
                    _ => {
                        *key = Some((String::new(), line));
                        self.fail(line, "a key must be a text");
                    }
                },
            },
        }
    }
}

impl MarkedEventReceiver for Builder {
    fn on_event(&mut self, event: Event, mark: Marker) {
        let line = mark.line();
        match event {
            Event::DocumentStart => {
                self.documents += 1;
                if self.documents > 1 {
                    self.fail(line, "a second document begins: a recipe is one document");
                }
            }
            Event::Alias(_) => self.fail(line, "an alias stands here: write its value out"),
            Event::Scalar(text, style, ..) => {
                let key = matches!(self.open.last(), Some(Open::Table { key: None, .. }));
                let plain = style == TScalarStyle::Plain && !key;
                self.put(line, scalar(text, plain));
            }
            Event::SequenceStart(..) => self.open.push(Open::List(line, Vec::new())),
            Event::MappingStart(..) => self.open.push(Open::Table {
                line,
                entries: Table::new(),
                seen: BTreeMap::new(),
                key: None,
            }),
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::List(line, items)) => self.put(line, Value::List(items)),
                Some(Open::Table { line, entries, .. }) => self.put(line, Value::Table(entries)),
                None => self.fail(line, "a list or table ends that did not begin"),
            },
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
    }
}

fn scalar(text: String, plain: bool) -> Value {
    if !plain {
        return Value::Text(text);
    }
    match Yaml::from_str(&text) {
        Yaml::Null => Value::Null,
        Yaml::Boolean(value) => Value::Bool(value),
        Yaml::Integer(value) => Value::Integer(value),
        real @ Yaml::Real(_) => real.as_f64().map_or(Value::Text(text), Value::Number),
        _ => Value::Text(text),
    }
}
