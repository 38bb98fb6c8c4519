//! TOML.

use toml::de::{DeTable, DeValue};

use super::super::node::{Node, Table, Value};
use super::{Fault, line_at};

/// Reads a document. A key or table that stands twice is told with both of its lines.
pub(super) fn parse(text: &str) -> Result<Table, Fault> {
    let root = DeTable::parse(text).map_err(|error| {
        let offset = error.span().map(|span| span.start);
        let twice = offset.filter(|_| error.message().contains("duplicate"));
        match twice.and_then(|offset| second(text, offset)) {
            Some(fault) => fault,
            None => Fault::Syntax {
                line: offset.map(|offset| line_at(text, offset)),
                reason: error.message().to_owned(),
            },
        }
    })?;
    table(text, root.get_ref()).map_err(|(line, reason)| Fault::Syntax { line, reason })
}

/// A value in TOML's notation, or the text as it is.
pub(super) fn value(text: &str) -> Value {
    if text.trim() == "null" || text.is_empty() {
        return Value::Null;
    }
    let line = format!("v = {text}");
    let parsed = parse(&line).ok().filter(|table| table.len() == 1);
    let parsed = parsed.and_then(|mut table| table.pop());
    parsed.map_or_else(|| Value::Text(text.to_owned()), |(_, node)| node.value)
}

type Wrong = (Option<usize>, String);

fn table(text: &str, from: &DeTable) -> Result<Table, Wrong> {
    let mut entries: Vec<(usize, String, Node)> = Vec::new();
    for (key, value) in from.iter() {
        let offset = key.span().start;
        let line = Some(line_at(text, offset));
        let value = node(text, line, value.get_ref())?;
        let node = Node { line, value };
        entries.push((offset, key.get_ref().to_string(), node));
    }
    entries.sort_by_key(|(offset, ..)| *offset);
    Ok(entries
        .into_iter()
        .map(|(_, key, node)| (key, node))
        .collect())
}

fn node(text: &str, line: Option<usize>, value: &DeValue) -> Result<Value, Wrong> {
    let bad =
        |what: &str, written: &str| (line, format!("{written} is not {what} that can be held"));
    Ok(match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Boolean(value) => Value::Bool(*value),
        DeValue::Integer(integer) => {
            let parsed = i64::from_str_radix(integer.as_str(), integer.radix());
            Value::Integer(parsed.map_err(|_| bad("an integer", integer.as_str()))?)
        }
        DeValue::Float(float) => {
            let parsed = float.as_str().parse();
            Value::Number(parsed.map_err(|_| bad("a number", float.as_str()))?)
        }
        DeValue::Datetime(time) => Value::Text(time.to_string()),
        DeValue::Array(items) => {
            let items = items.iter().map(|item| {
                let line = Some(line_at(text, item.span().start));
                let value = node(text, line, item.get_ref())?;
                Ok(Node { line, value })
            });
            Value::List(items.collect::<Result<_, Wrong>>()?)
        }
        DeValue::Table(inner) => Value::Table(table(text, inner)?),
    })
}

/// The key at `offset`, when the same table or key stands before it.
fn second(text: &str, offset: usize) -> Option<Fault> {
    let line = line_at(text, offset);
    let written = text.lines().nth(line - 1)?.trim();
    let is_table = written.starts_with('[');
    let name = |written: &str| {
        let name = if written.starts_with('[') {
            written.trim_matches(['[', ']'])
        } else {
            written.split('=').next().unwrap_or_default()
        };
        name.trim().trim_matches(['"', '\'']).to_owned()
    };
    let key = name(written);
    // A key belongs to the table whose header was last, so that search begins behind it.
    let mut first = None;
    for (at, before) in text.lines().take(line - 1).enumerate() {
        let before = before.trim().split('#').next().unwrap_or_default().trim();
        let header = before.starts_with('[') && before.ends_with(']');
        if header && !is_table {
            first = None;
        } else if header == is_table && name(before) == key && first.is_none() {
            first = Some(at + 1);
        }
    }
    first.map(|first| Fault::Twice { line, key, first })
}
