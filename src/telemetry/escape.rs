//! One event is one line: control characters of logged texts are written as escapes (CWE-117).

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, Write};

use tracing_subscriber::fmt::MakeWriter;

/// The text with every control character as `\n`, `\r`, `\t` or `\u00xx`: the escapes of JSON, so that JSON stays valid.
/// Also escapes the line separators U+2028 and U+2029 and the characters that reorder text on a screen
/// (<https://trojansource.codes>).
pub fn escaped(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if is_unsafe(c) => {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A writer of whole events: escapes all of an event but its last line feed.
///
/// `tracing_subscriber::fmt` hands over each event in one `write_all`, ending in a line feed.
#[derive(Debug, Clone)]
pub(super) struct Escaped<W>(pub(super) W);

impl<W: Write> Write for Escaped<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let (body, end) = match text.strip_suffix('\n') {
            Some(body) => (body, "\n"),
            None => (text.as_ref(), ""),
        };
        self.0
            .write_all(format!("{}{end}", escaped(body)).as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl<'a, M: MakeWriter<'a>> MakeWriter<'a> for Escaped<M> {
    type Writer = Escaped<M::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        Escaped(self.0.make_writer())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn control_characters_become_escapes() {
        let hostile = "a\nb\r\tc\x1b[31m\u{9b}\u{7f}\u{202e}\u{2028}é";
        assert_eq!(
            escaped(hostile),
            "a\\nb\\r\\tc\\u001b[31m\\u009b\\u007f\\u202e\\u2028é"
        );
        assert!(matches!(escaped("plain \"text\""), Cow::Borrowed(_)));
    }

    proptest! {
        #[test]
        fn an_event_is_one_line(text in any::<String>()) {
            let mut out = Vec::new();
            Escaped(&mut out).write_all(format!("{text}\n").as_bytes()).unwrap();
            let out = String::from_utf8(out).unwrap();
            prop_assert_eq!(out.chars().filter(|c| c.is_control()).count(), 1);
            prop_assert!(out.ends_with('\n'));
        }
    }
}
