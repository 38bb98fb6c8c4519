//! Settings that are read anew while the process runs: what changes, and what would only at a restart.

use serde::Serialize;
use serde_json::{Map, Value as Json, json};

use super::{ConfigError, Inputs, Loaded, Settings, keys, load};
use crate::units::Secret;

/// The keys that take effect while the process runs. All others are of what was built from them: actors, threads, memory.
pub const LIVE: [&str; 21] = [
    "telemetry.level",
    "http.body_limit",
    "http.request_timeout",
    "http.api_key",
    "http.tls_cert",
    "http.tls_key",
    "http.keys_file",
    "http.requests_per_minute",
    "http.tokens_per_minute",
    "http.rate_burst",
    "http.concurrent_requests",
    "http.allowed_hosts",
    "http.cors_origins",
    "http.unknown_fields",
    "sampling.temperature",
    "sampling.top_k",
    "sampling.top_p",
    "sampling.min_p",
    "sampling.repetition_penalty",
    "sampling.penalty_window",
    "sampling.max_tokens",
];

/// One key that was changed. Secrets are redacted.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// `section.name`.
    pub key: String,
    /// What runs, or ran until now.
    pub old: Json,
    /// What the layers say now.
    pub new: Json,
}

/// What reading the layers anew came to.
#[derive(Debug, Clone)]
pub struct Reread {
    /// The settings to run with: those that run, and of the new ones all that [`LIVE`] names.
    pub loaded: Loaded,
    /// What takes effect.
    pub changed: Vec<Change>,
    /// What would take effect at a restart only.
    pub waiting: Vec<Change>,
}

/// Reads all layers anew beside the settings that run.
///
/// # Errors
/// As [`load()`]; the settings that run stay as they are.
pub fn reread(inputs: &Inputs, running: &Loaded) -> Result<Reread, ConfigError> {
    let read = load(inputs)?;
    let settings = adopted(&running.settings, &read.settings);
    let changed = changes(&running.settings, &settings)?;
    let waiting = changes(&settings, &read.settings)?;
    let mut origins = read.origins;
    for change in &waiting {
        if let Some(origin) = running.origins.get(&change.key) {
            origins.insert(change.key.clone(), origin.clone());
        }
    }
    let loaded = Loaded {
        settings,
        origins,
        ..read
    };
    Ok(Reread {
        loaded,
        changed,
        waiting,
    })
}

/// The running settings with what [`LIVE`] names of `read`.
fn adopted(running: &Settings, read: &Settings) -> Settings {
    let mut next = running.clone();
    next.sampling = read.sampling.clone();
    next.telemetry.level = read.telemetry.level;
    next.http = crate::http::Config {
        host: running.http.host,
        port: running.http.port,
        workers: running.http.workers,
        ..read.http.clone()
    };
    next
}

fn changes(old: &Settings, new: &Settings) -> Result<Vec<Change>, ConfigError> {
    let secret = |settings: &Settings| {
        let key = settings.http.api_key.as_ref();
        key.map(Secret::expose).map(str::to_owned)
    };
    let rekeyed = secret(old) != secret(new);
    let pairs = keys::values(old)?.into_iter().zip(keys::values(new)?);
    let changed =
        pairs.filter(|((key, old), (_, new))| old != new || (key == "http.api_key" && rekeyed));
    Ok(changed
        .map(|((key, old), (_, new))| Change { key, old, new })
        .collect())
}

/// What `GET /v1/config` tells: every key with its value and origin, and what waits for a restart.
///
/// # Errors
/// When a section cannot be written as JSON, a defect of this program.
pub fn told(loaded: &Loaded, waiting: &[Change]) -> Result<Json, ConfigError> {
    let entry = |(key, value): (String, Json)| {
        let live = LIVE.contains(&key.as_str());
        let origin = loaded.origins.get(&key);
        (
            key,
            json!({ "value": value, "origin": origin, "live": live }),
        )
    };
    let values = keys::values(&loaded.settings)?;
    let values: Map<String, Json> = values.into_iter().map(entry).collect();
    Ok(json!({ "object": "config", "settings": values, "waiting_for_restart": waiting }))
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a test may panic"
    )]
    use super::*;

    fn inputs(folder: &std::path::Path, text: &str) -> Inputs {
        let config = folder.join(".config");
        std::fs::create_dir_all(&config).unwrap();
        std::fs::write(config.join("llamahome.toml"), text).unwrap();
        Inputs {
            cwd: folder.to_owned(),
            ..Inputs::default()
        }
    }

    #[test]
    fn what_is_live_changes_and_the_rest_waits() {
        let folder = tempfile::tempdir().unwrap();
        let before = load(&inputs(folder.path(), "[http]\napi_key = 'one'\n")).unwrap();
        let after = "[http]\napi_key = 'two'\nport = 9\n[kv]\npolicy = 'h2o'\n[sampling]\ntop_k = 7\n[telemetry]\nlevel = 'debug'\nformat = 'json'\n";
        let reread = reread(&inputs(folder.path(), after), &before).unwrap();
        let names = |changes: &[Change]| -> Vec<String> {
            changes.iter().map(|change| change.key.clone()).collect()
        };
        assert_eq!(
            names(&reread.changed),
            ["telemetry.level", "http.api_key", "sampling.top_k"]
        );
        assert_eq!(
            names(&reread.waiting),
            ["telemetry.format", "kv.policy", "http.port"]
        );
        let settings = &reread.loaded.settings;
        assert_eq!(settings.sampling.top_k, 7);
        assert_eq!(settings.http.port, before.settings.http.port);
        assert_eq!(settings.http.api_key.as_ref().unwrap().expose(), "two");

        let told = told(&reread.loaded, &reread.waiting).unwrap();
        assert!(!told.to_string().contains("two") && !told.to_string().contains("\"one"));
        let port = &told["settings"]["http.port"];
        assert_eq!(port["origin"]["layer"], "built-in", "{port}");
        assert_eq!(
            told["settings"]["sampling.top_k"]["origin"]["layer"],
            "project"
        );
        assert_eq!(told["waiting_for_restart"][2]["new"], 9);
    }

    #[test]
    fn what_is_wrong_leaves_all_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let before = load(&inputs(folder.path(), "")).unwrap();
        let error = reread(&inputs(folder.path(), "[sampling]\ntop_q = 1\n"), &before).unwrap_err();
        assert!(error.to_string().contains("top_q"), "{error}");
    }

    #[test]
    fn each_live_key_is_one_that_is_adopted_and_no_other_is() {
        let folder = tempfile::tempdir().unwrap();
        let old = load(&inputs(folder.path(), "")).unwrap().settings;
        // Every key at another value than its default.
        let mut tree = serde_json::to_value(&old).unwrap();
        let mut altered = Settings::default();
        for section in ["telemetry", "http", "sampling"] {
            for (name, value) in tree[section].as_object_mut().unwrap() {
                *value = match (section, name.as_str(), &*value) {
                    ("telemetry", "level", _) => json!("debug"),
                    ("telemetry", "format", _) => json!("json"),
                    ("telemetry", "rotation", _) => json!("hourly"),
                    ("http", "unknown_fields", _) => json!("refuse"),
                    ("http", "host", _) => json!("127.0.0.2"),
                    ("http", "request_timeout" | "rate_burst", _) => json!("7s"),
                    ("http", "body_limit", _) => json!("7MiB"),
                    (_, "max_tokens", _) => json!(3),
                    (_, _, Json::Bool(flag)) => json!(!*flag),
                    (_, _, Json::Array(_)) => json!(["a"]),
                    (_, _, Json::Null) => json!("text"),
                    (_, _, Json::Number(number)) if number.is_f64() => json!(0.75),
                    (_, _, Json::Number(_)) => json!(5),
                    (_, _, other) => other.clone(),
                };
            }
        }
        altered.telemetry = serde_json::from_value(tree["telemetry"].clone()).unwrap();
        altered.http = serde_json::from_value(tree["http"].clone()).unwrap();
        altered.sampling = serde_json::from_value(tree["sampling"].clone()).unwrap();
        let next = adopted(&old, &altered);
        let mut live: Vec<String> = changes(&old, &next)
            .unwrap()
            .into_iter()
            .map(|change| change.key)
            .collect();
        let mut named = LIVE.map(str::to_owned).to_vec();
        live.sort_unstable();
        named.sort_unstable();
        assert_eq!(live, named);
    }
}
