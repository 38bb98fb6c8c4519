-- Version 1. What is said is kept as it was said; nothing of it is derived but the index of words.

CREATE TABLE conversation (
    id TEXT PRIMARY KEY,
    begun TEXT NOT NULL,
    system TEXT,
    -- Whether its calls continue a text instead of a chat.
    raw INTEGER NOT NULL,
    -- What was said before its first call: JSON, a list of messages.
    before TEXT NOT NULL
) STRICT;

CREATE TABLE call (
    id INTEGER PRIMARY KEY,
    conversation TEXT NOT NULL REFERENCES conversation (id) ON DELETE CASCADE,
    at TEXT NOT NULL,
    command TEXT NOT NULL,
    model TEXT NOT NULL,
    prompt TEXT NOT NULL,
    answer TEXT NOT NULL,
    -- NULL where the answer was stopped by its reader.
    finish_reason TEXT,
    -- JSON: sampling, usage, kv and timings, as `run --json` prints them.
    about TEXT NOT NULL
) STRICT;

CREATE INDEX call_of_conversation ON call (conversation, id);

CREATE VIRTUAL TABLE words USING fts5 (prompt, answer, content = 'call', content_rowid = 'id');

-- What is removed is not to be found in the file any more.
INSERT INTO words (words, rank) VALUES ('secure-delete', 1);

CREATE TRIGGER call_added AFTER INSERT ON call BEGIN
    INSERT INTO words (rowid, prompt, answer) VALUES (new.id, new.prompt, new.answer);
END;

CREATE TRIGGER call_removed AFTER DELETE ON call BEGIN
    INSERT INTO words (words, rowid, prompt, answer) VALUES ('delete', old.id, old.prompt, old.answer);
END;

PRAGMA user_version = 1;
