//! The append-only record of who asked for what: one JSON object a line, never a word of a prompt.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Serialize, Serializer};

use super::{TelemetryError, escaped};
use crate::ids::RequestId;

/// The size in bytes at which a file is put aside.
const FILE_BYTES: u64 = 64 << 20;
/// How many files that were put aside are kept.
const KEPT: u32 = 8;

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It was answered.
    Ok,
    /// It was refused: busy, no key, not valid.
    Refused,
    /// Its client went away or took it back.
    Cancelled,
    /// It failed on our side.
    Failed,
}

/// One request, as it is recorded: each that generates, changes something, or is turned away at the door.
#[derive(Debug, Clone, Serialize)]
pub struct Record {
    /// When it ended; written as RFC 3339 in UTC.
    #[serde(serialize_with = "rfc3339")]
    pub at: SystemTime,
    /// The request.
    pub request: RequestId,
    /// The route, such as `/v1/chat/completions`.
    pub route: &'static str,
    /// What was done to what, such as `DELETE /v1/sessions/notes`; absent of a generation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// The name of the key that was used, or `local`; `unknown` without a right one.
    pub who: String,
    /// The model that was asked for.
    pub model: String,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens of the answer.
    pub output_tokens: usize,
    /// How it ended.
    pub result: Outcome,
}

fn rfc3339<S: Serializer>(at: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_rfc3339_millis(*at))
}

/// The open record. One process owns it.
#[derive(Debug)]
pub struct AuditLog {
    path: PathBuf,
    file: File,
    bytes: u64,
    limit: u64,
}

impl AuditLog {
    /// Opens the record to append to it, or makes it, readable by its owner only.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(path: &Path) -> Result<Self, TelemetryError> {
        Self::with_limit(path, FILE_BYTES)
    }

    fn with_limit(path: &Path, limit: u64) -> Result<Self, TelemetryError> {
        let opened = open(path).and_then(|file| Ok((file.metadata()?.len(), file)));
        let (bytes, file) = opened.map_err(|source| fault(path, source))?;
        Ok(AuditLog {
            path: path.to_owned(),
            file,
            bytes,
            limit,
        })
    }

    /// Writes one record in one write, after putting a full file aside as `<name>.1`.
    ///
    /// # Errors
    /// When the record cannot be written or the files cannot be renamed; the record is then not in the file.
    pub fn append(&mut self, record: &Record) -> Result<(), TelemetryError> {
        self.write(record)
            .map_err(|source| fault(&self.path, source))
    }

    fn write(&mut self, record: &Record) -> io::Result<()> {
        let line = format!("{}\n", escaped(&serde_json::to_string(record)?));
        let length = line.len() as u64;
        if self.bytes > 0 && self.bytes + length > self.limit {
            self.file.sync_all()?;
            rotate(&self.path)?;
            self.file = open(&self.path)?;
            self.bytes = 0;
        }
        self.file.write_all(line.as_bytes())?;
        self.bytes += length;
        Ok(())
    }
}

fn fault(path: &Path, source: io::Error) -> TelemetryError {
    TelemetryError::Audit {
        path: path.to_owned(),
        source,
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Renames `<name>` to `<name>.1`, `.1` to `.2` and so on; the oldest is overwritten.
fn rotate(path: &Path) -> io::Result<()> {
    let aside = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    };
    for number in (1..KEPT).rev() {
        match fs::rename(aside(number), aside(number + 1)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    fs::rename(path, aside(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(who: &str) -> Record {
        Record {
            at: SystemTime::UNIX_EPOCH,
            request: RequestId::random(),
            route: "/v1/chat/completions",
            action: None,
            who: who.to_owned(),
            model: "smollm2".to_owned(),
            prompt_tokens: 3,
            output_tokens: 5,
            result: Outcome::Ok,
        }
    }

    #[test]
    fn a_record_is_one_line_that_survives_reopening() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        AuditLog::open(&path)
            .unwrap()
            .append(&record("eve\n\u{9b}"))
            .unwrap();
        AuditLog::open(&path)
            .unwrap()
            .append(&record("local"))
            .unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["who"], "eve\n\u{9b}");
        assert!(!text.contains('\u{9b}'));
        assert_eq!(lines[1]["at"], "1970-01-01T00:00:00.000Z");
        assert_eq!(lines[1]["result"], "ok");
    }

    #[cfg(unix)]
    #[test]
    fn only_its_owner_can_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        AuditLog::open(&path).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }

    #[test]
    fn full_files_are_put_aside_and_the_oldest_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let mut log = AuditLog::with_limit(&path, 1).unwrap();
        for number in 0..12 {
            log.append(&record(&format!("user-{number}"))).unwrap();
        }
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            1 + KEPT as usize
        );
        assert!(fs::read_to_string(&path).unwrap().contains("user-11"));
        assert!(
            fs::read_to_string(path.with_extension("jsonl.8"))
                .unwrap()
                .contains("user-3\"")
        );
    }
}
