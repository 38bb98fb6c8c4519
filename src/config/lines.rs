//! On which line of a file a key stands, and on which line a parser stopped.

use std::error::Error;

use super::file::Syntax;

/// The line (from 1) of the key `path` in `text`: exact for TOML, a search for `key:` or `key =` elsewhere.
pub(super) fn of_key(syntax: Syntax, text: &str, path: &[&str]) -> Option<usize> {
    let offset = match syntax {
        Syntax::Toml => toml_offset(text, path)?,
        Syntax::Ini => ini_offset(text, path)?,
        Syntax::Yaml | Syntax::Json | Syntax::Json5 => searched_offset(text, path)?,
    };
    Some(at_offset(text, offset))
}

/// The line (from 1) of a byte offset.
fn at_offset(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().iter().take(offset);
    1 + before.filter(|byte| **byte == b'\n').count()
}

fn toml_offset(text: &str, path: &[&str]) -> Option<usize> {
    use toml::de::{DeTable, DeValue};
    let root = DeTable::parse(text).ok()?;
    let mut table = root.get_ref();
    let mut offset = None;
    for (depth, segment) in path.iter().enumerate() {
        let (key, value) = table.iter().find(|(key, _)| key.get_ref() == segment)?;
        offset = Some(key.span().start);
        match value.get_ref() {
            DeValue::Table(inner) => table = inner,
            _ if depth + 1 < path.len() => return None,
            _ => {}
        }
    }
    offset
}

fn ini_offset(text: &str, path: &[&str]) -> Option<usize> {
    let (key, sections) = path.split_last()?;
    let header = sections.first().map(|section| format!("[{section}]"));
    let mut inside = header.is_none();
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        let trimmed = line.trim();
        if trimmed.starts_with('[') {
            inside = header.as_deref() == Some(trimmed);
            if sections.is_empty() && trimmed == format!("[{key}]") {
                return Some(offset);
            }
        } else if inside && trimmed.split(['=', ':']).next().map(str::trim) == Some(key) {
            return Some(offset);
        }
        offset += line.len();
    }
    None
}

/// Finds each segment after the one before it: right for files of two levels, which ours are.
fn searched_offset(text: &str, path: &[&str]) -> Option<usize> {
    let mut from = 0;
    let mut found = None;
    for segment in path {
        let hit = from + key_offset(text.get(from..)?, segment)?;
        found = Some(hit);
        from = hit + segment.len();
    }
    found
}

fn key_offset(text: &str, key: &str) -> Option<usize> {
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
    text.match_indices(key).map(|(at, _)| at).find(|at| {
        let before = text.get(..*at).and_then(|s| s.chars().next_back());
        let after = text.get(at + key.len()..).unwrap_or_default();
        let after = after
            .trim_start_matches(['"', '\''])
            .trim_start_matches([' ', '\t']);
        !before.is_some_and(is_word) && after.starts_with(':')
    })
}

/// The line on which a parser stopped and its message without the line, read from its error.
pub(super) fn of_error(
    text: &str,
    error: &(dyn Error + Send + Sync + 'static),
) -> (Option<usize>, String) {
    if let Some(error) = error.downcast_ref::<toml::de::Error>() {
        let line = error.span().map(|span| at_offset(text, span.start));
        return (line, error.message().to_owned());
    }
    let message = error.to_string();
    if let Some(error) = error.downcast_ref::<serde_json::Error>() {
        return (Some(error.line()), message);
    }
    (line_in(&message), message)
}

/// The number after "line " in a message, or before its first colon: how the other parsers say it.
fn line_in(message: &str) -> Option<usize> {
    let after = message.split("line ").nth(1);
    let digits = after.unwrap_or(message);
    let end = digits.find(|c: char| !c.is_ascii_digit())?;
    digits.get(..end)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_in_every_syntax() {
        let path = ["kv", "policy"];
        for (syntax, text, line) in [
            (
                Syntax::Toml,
                "[http]\npolicy = 1\n[kv]\n# policy = 2\npolicy = 3\n",
                Some(5),
            ),
            (Syntax::Toml, "\nkv.policy = 3\n", Some(2)),
            (Syntax::Toml, "kv = { sinks = 1,\n policy = 3 }\n", Some(2)),
            (Syntax::Toml, "[kv]\nsinks = 1\n", None),
            (
                Syntax::Yaml,
                "http:\n  my_kv: 1\nkv:\n  no_policy: 1\n  policy: 3\n",
                Some(5),
            ),
            (Syntax::Json, "{\"kv\":\n {\"policy\"\t: 3}}", Some(2)),
            (Syntax::Json5, "{kv: {\n\n'policy': 3}}", Some(3)),
            (
                Syntax::Ini,
                "[http]\npolicy=1\n[kv]\nsinks=1\npolicy = 3\n",
                Some(5),
            ),
        ] {
            assert_eq!(of_key(syntax, text, &path), line, "{syntax:?} {text:?}");
        }
    }
}
