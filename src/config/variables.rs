//! `LLAMAHOME_*` variables, of the environment and of `.env`, and the flags of the command line.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use figment::value::Value;

use super::error::closest;
use super::keys::{Key, Keys};
use super::load::Overrides;
use super::source::Source;
use super::{ConfigError, Layer, Origin};

/// What the names of all variables of this program begin with.
const PREFIX: &str = "LLAMAHOME_";

/// A variable that is not a key, and what it is for.
pub(super) struct Reserved {
    pub(super) name: &'static str,
    pub(super) example: &'static str,
    pub(super) meaning: &'static str,
}

/// The variables that are not keys.
pub(super) const RESERVED: [Reserved; 6] = [
    Reserved {
        name: "LLAMAHOME_HOME",
        example: "/srv/llamahome",
        meaning: "The folder of everything the program keeps; its `config` folder is then the user's folder.",
    },
    Reserved {
        name: "LLAMAHOME_ENV",
        example: "prod",
        meaning: "The profile: `dev`, `prod` (both built in) or the stem of a file of the project's `.config` folder.",
    },
    Reserved {
        name: "LLAMAHOME_CONFIG",
        example: "./deploy/config",
        meaning: "The folder that is read in place of the working directory's `.config`.",
    },
    Reserved {
        name: "LLAMAHOME_TEST_MODEL",
        example: "./models/smollm2",
        meaning: "Tests only: the model folder that they decode.",
    },
    Reserved {
        name: "LLAMAHOME_LIBTORCH_CACHE",
        example: "./.libtorch",
        meaning: "Builds only: the folder that keeps the downloaded libtorch.",
    },
    Reserved {
        name: "LLAMAHOME_COMMIT",
        example: "1a2b3c4d",
        meaning: "Builds only: the commit that `--version` names, where there is no git. `cargo run` and `cargo bench` set it.",
    },
];

/// The variables of a `.env` file.
#[derive(Debug, Default)]
pub(super) struct Dotenv {
    /// The file, when there is one.
    pub(super) path: Option<PathBuf>,
    /// Name, value and line of each variable of this program.
    pub(super) variables: Vec<(String, String, Option<usize>)>,
}

impl Dotenv {
    /// Reads `.env` in `folder`; no file is no variables. Nothing reaches the environment of the process.
    pub(super) fn read(folder: &Path) -> Result<Self, ConfigError> {
        let path = folder.join(".env");
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Dotenv::default()),
            Err(source) => return Err(ConfigError::Read { path, source }),
        };
        let text = text.trim_start_matches('\u{feff}');
        let mut variables = Vec::new();
        for item in dotenvy::Iter::new(text.as_bytes()) {
            let (name, value) = item.map_err(|error| broken(&path, text, &error))?;
            if name.starts_with(PREFIX) {
                let line = line_of(text, &name);
                variables.push((name, value, line));
            }
        }
        Ok(Dotenv {
            path: Some(path),
            variables,
        })
    }

    /// The value of a variable, the last one when it is there twice.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self
            .variables
            .iter()
            .rev()
            .find(|(known, _, _)| known == name);
        found.map(|(_, value, _)| value.as_str())
    }

    /// One source a variable.
    pub(super) fn sources(&self, keys: &Keys) -> Result<Vec<Source>, ConfigError> {
        let Some(path) = &self.path else {
            return Ok(Vec::new());
        };
        let place = path.display().to_string();
        let variables = self.variables.iter().map(|(name, value, line)| {
            let origin = Origin {
                layer: Layer::Dotenv,
                place: place.clone(),
                line: *line,
            };
            (origin, name.as_str(), value.as_str())
        });
        sources(keys, variables)
    }
}

/// The parser's own message repeats the whole line, which may hold a secret.
fn broken(path: &Path, text: &str, error: &dotenvy::Error) -> ConfigError {
    let line = match error {
        dotenvy::Error::LineParse(bad, _) => {
            // The parser hands on the line, or only the part after `=`.
            let first = bad.trim().lines().next().unwrap_or_default();
            text.lines()
                .position(|line| line.trim().ends_with(first))
                .map(|index| index + 1)
        }
        _ => None,
    };
    let place = path.display().to_string();
    ConfigError::Syntax {
        origin: Origin {
            layer: Layer::Dotenv,
            place,
            line,
        },
        reason: "not a line of the form KEY=VALUE: put values with spaces or # in single quotes"
            .to_owned(),
    }
}

fn line_of(text: &str, name: &str) -> Option<usize> {
    let sets = |line: &str| {
        let line = line.trim_start();
        let line = line.strip_prefix("export ").unwrap_or(line).trim_start();
        line.strip_prefix(name)
            .is_some_and(|rest| rest.trim_start().starts_with('='))
    };
    // The last one: it is the one that counts.
    let lines: Vec<&str> = text.lines().collect();
    lines
        .iter()
        .rposition(|line| sets(line))
        .map(|index| index + 1)
}

/// One source a variable of the environment.
pub(super) fn environment(
    keys: &Keys,
    env: &BTreeMap<String, String>,
) -> Result<Vec<Source>, ConfigError> {
    let ours = env.iter().filter(|(name, _)| name.starts_with(PREFIX));
    let variables = ours.map(|(name, value)| {
        let origin = Origin {
            layer: Layer::Environment,
            place: name.clone(),
            line: None,
        };
        (origin, name.as_str(), value.as_str())
    });
    sources(keys, variables)
}

fn sources<'a>(
    keys: &Keys,
    variables: impl Iterator<Item = (Origin, &'a str, &'a str)>,
) -> Result<Vec<Source>, ConfigError> {
    let mut sources = Vec::new();
    for (origin, name, value) in variables {
        if RESERVED.iter().any(|reserved| reserved.name == name) {
            continue;
        }
        let Some(key) = keys.all.iter().find(|key| key.variable() == name) else {
            let reserved = RESERVED.iter().map(|reserved| reserved.name.to_owned());
            let known = keys.all.iter().map(Key::variable).chain(reserved);
            let (closest, name) = (closest(name, known), name.to_owned());
            return Err(ConfigError::UnknownVariable {
                origin,
                name,
                closest,
            });
        };
        sources.push(Source::single(origin, key, key.read(value)));
    }
    Ok(sources)
}

/// One source a flag of the command line.
pub(super) fn command_line(keys: &Keys, overrides: &Overrides) -> Result<Vec<Source>, ConfigError> {
    let mut sources = Vec::new();
    for (path, value, flag) in overrides {
        let origin = Origin {
            layer: Layer::CommandLine,
            place: flag.clone(),
            line: None,
        };
        let Some(key) = keys.all.iter().find(|key| key.path() == *path) else {
            let (closest, key) = (keys.closest(path), path.clone());
            return Err(ConfigError::UnknownKey {
                origin,
                key,
                closest,
            });
        };
        let value = match value {
            serde_json::Value::String(text) => key.read(text),
            other => {
                Value::serialize(other).map_err(|error| ConfigError::Compose(error.to_string()))?
            }
        };
        sources.push(Source::single(origin, key, value));
    }
    Ok(sources)
}
