//! Who the callers are: the one key of the settings, those of the key file, or anybody when there is neither.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::limits::{Account, Rules};
use crate::units::{Duration, Secret};

/// The longest name of a key.
const NAME: usize = 64;

/// Who a request came from.
#[derive(Debug)]
pub(super) struct Caller {
    /// For the audit record: the key's name, `key` for the one of the settings, `local` for anybody.
    pub(super) name: String,
    /// Whose caches its requests may share.
    pub(super) tenant: String,
    /// Whose sessions it has, where there are several keys: the key's name. Else all are everybody's.
    pub(super) space: Option<String>,
    /// Whether it may look into the engine and tell it which models to hold, beside using it.
    pub(super) manage: bool,
    /// What it has used.
    pub(super) account: Account,
}

/// A key and whose it is. Digests are of equal length whatever was sent, so that comparing takes equally long.
#[derive(Debug)]
struct Known {
    digest: [u8; 32],
    caller: Arc<Caller>,
}

/// All keys of a server.
#[derive(Debug)]
pub(super) struct Keys {
    known: Vec<Known>,
    anybody: Arc<Caller>,
}

/// Why the key file is of no use.
#[derive(Debug, thiserror::Error)]
#[error("the key file {}: {reason}", path.display())]
pub struct KeyFileError {
    path: PathBuf,
    reason: String,
}

/// The key file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    keys: Vec<Entry>,
}

/// One key of it. Limits that it does not say are those of the settings; 0 is none.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    key: Option<Secret>,
    /// The SHA-256 of the key in hexadecimal, when the file is not to spell the key.
    sha256: Option<String>,
    scopes: Option<BTreeSet<Scope>>,
    requests_per_minute: Option<u64>,
    tokens_per_minute: Option<u64>,
    concurrent_requests: Option<usize>,
    rate_burst: Option<Duration>,
}

/// What a key is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Scope {
    /// Asking models, which every key may.
    Use,
    /// Looking into the engine and telling it which models to hold, too.
    Manage,
}

impl KeyFileError {
    /// What is wrong, without the file's name.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

/// Checks that a server would take a key file.
///
/// # Errors
/// [`KeyFileError`] when it would not.
pub fn check_keys(path: &Path) -> Result<(), KeyFileError> {
    let rules = Rules::default();
    Keys::new(None, rules).add_file(path, rules)
}

impl Keys {
    /// The one key of the settings, or none, which is everybody's.
    pub(super) fn new(key: Option<&Secret>, rules: Rules) -> Self {
        let now = Instant::now();
        let caller = |name: &str, tenant: &str| {
            Arc::new(Caller {
                name: name.to_owned(),
                tenant: tenant.to_owned(),
                space: None,
                manage: true,
                account: Account::new(rules, now),
            })
        };
        let known = key.map(|key| Known {
            digest: digest(key.expose()),
            caller: caller("key", "key"),
        });
        Keys {
            known: known.into_iter().collect(),
            anybody: caller("local", ""),
        }
    }

    /// Adds those of a file. `rules` are the limits of a key that has none of its own.
    ///
    /// # Errors
    /// [`KeyFileError`] when it cannot be read, others than its owner may read it, or an entry is wrong.
    pub(super) fn add_file(&mut self, path: &Path, rules: Rules) -> Result<(), KeyFileError> {
        let fault = |reason: String| KeyFileError {
            path: path.to_owned(),
            reason,
        };
        check_mode(path).map_err(&fault)?;
        let text = fs::read_to_string(path).map_err(|error| fault(error.to_string()))?;
        // The parser's message shows the line, which may have a key in it: only where it is is told.
        let file: File = toml::from_str(&text).map_err(|error| {
            let line = error
                .span()
                .and_then(|span| text.get(..span.start))
                .map_or(0, |before| before.lines().count().max(1));
            fault(format!("line {line}: {}", error.message()))
        })?;
        if file.keys.is_empty() {
            return Err(fault("it has no [[keys]]".to_owned()));
        }
        for entry in file.keys {
            let name = entry.name.clone();
            self.add(entry, rules)
                .map_err(|reason| fault(format!("key {name:?}: {reason}")))?;
        }
        Ok(())
    }

    fn add(&mut self, entry: Entry, rules: Rules) -> Result<(), String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if entry.name.is_empty() || entry.name.len() > NAME || !entry.name.chars().all(plain) {
            return Err(format!(
                "a name is 1 to {NAME} letters, digits, '-' and '_'"
            ));
        }
        let taken = self
            .known
            .iter()
            .any(|known| known.caller.name == entry.name);
        if taken
            || entry.name == self.anybody.name
            || ["key", "unknown"].contains(&entry.name.as_str())
        {
            return Err("the name is taken: choose another one".to_owned());
        }
        let digest = match (&entry.key, &entry.sha256) {
            (Some(key), None) => digest(key.expose()),
            (None, Some(text)) => hex(text).ok_or("sha256 is not 64 hexadecimal digits")?,
            _ => return Err("it needs either key or sha256".to_owned()),
        };
        if self.known.iter().any(|known| known.digest == digest) {
            return Err("another entry has the same key".to_owned());
        }
        let rules = Rules {
            requests: entry.requests_per_minute.unwrap_or(rules.requests),
            tokens: entry.tokens_per_minute.unwrap_or(rules.tokens),
            concurrent: entry.concurrent_requests.unwrap_or(rules.concurrent),
            burst: entry.rate_burst.map_or(rules.burst, Duration::get),
        };
        let scopes = entry.scopes.unwrap_or_default();
        let caller = Caller {
            tenant: entry.name.clone(),
            space: Some(entry.name.clone()),
            name: entry.name,
            manage: scopes.contains(&Scope::Manage),
            account: Account::new(rules, Instant::now()),
        };
        self.known.push(Known {
            digest,
            caller: Arc::new(caller),
        });
        Ok(())
    }

    /// Goes on with the accounts of those that were there before, by name and under the same limits. To be called before
    /// anybody is handed out.
    pub(super) fn keep_accounts(&mut self, before: &Keys) {
        let all = |keys: &Keys| -> Vec<Arc<Caller>> {
            let known = keys.known.iter().map(|known| &known.caller);
            known.chain([&keys.anybody]).map(Arc::clone).collect()
        };
        let before = all(before);
        let known = self.known.iter_mut().map(|known| &mut known.caller);
        for caller in known.chain([&mut self.anybody]) {
            let same = before.iter().find(|old| {
                old.name == caller.name && old.account.rules() == caller.account.rules()
            });
            if let (Some(old), Some(caller)) = (same, Arc::get_mut(caller)) {
                caller.account = old.account.clone();
            }
        }
    }

    /// Whether everybody may ask.
    pub(super) fn is_open(&self) -> bool {
        self.known.is_empty()
    }

    /// Whoever asks without a key, where none is needed.
    pub(super) fn anybody(&self) -> &Arc<Caller> {
        &self.anybody
    }

    /// Whose key this is. Looks at all of them, whichever it is.
    pub(super) fn find(&self, key: &str) -> Option<&Arc<Caller>> {
        let sent = digest(key);
        let mut found = None;
        for known in &self.known {
            if bool::from(sent.ct_eq(&known.digest)) {
                found = Some(&known.caller);
            }
        }
        found
    }
}

fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

fn hex(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> = text
        .chars()
        .map(|c| c.to_digit(16).map(|digit| digit as u8))
        .collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits
        .chunks(2)
        .map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit))
        .collect();
    (digits.len() == 64)
        .then(|| bytes.try_into().ok())
        .flatten()
}

/// A file of keys that others can read is no secret: whether nobody but its owner may read one.
pub(super) fn check_mode(path: &Path) -> Result<(), String> {
    let metadata = fs::metadata(path).map_err(|error| error.to_string())?;
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777;
        if mode & 0o077 != 0 {
            return Err(format!(
                "others may read it (its mode is {mode:o}): run chmod 600 on it"
            ));
        }
    }
    match metadata.is_file() {
        true => Ok(()),
        false => Err("it is not a file".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn file(text: &str) -> Result<Keys, String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let mut keys = Keys::new(None, Rules::default());
        keys.add_file(file.path(), Rules::default())
            .map_err(|error| error.reason)?;
        Ok(keys)
    }

    #[test]
    fn each_key_is_its_owners() {
        let sum = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
        let keys = file(&format!(
            "[[keys]]\nname = 'a'\nkey = 'one'\nscopes = ['use', 'manage']\n[[keys]]\nname = 'b'\nsha256 = '{sum}'\n"
        ))
        .unwrap();
        let who = |key| {
            keys.find(key)
                .map(|caller| (caller.name.clone(), caller.manage))
        };
        assert_eq!(who("one"), Some(("a".to_owned(), true)));
        assert_eq!(who("test"), Some(("b".to_owned(), false)));
        assert_eq!((who("on"), who(""), keys.is_open()), (None, None, false));
        assert!(Keys::new(None, Rules::default()).is_open());
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_without_its_keys() {
        for (text, part) in [
            ("", "no [[keys]]"),
            ("[[keys]]\nname = 'a'\n", "either key or sha256"),
            (
                "[[keys]]\nname = 'a'\nkey = 'k'\nsha256 = 'k'\n",
                "either key or sha256",
            ),
            ("[[keys]]\nname = 'a'\nsha256 = 'zz'\n", "64 hexadecimal"),
            ("[[keys]]\nname = 'a b'\nkey = 'secret-1'\n", "a name is"),
            ("[[keys]]\nname = 'local'\nkey = 'secret-1'\n", "taken"),
            (
                "[[keys]]\nname = 'a'\nkey = 'k'\n[[keys]]\nname = 'a'\nkey = 'l'\n",
                "taken",
            ),
            (
                "[[keys]]\nname = 'a'\nkey = 'k'\n[[keys]]\nname = 'b'\nkey = 'k'\n",
                "same key",
            ),
            ("[[keys]]\nname = 'a'\nkey = 'secret-1' x\n", "line 3"),
            (
                "[[keys]]\nname = 'a'\nkey = 'secret-1'\nscope = 'use'\n",
                "unknown field",
            ),
            (
                "[[keys]]\nname = 'a'\nkey = 'secret-1'\nscopes = ['root']\n",
                "unknown variant",
            ),
        ] {
            let reason = file(text).map(|_| ()).expect_err(text);
            assert!(reason.contains(part), "{text}: {reason}");
            assert!(!reason.contains("secret-1"), "{reason}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_others_may_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o640)).unwrap();
        let mut keys = Keys::new(None, Rules::default());
        let error = keys.add_file(file.path(), Rules::default()).unwrap_err();
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }
}
