//! Results that are kept for later: one file of JSON an evaluation, in one folder.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use serde::Serialize;
use serde_json::Value;

use super::results::Results;

/// A file that is larger is no evaluation: a row takes some hundred bytes.
const LARGEST: u64 = 64 << 20;

/// The folder. It need not be there.
#[derive(Debug, Clone)]
pub struct KeptResults(PathBuf);

/// Why results cannot be kept, or not be had.
#[derive(Debug, thiserror::Error)]
pub enum KeptError {
    /// There are none of this name.
    #[error("there is no evaluation {0:?}: see which there are")]
    Unknown(String),
    /// The disk.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's message.
        source: io::Error,
    },
    /// It is something else.
    #[error("{path} holds no results: {reason}; remove it", path = .path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// One of them in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeptLine {
    /// Its name.
    pub id: String,
    /// The model.
    pub model: String,
    /// The tasks, each once, in the order measured.
    pub tasks: Vec<String>,
    /// When it was kept: seconds since 1970.
    pub created: u64,
}

impl KeptResults {
    /// Those in `folder`.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        KeptResults(folder.into())
    }

    /// Keeps one. Returns its name: the model's, and a number.
    ///
    /// # Errors
    /// [`KeptError::Io`].
    pub fn keep(&self, results: &Results) -> Result<String, KeptError> {
        let io = |path: PathBuf| move |source| KeptError::Io { path, source };
        fs::create_dir_all(&self.0).map_err(io(self.0.clone()))?;
        let stem = stem(&results.model);
        let text = serde_json::to_vec_pretty(results).map_err(|e| io(self.0.clone())(e.into()))?;
        let mut number = 1;
        loop {
            let id = format!("{stem}-{number}");
            let path = self.path(&id);
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(mut file) => {
                    file.write_all(&text).map_err(io(path))?;
                    return Ok(id);
                }
                Err(taken) if taken.kind() == io::ErrorKind::AlreadyExists => number += 1,
                Err(source) => return Err(io(path)(source)),
            }
        }
    }

    /// All of them, the newest first; and files that hold none, with what is wrong.
    ///
    /// # Errors
    /// [`KeptError::Io`] when the folder cannot be read.
    pub fn list(&self) -> Result<(Vec<KeptLine>, Vec<String>), KeptError> {
        let (mut found, mut broken) = (Vec::new(), Vec::new());
        let entries = match fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(none) if none.kind() == io::ErrorKind::NotFound => return Ok((found, broken)),
            Err(source) => {
                let path = self.0.clone();
                return Err(KeptError::Io { path, source });
            }
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(id) = name.to_str().and_then(|name| name.strip_suffix(".json")) else {
                continue;
            };
            match self.read(id) {
                Ok(results) => found.push(line(id, &results, created(&entry))),
                Err(error) => broken.push(error.to_string()),
            }
        }
        found.sort_by(|a, b| (b.created, &b.id).cmp(&(a.created, &a.id)));
        broken.sort();
        Ok((found, broken))
    }

    /// One of them, as `--json` writes it.
    ///
    /// # Errors
    /// See [`KeptError`].
    pub fn read(&self, id: &str) -> Result<Value, KeptError> {
        // A name is no path.
        if id != stem(id) {
            return Err(KeptError::Unknown(id.to_owned()));
        }
        let path = self.path(id);
        let io = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => KeptError::Unknown(id.to_owned()),
            _ => KeptError::Io {
                path: path.clone(),
                source,
            },
        };
        let broken = |reason: String| KeptError::Broken {
            path: path.clone(),
            reason,
        };
        let file = File::open(&path).map_err(io)?;
        if file.metadata().map_err(io)?.len() > LARGEST {
            return Err(broken(format!("it is larger than {LARGEST} bytes")));
        }
        let results: Value = serde_json::from_reader(io::BufReader::new(file))
            .map_err(|error| broken(error.to_string()))?;
        let rows = results.get("rows").is_some_and(Value::is_array);
        let model = results.get("model").is_some_and(Value::is_string);
        match rows && model {
            true => Ok(results),
            false => Err(broken("rows or model are missing".to_owned())),
        }
    }

    fn path(&self, id: &str) -> PathBuf {
        self.0.join(format!("{id}.json"))
    }
}

/// What of a model's name can be that of a file.
fn stem(model: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let letters = model
        .chars()
        .take(64)
        .map(|c| if fits(c) { c } else { '-' });
    letters.collect()
}

fn line(id: &str, results: &Value, created: u64) -> KeptLine {
    let mut tasks: Vec<String> = Vec::new();
    let rows = results.get("rows").and_then(Value::as_array);
    for task in rows
        .into_iter()
        .flatten()
        .filter_map(|row| row.get("task")?.as_str())
    {
        if tasks.iter().all(|known| known != task) {
            tasks.push(task.to_owned());
        }
    }
    let model = results.get("model").and_then(Value::as_str);
    KeptLine {
        id: id.to_owned(),
        model: model.unwrap_or_default().to_owned(),
        tasks,
        created,
    }
}

/// Seconds since 1970; 0 where the system does not tell.
fn created(entry: &fs::DirEntry) -> u64 {
    let modified = entry.metadata().and_then(|data| data.modified()).ok();
    let since = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::results::testing::results;

    #[test]
    fn what_is_kept_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let kept = KeptResults::new(folder.path().join("deep/evaluations"));
        assert_eq!(kept.list().unwrap(), (vec![], vec![]));
        let mut results = results();
        results.model = "a/b:c".to_owned();
        assert_eq!(kept.keep(&results).unwrap(), "a-b-c-1");
        assert_eq!(kept.keep(&results).unwrap(), "a-b-c-2");
        let (lines, broken) = kept.list().unwrap();
        assert_eq!((lines.len(), broken.len()), (2, 0));
        assert_eq!(lines[0].tasks, ["ppl", "passkey"]);
        assert_eq!(lines[0].model, "a/b:c");
        let read = kept.read("a-b-c-2").unwrap();
        assert_eq!(read["command"], results.command);
        assert_eq!(read["rows"].as_array().unwrap().len(), results.rows.len());
    }

    #[test]
    fn names_are_no_paths_and_other_files_are_told() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("secret.json"), "{}").unwrap();
        let inner = folder.path().join("evaluations");
        fs::create_dir(&inner).unwrap();
        fs::write(inner.join("other.json"), "[]").unwrap();
        fs::write(inner.join("half.json"), "{\"rows\": [").unwrap();
        let kept = KeptResults::new(inner);
        for id in ["../secret", "", "none", "other/"] {
            assert!(matches!(kept.read(id), Err(KeptError::Unknown(_))), "{id}");
        }
        let (lines, broken) = kept.list().unwrap();
        assert!(lines.is_empty());
        assert_eq!(broken.len(), 2, "{broken:?}");
        assert!(matches!(kept.read("other"), Err(KeptError::Broken { .. })));
    }
}
