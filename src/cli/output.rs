//! Standard output: data for the next program, or nobody any more.

use std::io::{self, ErrorKind, IsTerminal, Write};

use serde::Serialize;

/// Nobody reads standard output any more.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("standard output was closed")]
pub(super) struct Closed;

/// Writes text as it is.
pub(super) fn text(text: &str) -> anyhow::Result<()> {
    bytes(text.as_bytes())
}

/// Writes a line.
pub(super) fn line(line: impl std::fmt::Display) -> anyhow::Result<()> {
    text(&format!("{line}\n"))
}

/// Writes a value as JSON over several lines.
pub(super) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    line(serde_json::to_string_pretty(value)?)
}

/// Writes a value as one line of JSON.
pub(super) fn json_line(value: &impl Serialize) -> anyhow::Result<()> {
    line(serde_json::to_string(value)?)
}

/// Writes and flushes.
pub(super) fn bytes(bytes: &[u8]) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Closed.into()),
        Err(error) => Err(anyhow::Error::new(error).context("cannot write to standard output")),
    }
}

/// Whether what is written to `stream` may be coloured (<https://no-color.org>).
pub(super) fn colours(stream: &impl IsTerminal) -> bool {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !plain && stream.is_terminal()
}

/// Writes a part of an answer. On a terminal, what would steer it is shown as U+FFFD: a model's words are data.
pub(super) fn answer(part: &str) -> anyhow::Result<()> {
    if io::stdout().is_terminal() {
        text(&harmless(part))
    } else {
        text(part)
    }
}

fn harmless(part: &str) -> String {
    let shown = |c: char| {
        if c.is_control() && !matches!(c, '\n' | '\t') {
            '\u{fffd}'
        } else {
            c
        }
    };
    part.chars().map(shown).collect()
}

/// A number of bytes for people.
pub(super) fn size(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

/// Rows under a heading, each column as wide as its widest cell.
pub(super) fn table<const N: usize>(heading: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = heading.map(|cell| cell.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    for row in std::iter::once(&heading.map(str::to_owned)).chain(rows) {
        let cells = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        out.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [
            ["a".to_owned(), "1".to_owned()],
            ["long".to_owned(), "2".to_owned()],
        ];
        assert_eq!(table(["NAME", "N"], &rows), "NAME  N\na     1\nlong  2\n");
    }

    #[test]
    fn an_answer_cannot_steer_the_terminal() {
        assert_eq!(harmless("a\x1b[2J\n\tb"), "a\u{fffd}[2J\n\tb");
    }
}
