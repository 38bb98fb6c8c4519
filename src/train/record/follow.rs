//! The log while it is written, by this process or another.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Entry;

/// The most bytes of a log that are read at a time.
const PART: u64 = 1 << 20;

/// A place in a log that moves on with it.
#[derive(Debug)]
pub struct Follow {
    path: PathBuf,
    /// Bytes of whole lines that were read.
    read: u64,
    /// The file that they were read of: a log that is written anew is another one.
    inode: Option<u64>,
    /// The time of the newest entry that was told, in seconds since 1970.
    told: f64,
    /// Whether entries up to `told` are left out, since the log was written anew.
    again: bool,
}

impl Follow {
    /// From the beginning of the log at `path`, which may come into being later.
    pub fn begin(path: &Path) -> Follow {
        Follow {
            path: path.to_owned(),
            read: 0,
            inode: None,
            told: f64::NEG_INFINITY,
            again: false,
        }
    }

    /// The entries since the last call; call again until there are none. Lines that are no entries are left out. A log
    /// that was written anew, as when a run goes on from a checkpoint, is read anew, and what is older than the newest that
    /// was told is left out.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn advance(&mut self) -> io::Result<Vec<Entry>> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let about = file.metadata()?;
        let length = about.len();
        let before = self.inode.replace(about.ino());
        if length < self.read || before.is_some_and(|inode| inode != about.ino()) {
            self.read = 0;
            self.again = true;
        }
        let mut found = Vec::new();
        while found.is_empty() && self.read < length {
            file.seek(SeekFrom::Start(self.read))?;
            let mut bytes = Vec::new();
            Read::by_ref(&mut file).take(PART).read_to_end(&mut bytes)?;
            // What follows the last line's end is still being written.
            let Some(end) = bytes.iter().rposition(|byte| *byte == b'\n') else {
                break;
            };
            let lines = bytes.get(..end).unwrap_or_default();
            for line in lines.split(|byte| *byte == b'\n') {
                let Ok(entry) = serde_json::from_slice::<Entry>(line) else {
                    continue;
                };
                if !(self.again && entry.time() <= self.told) {
                    self.told = self.told.max(entry.time());
                    found.push(entry);
                }
            }
            self.read += end as u64 + 1;
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::super::{JsonLines, Step};
    use super::*;

    fn step(step: u64) -> Entry {
        Entry::Step(Step {
            step,
            time: 100.0 + step as f64,
            ..Step::default()
        })
    }

    fn steps(follow: &mut Follow) -> Vec<u64> {
        follow.advance().unwrap().iter().map(Entry::step).collect()
    }

    #[test]
    fn entries_are_told_once_whole_and_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.jsonl");
        let mut follow = Follow::begin(&path);
        assert_eq!(steps(&mut follow), [0; 0]);
        let (mut lines, _) = JsonLines::open(&path, None).unwrap();
        lines.write(&step(1)).unwrap();
        lines.write(&step(2)).unwrap();
        assert_eq!(steps(&mut follow), [1, 2]);
        assert_eq!(steps(&mut follow), [0; 0]);
        let text = serde_json::to_string(&step(3)).unwrap();
        let (half, rest) = text.split_at(10);
        let mut file = std::fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .unwrap();
        file.write_all(half.as_bytes()).unwrap();
        assert_eq!(steps(&mut follow), [0; 0]);
        file.write_all(format!("{rest}\nno entry\n").as_bytes())
            .unwrap();
        assert_eq!(steps(&mut follow), [3]);
    }

    #[test]
    fn a_log_that_was_cut_is_gone_on_with() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.jsonl");
        let (mut lines, _) = JsonLines::open(&path, None).unwrap();
        for at in 1..=4 {
            lines.write(&step(at)).unwrap();
        }
        let mut follow = Follow::begin(&path);
        assert_eq!(steps(&mut follow), [1, 2, 3, 4]);
        let (mut lines, dropped) = JsonLines::open(&path, Some(2)).unwrap();
        assert_eq!(dropped, 2);
        assert_eq!(steps(&mut follow), [0; 0]);
        lines.write(&taken_again(3, 200.0)).unwrap();
        assert_eq!(steps(&mut follow), [3]);
        // Cut, and longer than before by the next look.
        let (mut lines, dropped) = JsonLines::open(&path, Some(1)).unwrap();
        assert_eq!(dropped, 2);
        for at in 2..=6 {
            lines.write(&taken_again(at, 300.0 + at as f64)).unwrap();
        }
        assert_eq!(steps(&mut follow), [2, 3, 4, 5, 6]);
        assert_eq!(steps(&mut follow), [0; 0]);
    }

    fn taken_again(at: u64, time: f64) -> Entry {
        let Entry::Step(again) = step(at) else {
            panic!("a step");
        };
        Entry::Step(Step { time, ..again })
    }
}
