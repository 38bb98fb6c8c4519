//! What was asked and answered on this machine: a SQLite file of the user's own, which can be searched and gone on with.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, Transaction, params};
use serde::Serialize;
use serde_json::Value;

use crate::text::{Message, Role};

mod settings;
#[cfg(test)]
mod tests;

pub use settings::Config;

/// The version of the tables that this program writes.
const VERSION: i64 = 1;

/// How long another process may keep the file to itself.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why the history cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The file system or SQLite says no.
    #[error("the history {} cannot be used: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was said.
        reason: String,
    },
    /// Another program's file, or one of a later version of this program.
    #[error("the history {} has version {found}, and this program knows {VERSION}: use the program that wrote it", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// The version that it has.
        found: i64,
    },
    /// There is no such conversation.
    #[error("there is no conversation {0:?}: `llamahome log` lists those there are")]
    Unknown(String),
    /// Several conversations are meant.
    #[error("{0:?} begins the names of several conversations: write more of it")]
    Ambiguous(String),
    /// Nothing has been kept yet.
    #[error("there is no conversation to go on with yet")]
    Empty,
}

/// A conversation of the history.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct ConversationId(String);

/// A conversation as a person names it: its id, or enough of its beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named(String);

/// Why a text names no conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a conversation is named by digits and the letters a to f, as `llamahome log` shows them")]
pub struct BadName;

impl ConversationId {
    fn random() -> Self {
        ConversationId(format!("{:08x}", rand::random::<u32>()))
    }
}

impl fmt::Display for ConversationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Named {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let hex = (1..=8).contains(&text.len()) && text.chars().all(|c| c.is_ascii_hexdigit());
        match hex {
            true => Ok(Named(text.to_ascii_lowercase())),
            false => Err(BadName),
        }
    }
}

/// Where a call belongs.
#[derive(Debug, Clone, Copy)]
pub enum Place<'a> {
    /// It begins a conversation.
    Begins(&'a Beginning),
    /// It goes on with one.
    In(&'a ConversationId),
}

/// What a conversation has before its first call.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Beginning {
    /// The instructions.
    pub system: Option<String>,
    /// Whether it is a text that is continued, and no chat.
    pub raw: bool,
    /// What was said already, as in a session that was loaded.
    pub before: Vec<Message>,
}

/// One question and its answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Call {
    /// When it was answered, RFC 3339 in UTC.
    pub at: String,
    /// `run` or `chat`.
    pub command: String,
    /// Who answered, by a name that finds it again.
    pub model: String,
    /// The question.
    pub prompt: String,
    /// The answer, as far as it came.
    pub answer: String,
    /// How it ended; `None` where its reader stopped it.
    pub finish_reason: Option<String>,
    /// Sampling, usage, KV cache and timings.
    #[serde(flatten)]
    pub about: Value,
}

/// A conversation, whole.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Conversation {
    /// Its name.
    pub id: ConversationId,
    /// When it was begun.
    pub begun: String,
    /// What it began with.
    #[serde(flatten)]
    pub beginning: Beginning,
    /// Its calls, the oldest first.
    pub calls: Vec<Call>,
}

impl Conversation {
    /// All that was said, without the instructions.
    pub fn messages(&self) -> Vec<Message> {
        let turn = |call: &Call| {
            [
                Message::new(Role::User, &call.prompt),
                Message::new(Role::Assistant, &call.answer),
            ]
        };
        let turns = self.calls.iter().flat_map(turn);
        self.beginning.before.iter().cloned().chain(turns).collect()
    }

    /// Who answered last.
    pub fn model(&self) -> Option<&str> {
        self.calls.last().map(|call| call.model.as_str())
    }
}

/// A line of the list of conversations.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line {
    /// Its name.
    pub id: ConversationId,
    /// When its last call was answered.
    pub at: String,
    /// Who answered that.
    pub model: String,
    /// How many calls it has.
    pub calls: u32,
    /// The first question.
    pub prompt: String,
}

/// A call that was searched for.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Hit {
    /// The conversation it belongs to.
    pub conversation: ConversationId,
    /// When it was answered.
    pub at: String,
    /// Who answered.
    pub model: String,
    /// The words that were searched for and some around them, each word between U+0002 and U+0003.
    pub excerpt: String,
    /// The question.
    pub prompt: String,
    /// The answer.
    pub answer: String,
}

/// Which conversations or calls are asked for.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Of this model only.
    pub model: Option<String>,
    /// At most so many, the latest.
    pub limit: Option<u32>,
}

/// The history.
#[derive(Debug)]
pub struct History {
    path: PathBuf,
    db: Connection,
}

impl History {
    /// Opens the file at `path`, made for its owner alone if there is none.
    ///
    /// # Errors
    /// When it cannot be opened, or is another program's.
    pub fn open(path: &Path) -> Result<History, HistoryError> {
        let failed = |reason: String| HistoryError::File {
            path: path.to_owned(),
            reason,
        };
        make_private(path).map_err(|error| failed(error.to_string()))?;
        let db = Connection::open(path).map_err(|error| failed(error.to_string()))?;
        let mut history = History {
            path: path.to_owned(),
            db,
        };
        history.prepare()?;
        Ok(history)
    }

    fn prepare(&mut self) -> Result<(), HistoryError> {
        let set = |db: &Connection| {
            db.busy_timeout(PATIENCE)?;
            db.pragma_update(None, "foreign_keys", true)?;
            db.pragma_update(None, "secure_delete", true)
        };
        set(&self.db).map_err(|error| self.failed(&error))?;
        let found = self.transaction(|tables| {
            let found: i64 = tables.query_row("PRAGMA user_version", [], |row| row.get(0))?;
            let empty = "SELECT count(*) = 0 FROM sqlite_schema";
            let empty: bool = tables.query_row(empty, [], |row| row.get(0))?;
            if found == 0 && empty {
                tables.execute_batch(include_str!("schema.sql"))?;
                return Ok(VERSION);
            }
            Ok(found)
        })?;
        match found {
            VERSION => Ok(()),
            found => Err(HistoryError::Version {
                path: self.path.clone(),
                found,
            }),
        }
    }

    /// Keeps a call. Returns the conversation that it belongs to.
    ///
    /// # Errors
    /// When the file cannot be written; it is as it was then.
    pub fn add(&mut self, place: Place<'_>, call: &Call) -> Result<ConversationId, HistoryError> {
        self.transaction(|tables| {
            let id = match place {
                Place::In(id) => id.clone(),
                Place::Begins(beginning) => begin(tables, beginning, &call.at)?,
            };
            tables.execute(
                "INSERT INTO call (conversation, at, command, model, prompt, answer, finish_reason, about)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                params![
                    id.0,
                    call.at,
                    call.command,
                    call.model,
                    call.prompt,
                    call.answer,
                    call.finish_reason,
                    call.about
                ],
            )?;
            Ok(id)
        })
    }

    /// The conversations, the latest first.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn list(&self, filter: &Filter) -> Result<Vec<Line>, HistoryError> {
        let line = |row: &Row<'_>| {
            Ok(Line {
                id: ConversationId(row.get(0)?),
                at: row.get(1)?,
                model: row.get(2)?,
                calls: row.get(3)?,
                prompt: row.get(4)?,
            })
        };
        self.rows(
            "SELECT conversation.id, last.at, last.model,
                    (SELECT count(*) FROM call WHERE conversation = conversation.id), first.prompt
             FROM conversation
             JOIN call AS last ON last.id = (SELECT max(id) FROM call WHERE conversation = conversation.id)
             JOIN call AS first ON first.id = (SELECT min(id) FROM call WHERE conversation = conversation.id)
             WHERE ?1 IS NULL OR last.model = ?1
             ORDER BY last.id DESC LIMIT ?2",
            params![filter.model, limit(filter)],
            line,
        )
    }

    /// The calls that have all `words`, in the question or in the answer, the latest first.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn search(&self, words: &[String], filter: &Filter) -> Result<Vec<Hit>, HistoryError> {
        // Words are words here, and never operators of SQLite's.
        let quote = |word: &str| format!("\"{}\"", word.replace('"', "\"\""));
        let words = words.iter().flat_map(|text| text.split_whitespace());
        let query = words.map(quote).collect::<Vec<_>>().join(" ");
        if query.is_empty() {
            return Ok(Vec::new());
        }
        let hit = |row: &Row<'_>| {
            Ok(Hit {
                conversation: ConversationId(row.get(0)?),
                at: row.get(1)?,
                model: row.get(2)?,
                excerpt: row.get(3)?,
                prompt: row.get(4)?,
                answer: row.get(5)?,
            })
        };
        self.rows(
            "SELECT call.conversation, call.at, call.model,
                    snippet(words, -1, char(2), char(3), '...', 16), call.prompt, call.answer
             FROM words JOIN call ON call.id = words.rowid
             WHERE words MATCH ?1 AND (?2 IS NULL OR call.model = ?2)
             ORDER BY call.id DESC LIMIT ?3",
            params![query, filter.model, limit(filter)],
            hit,
        )
    }

    /// The conversation of the last call.
    ///
    /// # Errors
    /// [`HistoryError::Empty`] when there is none, or when the file cannot be read.
    pub fn last(&self) -> Result<ConversationId, HistoryError> {
        let last = "SELECT conversation FROM call ORDER BY id DESC LIMIT 1";
        let found = self.db.query_row(last, [], |row| row.get(0)).optional();
        let found = found.map_err(|error| self.failed(&error))?;
        found.map(ConversationId).ok_or(HistoryError::Empty)
    }

    /// The conversation that is meant.
    ///
    /// # Errors
    /// When it is none or several, or when the file cannot be read.
    pub fn find(&self, named: &Named) -> Result<ConversationId, HistoryError> {
        let ids = self.rows(
            "SELECT id FROM conversation WHERE substr(id, 1, length(?1)) = ?1 LIMIT 2",
            params![named.0],
            |row| row.get(0),
        )?;
        let mut ids = ids.into_iter();
        match (ids.next(), ids.next()) {
            (Some(id), None) => Ok(ConversationId(id)),
            (None, _) => Err(HistoryError::Unknown(named.0.clone())),
            (Some(_), Some(_)) => Err(HistoryError::Ambiguous(named.0.clone())),
        }
    }

    /// The conversation that is meant; that of the last call where none is named.
    ///
    /// # Errors
    /// As [`History::find`] and [`History::last`].
    pub fn find_or_last(&self, named: Option<&Named>) -> Result<ConversationId, HistoryError> {
        named.map_or_else(|| self.last(), |named| self.find(named))
    }

    /// A conversation with all its calls.
    ///
    /// # Errors
    /// When there is none of this name, or the file cannot be read.
    pub fn conversation(&self, id: &ConversationId) -> Result<Conversation, HistoryError> {
        let head = "SELECT begun, system, raw, before FROM conversation WHERE id = ?1";
        let head = self.rows(head, params![id.0], |row| {
            let before: Value = row.get(3)?;
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, before))
        })?;
        let Some((begun, system, raw, before)) = head.into_iter().next() else {
            return Err(HistoryError::Unknown(id.0.clone()));
        };
        let before = serde_json::from_value(before).map_err(|error| HistoryError::File {
            path: self.path.clone(),
            reason: format!("what conversation {id} begins with is no list of messages: {error}"),
        })?;
        let calls = self.rows(
            "SELECT at, command, model, prompt, answer, finish_reason, about FROM call
             WHERE conversation = ?1 ORDER BY id",
            params![id.0],
            |row| {
                Ok(Call {
                    at: row.get(0)?,
                    command: row.get(1)?,
                    model: row.get(2)?,
                    prompt: row.get(3)?,
                    answer: row.get(4)?,
                    finish_reason: row.get(5)?,
                    about: row.get(6)?,
                })
            },
        )?;
        Ok(Conversation {
            id: id.clone(),
            begun,
            beginning: Beginning {
                system,
                raw,
                before,
            },
            calls,
        })
    }

    /// Removes conversations, all or none of them.
    ///
    /// # Errors
    /// When there is none of such a name, or the file cannot be written.
    pub fn remove(&mut self, ids: &[ConversationId]) -> Result<(), HistoryError> {
        let unknown = self.transaction(|tables| {
            let known = "SELECT count(*) = 1 FROM conversation WHERE id = ?1";
            for id in ids {
                if !tables.query_row(known, [&id.0], |row| row.get(0))? {
                    return Ok(Some(id.0.clone()));
                }
            }
            for id in ids {
                tables.execute("DELETE FROM conversation WHERE id = ?1", [&id.0])?;
            }
            Ok(None)
        })?;
        match unknown {
            Some(id) => Err(HistoryError::Unknown(id)),
            None => Ok(()),
        }
    }

    /// Removes everything, and gives the file's room back. Returns how many conversations there were.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn clear(&mut self) -> Result<usize, HistoryError> {
        let removed = self.transaction(|tables| tables.execute("DELETE FROM conversation", []))?;
        let vacuumed = self.db.execute_batch("VACUUM");
        vacuumed.map_err(|error| self.failed(&error))?;
        Ok(removed)
    }

    fn rows<T>(
        &self,
        query: &str,
        values: impl rusqlite::Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, HistoryError> {
        let all = || {
            let mut statement = self.db.prepare(query)?;
            let rows = statement.query_map(values, read)?;
            rows.collect::<rusqlite::Result<Vec<T>>>()
        };
        all().map_err(|error| self.failed(&error))
    }

    /// Does all of it or, when something fails, nothing.
    fn transaction<T>(
        &mut self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, HistoryError> {
        let behavior = rusqlite::TransactionBehavior::Immediate;
        let done = self.db.transaction_with_behavior(behavior);
        let done = done.and_then(|tables| {
            let value = work(&tables)?;
            tables.commit()?;
            Ok(value)
        });
        done.map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &rusqlite::Error) -> HistoryError {
        let reason = match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => "it is no SQLite file".to_owned(),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                "another process keeps it to itself".to_owned()
            }
            _ => error.to_string(),
        };
        HistoryError::File {
            path: self.path.clone(),
            reason,
        }
    }
}

/// Begins a conversation under a name that no other has.
fn begin(
    tables: &Transaction<'_>,
    beginning: &Beginning,
    at: &str,
) -> rusqlite::Result<ConversationId> {
    loop {
        let id = ConversationId::random();
        let added = tables.execute(
            "INSERT OR IGNORE INTO conversation (id, begun, system, raw, before) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![
                id.0,
                at,
                beginning.system,
                beginning.raw,
                serde_json::json!(beginning.before)
            ],
        )?;
        if added == 1 {
            return Ok(id);
        }
    }
}

fn limit(filter: &Filter) -> i64 {
    // SQLite's word for no limit.
    filter.limit.map_or(-1, i64::from)
}

/// Makes the file, readable by its owner alone, if there is none. What SQLite puts beside it has the same mode.
fn make_private(path: &Path) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}
