//! Text files, read in passages that fit in memory.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use super::source::{Body, Item, bad};
use super::{DataError, Place};

/// Most bytes of a passage; a tokenizer encodes at most four times as many at once.
const PASSAGE: usize = 1 << 20;

/// Which bytes of a text file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Range {
    Whole,
    /// What precedes this share of the bytes, cut between characters.
    Before(f64),
    /// What follows it.
    From(f64),
}

/// The passages of a text file, each ending with a line where lines are not longer than a passage.
pub(super) struct Passages {
    path: Arc<Path>,
    reader: io::Take<BufReader<File>>,
    separator: Option<Vec<u8>>,
    /// What has been read and not given out.
    pending: Vec<u8>,
    /// Lines before `pending`.
    line: u64,
    first: bool,
    done: bool,
}

impl Passages {
    pub(super) fn open(
        path: &Arc<Path>,
        range: Range,
        separator: Option<&str>,
    ) -> Result<Self, DataError> {
        let mut file = File::open(path).map_err(DataError::read(path))?;
        let (start, length) = bounds(&mut file, range).map_err(DataError::read(path))?;
        let mut reader = BufReader::new(file);
        let mut line = 0;
        if start > 0 {
            let mut before = reader.by_ref().take(start);
            line = count_lines(&mut before).map_err(DataError::read(path))?;
        }
        Ok(Passages {
            path: path.clone(),
            reader: reader.take(length),
            separator: separator.map(|line| line.as_bytes().to_vec()),
            pending: Vec::new(),
            line,
            first: true,
            done: false,
        })
    }

    /// Reads until a passage is full, a separator stands there, or the file ends. Says whether the document ends.
    fn fill(&mut self) -> io::Result<bool> {
        loop {
            let start = self.pending.len();
            let room = (PASSAGE.saturating_sub(start)).max(1) as u64;
            let read = self
                .reader
                .by_ref()
                .take(room)
                .read_until(b'\n', &mut self.pending)?;
            if read == 0 {
                self.done = true;
                return Ok(true);
            }
            let line = self.pending.get(start..).unwrap_or_default();
            let whole = start == 0 || self.pending.get(start - 1) == Some(&b'\n');
            let bare = line.strip_suffix(b"\n").unwrap_or(line);
            let bare = bare.strip_suffix(b"\r").unwrap_or(bare);
            if whole && self.separator.as_deref() == Some(bare) {
                self.pending.truncate(start);
                self.line += 1;
                return Ok(true);
            }
            if self.pending.len() >= PASSAGE {
                return Ok(false);
            }
        }
    }

    /// The pending bytes as a text; what begins a character that is not whole stays pending.
    fn take(&mut self, ends: bool) -> Result<String, DataError> {
        let bytes = std::mem::take(&mut self.pending);
        let error = match String::from_utf8(bytes) {
            Ok(text) => return Ok(text),
            Err(error) => error,
        };
        let valid = error.utf8_error().valid_up_to();
        let cut = error.utf8_error().error_len().is_none() && !ends;
        let mut bytes = error.into_bytes();
        if !cut {
            let line = self.line + newlines(bytes.get(..valid).unwrap_or_default()) + 1;
            self.done = true;
            return Err(bad(
                Place::line(&self.path, line),
                None,
                "is not UTF-8; convert the file to UTF-8",
            ));
        }
        self.pending = bytes.split_off(valid);
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

impl Iterator for Passages {
    type Item = Result<Item, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.done {
            let line = self.line;
            let ends = match self.fill() {
                Ok(ends) => ends,
                Err(error) => {
                    self.done = true;
                    return Some(Err(DataError::read(&self.path)(error)));
                }
            };
            let text = match self.take(ends) {
                Ok(text) => text,
                Err(error) => return Some(Err(error)),
            };
            self.line += newlines(text.as_bytes());
            let first = std::mem::replace(&mut self.first, ends);
            // Between two separators, or at the end of a file, there may be nothing.
            if text.trim().is_empty() && first && ends {
                continue;
            }
            let body = Body::Passage {
                text,
                first,
                last: ends,
            };
            let place = Place::line(&self.path, line + 1);
            return Some(Ok(Item { place, body }));
        }
        None
    }
}

fn newlines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}

fn count_lines(reader: &mut impl Read) -> io::Result<u64> {
    let mut buffer = vec![0; 1 << 16];
    let mut lines = 0;
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(lines),
            n => lines += newlines(buffer.get(..n).unwrap_or_default()),
        }
    }
}

/// The first byte of a range and its length.
fn bounds(file: &mut File, range: Range) -> io::Result<(u64, u64)> {
    let length = file.metadata()?.len();
    let share = match range {
        Range::Whole => return Ok((0, length)),
        Range::Before(share) | Range::From(share) => share,
    };
    let mut cut = ((length as f64 * share) as u64).min(length);
    let mut next = [0; 4];
    file.seek(SeekFrom::Start(cut))?;
    let read = file.read(&mut next)?;
    let inside = |byte: &&u8| **byte & 0xC0 == 0x80;
    cut += next.iter().take(read).take_while(inside).count() as u64;
    file.rewind()?;
    Ok(match range {
        Range::Before(_) => (0, cut),
        _ => (cut, length - cut),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passages(
        content: &[u8],
        range: Range,
        separator: Option<&str>,
    ) -> Vec<Result<(u64, String, bool, bool), String>> {
        let folder = tempfile::tempdir().unwrap();
        let path: Arc<Path> = folder.path().join("a.txt").as_path().into();
        std::fs::write(&path, content).unwrap();
        let shown = |item: Result<Item, DataError>| match item {
            Ok(Item {
                place,
                body: Body::Passage { text, first, last },
            }) => Ok((place.number, text, first, last)),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.to_string()),
        };
        Passages::open(&path, range, separator)
            .unwrap()
            .map(shown)
            .collect()
    }

    #[test]
    fn a_file_is_one_document() {
        let got = passages("a\nbé\n".as_bytes(), Range::Whole, None);
        assert_eq!(got, [Ok((1, "a\nbé\n".into(), true, true))]);
        assert_eq!(passages(b"", Range::Whole, None), []);
        assert_eq!(passages(b" \n", Range::Whole, None), []);
    }

    #[test]
    fn a_separator_parts_documents() {
        let text = "one\nmore\n<|endoftext|>\r\n\n<|endoftext|>\ntwo <|endoftext|>\n<|endoftext|>";
        let got = passages(text.as_bytes(), Range::Whole, Some("<|endoftext|>"));
        let expected = [
            Ok((1, "one\nmore\n".to_owned(), true, true)),
            Ok((6, "two <|endoftext|>\n".to_owned(), true, true)),
        ];
        assert_eq!(got, expected);
    }

    #[test]
    fn long_files_come_in_passages_that_join_again() {
        let line = "é".repeat(300) + "\n";
        for text in [
            line.repeat(5000),
            "ü".repeat(3 << 19) + "x",
            line.repeat(1747),
        ] {
            let got = passages(text.as_bytes(), Range::Whole, None);
            assert!(got.len() > 1 || text.len() <= PASSAGE + 1);
            let joined: String = got.iter().map(|p| p.as_ref().unwrap().1.as_str()).collect();
            assert!(joined == text);
            let firsts = got.iter().filter(|p| p.as_ref().unwrap().2).count();
            let lasts = got.iter().filter(|p| p.as_ref().unwrap().3).count();
            assert_eq!((firsts, lasts), (1, 1));
            assert!(got.iter().all(|p| p.as_ref().unwrap().1.len() <= PASSAGE));
        }
    }

    #[test]
    fn a_share_is_cut_between_characters() {
        let text = "ab\ncdéf\ngh";
        for share in (0..=20).map(|n| f64::from(n) / 20.0) {
            let join = |range| -> String {
                let got = passages(text.as_bytes(), range, None);
                got.into_iter().map(|p| p.unwrap().1).collect()
            };
            assert_eq!(
                join(Range::Before(share)) + &join(Range::From(share)),
                text,
                "{share}"
            );
        }
        let tail = passages(text.as_bytes(), Range::From(0.55), None);
        assert_eq!(tail, [Ok((2, "f\ngh".to_owned(), true, true))]);
    }

    #[test]
    fn what_is_not_utf8_is_named_by_line() {
        let got = passages(b"a\nb\n\xff\nc", Range::Whole, None);
        let [Err(error)] = got.as_slice() else {
            panic!("{got:?}")
        };
        assert!(error.contains("a.txt:3: is not UTF-8"), "{error}");
        assert!(passages("é".as_bytes().split_last().unwrap().1, Range::Whole, None)[0].is_err());
    }
}
