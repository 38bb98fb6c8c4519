//! A reward task as a recipe names it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::arithmetic::Arithmetic;
use super::gsm8k::Gsm8k;
use super::problem::{RewardError, RewardTask};
use super::spelling::Spelling;

/// A reward task and its settings, written `name` or `name:key=value,key=value`:
///
/// - `arithmetic`: `operations` (of `+-*`, default `+-`), `max` (99), `count` (10000), `seed` (0), `format` (0.2)
/// - `spelling`: `seed` (0), `format` (0.2)
/// - `gsm8k`: `data` (a JSONL file, needed; without commas in its path), `format` (0)
///
/// `format` is the reward of a wrong answer in the required format, 0 to below 1; a right one is always worth 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum RewardSpec {
    /// [`Arithmetic`].
    Arithmetic {
        /// Of `+ - *`.
        operations: Vec<char>,
        /// The largest number, at most 1,000,000.
        max: u32,
        /// Problems at most.
        count: usize,
        /// Of their order.
        seed: u64,
        /// The reward of the format alone.
        format: f64,
    },
    /// [`Spelling`].
    Spelling {
        /// Of the order of problems.
        seed: u64,
        /// The reward of the format alone.
        format: f64,
    },
    /// [`Gsm8k`].
    Gsm8k {
        /// The file, relative to the recipe.
        data: PathBuf,
        /// The reward of the format alone.
        format: f64,
    },
}

impl RewardSpec {
    /// A task whose file, seed and reward of the format alone are set elsewhere: `text` names it, and may say the rest
    /// and a seed of its own.
    ///
    /// # Errors
    /// As for a text alone, and if `text` says what is set elsewhere or the task has no file.
    pub fn with(
        text: &str,
        data: Option<&Path>,
        seed: u64,
        format: f64,
    ) -> Result<Self, RewardError> {
        let given = Given { data, seed, format };
        parse(text, Some(given)).map_err(|why| RewardError::Spec {
            given: text.to_owned(),
            why,
        })
    }

    /// Makes the task; files are looked for from `folder`.
    ///
    /// # Errors
    /// As [`Gsm8k::open`].
    pub fn open(&self, folder: &Path) -> Result<Box<dyn RewardTask>, RewardError> {
        Ok(match self {
            RewardSpec::Arithmetic {
                operations,
                max,
                count,
                seed,
                format,
            } => Box::new(Arithmetic::new(operations, *max, *seed, *format, *count)),
            RewardSpec::Spelling { seed, format } => Box::new(Spelling::new(*seed, *format)),
            RewardSpec::Gsm8k { data, format } => {
                Box::new(Gsm8k::open(&folder.join(data), *format)?)
            }
        })
    }
}

/// What is not in the text.
#[derive(Clone, Copy)]
struct Given<'a> {
    data: Option<&'a Path>,
    seed: u64,
    format: f64,
}

/// Keys and values that were not taken yet.
struct Keys<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Keys<'a> {
    fn parse(text: &'a str) -> Result<Self, String> {
        let mut keys = BTreeMap::new();
        for pair in text.split(',').filter(|_| !text.is_empty()) {
            let (key, value) = pair
                .split_once('=')
                .ok_or_else(|| format!("{pair:?} is not key=value"))?;
            if keys.insert(key.trim(), value.trim()).is_some() {
                return Err(format!("{key} is given twice"));
            }
        }
        Ok(Keys(keys))
    }

    fn take<T: FromStr>(&mut self, key: &str, default: T) -> Result<T, String>
    where
        T::Err: fmt::Display,
    {
        match self.0.remove(key) {
            Some(value) => value.parse().map_err(|e| format!("{key}={value}: {e}")),
            None => Ok(default),
        }
    }

    fn format(&mut self, default: f64) -> Result<f64, String> {
        in_range(self.take("format", default)?)
    }

    fn end(self, known: &str) -> Result<(), String> {
        match self.0.into_keys().next() {
            Some(key) => Err(format!("unknown key {key:?}; there are {known}")),
            None => Ok(()),
        }
    }
}

fn in_range(format: f64) -> Result<f64, String> {
    match (0.0..1.0).contains(&format) {
        true => Ok(format),
        false => Err(format!("format={format}; it goes from 0 to below 1")),
    }
}

fn parse(text: &str, given: Option<Given<'_>>) -> Result<RewardSpec, String> {
    let (name, rest) = text.split_once(':').unwrap_or((text, ""));
    let mut keys = Keys::parse(rest)?;
    let name = name.trim();
    if given.is_some() {
        for key in ["format", "data"] {
            if keys.0.contains_key(key) {
                return Err(format!("{key} has a key of its own: take it out here"));
            }
        }
        if name != "gsm8k" && given.is_some_and(|given| given.data.is_some()) {
            return Err("it makes its problems itself and reads no file".to_owned());
        }
    }
    let seed = given.map_or(0, |given| given.seed);
    let format = |keys: &mut Keys<'_>, default| match given {
        None => keys.format(default),
        Some(given) => in_range(given.format),
    };
    match name {
        "arithmetic" => {
            let operations: String = keys.take("operations", "+-".to_owned())?;
            let operations: Vec<char> = operations.chars().collect();

            let max = keys.take("max", 99)?;
            let count = keys.take("count", 10_000)?;
            let known = |c: &char| matches!(c, '+' | '-' | '*');
            let twice = operations
                .iter()
                .enumerate()
                .any(|(at, c)| operations.iter().take(at).any(|before| before == c));
            if operations.is_empty() || !operations.iter().all(known) || twice {
                return Err("operations are one or more of + - *, each once".to_owned());
            }
            if max > 1_000_000 || count < 10 {
                return Err(
                    "max is at most 1000000, and count at least 10, of which one is held out"
                        .to_owned(),
                );
            }
            let spec = RewardSpec::Arithmetic {
                operations,
                max,
                count,
                seed: keys.take("seed", seed)?,
                format: format(&mut keys, 0.2)?,
            };
            keys.end("operations, max, count, seed and format")
                .map(|()| spec)
        }
        "spelling" => {
            let spec = RewardSpec::Spelling {
                seed: keys.take("seed", seed)?,
                format: format(&mut keys, 0.2)?,
            };
            keys.end("seed and format").map(|()| spec)
        }
        "gsm8k" => {
            let data: String = keys.take("data", String::new())?;
            let data = given
                .and_then(|given| given.data)
                .map_or(PathBuf::from(data), Path::to_owned);
            if data.as_os_str().is_empty() {
                return Err(
                    "it needs data=FILE.jsonl, or rl.path in a recipe, with question and answer on each line"
                        .to_owned(),
                );
            }
            let spec = RewardSpec::Gsm8k {
                data,
                format: format(&mut keys, 0.0)?,
            };
            keys.end("data and format").map(|()| spec)
        }
        _ => Err("there are arithmetic, spelling and gsm8k".to_owned()),
    }
}

impl FromStr for RewardSpec {
    type Err = RewardError;

    fn from_str(text: &str) -> Result<Self, RewardError> {
        parse(text, None).map_err(|why| RewardError::Spec {
            given: text.to_owned(),
            why,
        })
    }
}

impl TryFrom<String> for RewardSpec {
    type Error = RewardError;

    fn try_from(text: String) -> Result<Self, RewardError> {
        text.parse()
    }
}

impl fmt::Display for RewardSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RewardSpec::Arithmetic {
                operations,
                max,
                count,
                seed,
                format,
            } => {
                let operations: String = operations.iter().collect();
                write!(
                    f,
                    "arithmetic:operations={operations},max={max},count={count},seed={seed},format={format}"
                )
            }
            RewardSpec::Spelling { seed, format } => {
                write!(f, "spelling:seed={seed},format={format}")
            }
            RewardSpec::Gsm8k { data, format } => {
                write!(f, "gsm8k:data={},format={format}", data.display())
            }
        }
    }
}

impl From<RewardSpec> for String {
    fn from(spec: RewardSpec) -> Self {
        spec.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Split;
    use super::*;

    #[test]
    fn specs_are_read_and_written() {
        for (text, written) in [
            (
                "arithmetic",
                "arithmetic:operations=+-,max=99,count=10000,seed=0,format=0.2",
            ),
            (
                "arithmetic:max=9, operations=*,format=0",
                "arithmetic:operations=*,max=9,count=10000,seed=0,format=0",
            ),
            ("spelling:seed=3", "spelling:seed=3,format=0.2"),
            ("gsm8k:data=a/b.jsonl", "gsm8k:data=a/b.jsonl,format=0"),
        ] {
            let spec: RewardSpec = text.parse().unwrap();
            assert_eq!(spec.to_string(), written);
            let json = serde_json::to_string(&spec).unwrap();
            assert_eq!(serde_json::from_str::<RewardSpec>(&json).unwrap(), spec);
        }
    }

    #[test]
    fn faults_say_what_would_do() {
        for (text, fault) in [
            ("sums", "there are arithmetic"),
            (
                "arithmetic:maks=3",
                "unknown key \"maks\"; there are operations",
            ),
            ("arithmetic:max", "is not key=value"),
            ("arithmetic:max=1,max=2", "given twice"),
            ("arithmetic:max=x", "max=x: invalid digit"),
            ("arithmetic:max=1000001", "at most 1000000"),
            ("arithmetic:count=9", "at least 10"),
            ("arithmetic:operations=/", "one or more of"),
            ("arithmetic:operations=+-+", "each once"),
            ("arithmetic:operations=", "one or more of"),
            ("spelling:format=1", "below 1"),
            ("spelling:max=1", "there are seed and format"),
            ("gsm8k", "needs data="),
            ("gsm8k:data=x,seed=1", "there are data and format"),
        ] {
            let error = text.parse::<RewardSpec>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("reward {text:?}: ")), "{error}");
            assert!(error.contains(fault), "{error}");
        }
        assert!(serde_json::from_str::<RewardSpec>("\"x\"").is_err());
    }

    #[test]
    fn what_is_set_elsewhere_is_not_said_twice() {
        let with = |text: &str, data: Option<&str>, format: f64| {
            RewardSpec::with(text, data.map(Path::new), 7, format).map(|spec| spec.to_string())
        };
        for (text, data, written) in [
            (
                "arithmetic:max=9",
                None,
                "arithmetic:operations=+-,max=9,count=10000,seed=7,format=0.1",
            ),
            ("spelling:seed=3", None, "spelling:seed=3,format=0.1"),
            (
                "gsm8k",
                Some("a,b.jsonl"),
                "gsm8k:data=a,b.jsonl,format=0.1",
            ),
        ] {
            assert_eq!(with(text, data, 0.1).unwrap(), written);
        }
        for (text, data, format, fault) in [
            ("arithmetic", Some("x"), 0.1, "reads no file"),
            ("arithmetic:format=0.3", None, 0.1, "key of its own"),
            ("gsm8k:data=x", Some("x"), 0.1, "key of its own"),
            ("gsm8k", None, 0.1, "needs data="),
            ("spelling", None, 1.0, "below 1"),
        ] {
            let error = with(text, data, format).unwrap_err().to_string();
            assert!(error.contains(fault), "{error}");
        }
    }

    #[test]
    fn specs_open() {
        let folder = tempfile::tempdir().unwrap();
        let line = "{\"question\": \"q\", \"answer\": \"#### 4\"}\n";
        std::fs::write(folder.path().join("x.jsonl"), line.repeat(10)).unwrap();
        for text in ["arithmetic", "spelling", "gsm8k:data=x.jsonl"] {
            let spec: RewardSpec = text.parse().unwrap();
            let task = spec.open(folder.path()).unwrap();
            assert!(text.starts_with(task.name()));
            let problem = task.problem(Split::HeldOut, 0).unwrap();
            let reward = task.score(&problem, &task.solution(&problem));
            assert!(reward.right && reward.value == 1.0, "{text}: {reward:?}");
        }
        let missing: RewardSpec = "gsm8k:data=y.jsonl".parse().unwrap();
        assert!(missing.open(folder.path()).is_err());
    }
}
