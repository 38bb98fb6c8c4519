//! JSON.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::super::node::{Node, Table, Value};
use super::{Fault, line_at};

/// Reads a document. A key that stands twice is told with both of its lines.
pub(super) fn parse(text: &str) -> Result<Table, Fault> {
    let tree: Tree = serde_json::from_str(text).map_err(|error| Fault::Syntax {
        line: Some(error.line()),
        reason: error.to_string(),
    })?;
    let Tree(Value::Table(mut table)) = tree else {
        return Err(Fault::Syntax {
            line: Some(1),
            reason: "a recipe is an object of keys".to_owned(),
        });
    };
    let mut places = Places { text, from: 0 };
    places.table(&mut table)?;
    Ok(table)
}

/// Finds the line of each key, in the order of the text.
struct Places<'a> {
    text: &'a str,
    from: usize,
}

impl Places<'_> {
    fn table(&mut self, table: &mut Table) -> Result<(), Fault> {
        let mut seen: Vec<(String, usize)> = Vec::new();
        for (key, node) in table {
            node.line = self.key(key);
            let line = node.line.unwrap_or(1);
            if let Some((_, first)) = seen.iter().find(|(name, _)| name == key) {
                return Err(Fault::Twice {
                    line,
                    key: key.clone(),
                    first: *first,
                });
            }
            seen.push((key.clone(), line));
            self.inside(&mut node.value)?;
        }
        Ok(())
    }

    fn inside(&mut self, value: &mut Value) -> Result<(), Fault> {
        match value {
            Value::Table(table) => self.table(table),
            Value::List(items) => items
                .iter_mut()
                .try_for_each(|item| self.inside(&mut item.value)),
            _ => Ok(()),
        }
    }

    /// The line of the next place where `"key":` stands.
    fn key(&mut self, key: &str) -> Option<usize> {
        let quoted = serde_json::to_string(key).ok()?;
        let rest = self.text.get(self.from..)?;
        let found = rest.match_indices(&quoted).find(|(at, _)| {
            let escaped = rest.get(..*at).is_some_and(|before| before.ends_with('\\'));
            let after = rest.get(at + quoted.len()..).unwrap_or_default();
            !escaped && after.trim_start().starts_with(':')
        });
        let (at, _) = found?;
        let offset = self.from + at;
        self.from = offset + quoted.len();
        Some(line_at(self.text, offset))
    }
}

/// A value whose objects keep keys that stand twice, which `serde_json::Value` drops.
struct Tree(Value);

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader).map(Tree)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        i64::try_from(value)
            .map(Value::Integer)
            .map_err(|_| E::custom(format!("{value} is too large a number")))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Number(value))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(Tree(value)) = from.next_element()? {
            items.push(Node { line: None, value });
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut entries = Table::new();
        while let Some((key, Tree(value))) = from.next_entry::<String, Tree>()? {
            entries.push((key, Node { line: None, value }));
        }
        Ok(Value::Table(entries))
    }
}
