//! JSON Lines, and JSON lists.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::source::{Body, Item, bad};
use super::{DataError, Format, Place};

/// Most bytes of a line: longer ones are no records, but files of another format.
const MAX_LINE: u64 = 64 << 20;

/// The lines of a JSON Lines file; blank ones are passed over.
pub(super) fn lines(
    path: &Arc<Path>,
) -> Result<impl Iterator<Item = Result<Item, DataError>> + use<>, DataError> {
    let file = File::open(path).map_err(DataError::read(path))?;
    Ok(Lines {
        path: path.clone(),
        reader: BufReader::new(file),
        line: Vec::new(),
        number: 0,
        done: false,
    })
}

struct Lines {
    path: Arc<Path>,
    reader: BufReader<File>,
    line: Vec<u8>,
    number: u64,
    done: bool,
}

impl Iterator for Lines {
    type Item = Result<Item, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.done {
            self.line.clear();
            let read = self
                .reader
                .by_ref()
                .take(MAX_LINE)
                .read_until(b'\n', &mut self.line);
            match read {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) => {
                    self.done = true;
                    return Some(Err(DataError::read(&self.path)(error)));
                }
            }
            self.number += 1;
            let place = Place::line(&self.path, self.number);
            if self.line.len() as u64 == MAX_LINE && self.line.last() != Some(&b'\n') {
                self.done = true;
                let reason = format!("is longer than {MAX_LINE} bytes; is this a JSON Lines file?");
                return Some(Err(bad(place, None, reason)));
            }
            // Some editors put a byte order mark in front of a file.
            let line = match self.number {
                1 => self
                    .line
                    .strip_prefix(b"\xEF\xBB\xBF")
                    .unwrap_or(&self.line),
                _ => &self.line,
            };
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            return Some(match serde_json::from_slice(line) {
                Ok(value) => Ok(Item {
                    place,
                    body: Body::Fields(value),
                }),
                Err(error) => Err(bad(place, None, broken(&error))),
            });
        }
        None
    }
}

/// What is wrong with a line; the library counts lines within it, which says nothing.
fn broken(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let reason = text
        .rsplit_once(" at line ")
        .map_or(text.as_str(), |(reason, _)| reason);
    format!(
        "is not JSON at column {}: {reason}; mend or remove the line",
        error.column()
    )
}

/// The items of a JSON file: those of its list, or the one object.
pub(super) fn list(
    path: &Arc<Path>,
) -> Result<impl Iterator<Item = Result<Item, DataError>> + use<>, DataError> {
    let bytes = std::fs::read(path).map_err(DataError::read(path))?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|error| DataError::Damaged {
        path: path.to_path_buf(),
        format: Format::Json,
        reason: error.to_string(),
    })?;
    let values = match value {
        Value::Array(values) => values,
        other => vec![other],
    };
    let path = path.clone();
    Ok((1..).zip(values).map(move |(row, value)| {
        Ok(Item {
            place: Place::row(&path, row),
            body: Body::Fields(value),
        })
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn write(name: &str, content: &[u8]) -> (tempfile::TempDir, Arc<Path>) {
        let folder = tempfile::tempdir().unwrap();
        let path: Arc<Path> = folder.path().join(name).as_path().into();
        std::fs::write(&path, content).unwrap();
        (folder, path)
    }

    #[test]
    fn malformed_lines_are_named_and_the_rest_is_read() {
        let (_folder, path) = write(
            "a.jsonl",
            b"\xEF\xBB\xBF{\"text\": 1}\n\n{\"text\": }\n[]\r\n\xff\n{\"text\": \"z\"}",
        );
        let got: Vec<_> = lines(&path).unwrap().collect();
        let shown = |item: &Result<Item, DataError>| match item {
            Ok(item) => format!("{} {:?}", item.place.number, item.body),
            Err(error) => error
                .to_string()
                .rsplit_once("a.jsonl")
                .unwrap()
                .1
                .to_owned(),
        };
        let got: Vec<String> = got.iter().map(shown).collect();
        assert_eq!(got.len(), 5, "{got:#?}");
        assert!(got[0].starts_with("1 Fields"));
        assert_eq!(
            got[1],
            ":3: is not JSON at column 10: expected value; mend or remove the line"
        );
        assert!(got[2].starts_with("4 Fields"));
        assert!(got[3].starts_with(":5: is not JSON"), "{}", got[3]);
        assert!(got[4].starts_with("6 Fields"));
    }

    #[test]
    fn lists_are_numbered_by_row() {
        let (_folder, path) = write("a.json", br#"[{"text": "a"}, 3]"#);
        let got: Vec<Item> = list(&path).unwrap().map(|item| item.unwrap()).collect();
        assert_eq!(
            got[1].place.to_string(),
            format!("{}: row 2", path.display())
        );
        assert_eq!(got[1].body, Body::Fields(json!(3)));
        let (_folder, one) = write("a.json", br#"{"text": "a"}"#);
        assert_eq!(list(&one).unwrap().count(), 1);
        let (_folder, broken) = write("a.json", b"[1,\n2");
        let error = list(&broken).err().unwrap().to_string();
        assert!(error.contains("line 2"), "{error}");
        let none: Arc<Path> = Path::new("no such file").into();
        assert!(list(&none).is_err() && lines(&none).is_err());
    }
}
