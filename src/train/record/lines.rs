//! The log as a file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use super::Entry;

/// Writes the log, each line whole and at once, so that a reader beside it sees lines only.
#[derive(Debug)]
pub struct JsonLines {
    file: File,
}

impl JsonLines {
    /// Opens the log to go on after a checkpoint of `step`, or from the beginning: lines of later steps, which a run that
    /// was killed left behind and will take again, are taken out, and from the beginning the evaluation before the first
    /// step, too. Returns how many, too.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn open(path: &Path, step: Option<u64>) -> io::Result<(JsonLines, usize)> {
        let bytes = bytes_of(path)?;
        let stays = |entry: Entry| match step {
            Some(step) => entry.step() <= step,
            None => entry.step() == 0 && matches!(entry, Entry::Event { .. }),
        };
        // What stays is copied: numbers that are read and written again may lose their last bit.
        let (mut kept, mut dropped) = (Vec::with_capacity(bytes.len()), 0);
        for line in lines_of(&bytes) {
            match serde_json::from_slice(line).is_ok_and(stays) {
                true => {
                    kept.extend_from_slice(line);
                    kept.push(b'\n');
                }
                false => dropped += 1,
            }
        }
        if dropped > 0 {
            let aside = path.with_extension("tmp");
            fs::write(&aside, kept)?;
            fs::rename(&aside, path)?;
        }
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok((JsonLines { file }, dropped))
    }

    /// Writes a line.
    ///
    /// # Errors
    /// The disk refuses it.
    pub fn write(&mut self, entry: &Entry) -> io::Result<()> {
        self.file.write_all(line(entry)?.as_bytes())
    }
}

/// Numbers that are not finite become null, as JSON has no others.
fn line(entry: &Entry) -> io::Result<String> {
    Ok(serde_json::to_string(entry)? + "\n")
}

/// What was read of a log.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Log {
    /// Its lines.
    pub entries: Vec<Entry>,
    /// How many lines could not be read, such as the last one of a run that was killed.
    pub broken: usize,
}

impl Log {
    /// The steps.
    pub fn steps(&self) -> impl Iterator<Item = &super::Step> {
        self.entries.iter().filter_map(|entry| match entry {
            Entry::Step(step) => Some(step),
            _ => None,
        })
    }

    /// The evaluations.
    pub fn evaluations(&self) -> impl Iterator<Item = &super::Evaluated> {
        self.entries.iter().filter_map(|entry| match entry {
            Entry::Evaluation(evaluated) => Some(evaluated),
            _ => None,
        })
    }
}

/// Reads a log; one that is not there yet is empty.
///
/// # Errors
/// The file cannot be read.
pub fn read(path: &Path) -> io::Result<Log> {
    let bytes = bytes_of(path)?;
    let mut log = Log::default();
    for line in lines_of(&bytes) {
        match serde_json::from_slice(line) {
            Ok(entry) => log.entries.push(entry),
            Err(_) => log.broken += 1,
        }
    }
    Ok(log)
}

fn bytes_of(path: &Path) -> io::Result<Vec<u8>> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read,
    }
}

fn lines_of(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let lines = bytes.split(|byte| *byte == b'\n');
    lines.filter(|line| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use super::super::{Evaluated, Step};
    use super::*;

    fn step(step: u64) -> Entry {
        Entry::Step(Step {
            step,
            loss: 2.5,
            ..Step::default()
        })
    }

    #[test]
    fn a_log_goes_on_after_the_step_that_is_resumed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.jsonl");
        let (mut lines, dropped) = JsonLines::open(&path, None).unwrap();
        assert_eq!(dropped, 0);
        for at in [10, 20, 30] {
            lines.write(&step(at)).unwrap();
        }
        let first = fs::read_to_string(&path).unwrap();
        // A parser that is one bit off would write another last digit.
        let first = first.replacen("\"grad_norm\":0.0", "\"grad_norm\":0.22947982318286206", 1);
        fs::write(&path, &first).unwrap();
        let evaluated = Evaluated {
            step: 20,
            loss: Some(2.0),
            ..Evaluated::default()
        };
        lines.write(&Entry::Evaluation(evaluated)).unwrap();
        drop(lines);
        // A line that was cut off.
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"kind\":\"step\",\"st").unwrap();
        let log = read(&path).unwrap();
        assert_eq!(
            (log.steps().count(), log.evaluations().count(), log.broken),
            (3, 1, 1)
        );

        let (mut lines, dropped) = JsonLines::open(&path, Some(20)).unwrap();
        assert_eq!(dropped, 2);
        let text = fs::read_to_string(&path).unwrap();
        assert!(
            text.contains("\"grad_norm\":0.22947982318286206,"),
            "{text}"
        );
        lines.write(&step(30)).unwrap();
        let log = read(&path).unwrap();
        let steps: Vec<u64> = log.entries.iter().map(Entry::step).collect();
        assert_eq!((steps, log.broken), (vec![10, 20, 20, 30], 0));
    }

    #[test]
    fn a_loss_that_is_not_a_number_is_read_back() {
        let text = line(&Entry::Step(Step {
            loss: f64::NAN,
            ..Step::default()
        }))
        .unwrap();
        let Entry::Step(step) = serde_json::from_str(&text).unwrap() else {
            panic!("{text}");
        };
        assert!(step.loss.is_nan());
    }

    #[test]
    fn a_line_has_its_names() {
        let line: serde_json::Value = serde_json::from_str(&line(&step(1)).unwrap()).unwrap();
        for name in [
            "kind",
            "step",
            "loss",
            "lr",
            "grad_norm",
            "tokens_per_s",
            "memory_bytes",
            "mfu",
            "eta_s",
        ] {
            assert!(line.get(name).is_some(), "{name}");
        }
        assert_eq!(line["kind"], "step");
    }
}
