//! Flags that several commands share, and the settings that they set.

use std::num::NonZeroUsize;

use anyhow::Result;
use clap::{ArgAction, Args};
use serde_json::Value;

use super::exit::Usage;
use crate::config::Overrides;
use crate::history::Named;
use crate::kv::{Budget, PolicyKind};
use crate::sample::{Defaults, RawSampling, SamplingParams, StopMatcher};

/// Flags of every command.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Global {
    /// Show the log on standard error; twice for more of it
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(super) verbose: u8,
    /// Say nothing on standard error but errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(super) quiet: bool,
    /// Set any setting for this run, as section.key=value; `config show` lists the keys
    #[arg(long, global = true, value_name = "KEY=VALUE", value_parser = setting)]
    set: Vec<(String, String)>,
}

fn setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if key.contains('.') => Ok((key.trim().to_owned(), value.to_owned())),
        _ => Err("write it as section.key=value, such as kv.budget=1024".to_owned()),
    }
}

impl Global {
    /// Adds what the flags set.
    pub(super) fn add_to(&self, overrides: &mut Overrides) {
        for (key, value) in &self.set {
            add(overrides, key, value, "--set");
        }
        if self.quiet {
            add(overrides, "telemetry.level", "error", "--quiet");
        } else if self.verbose > 1 {
            add(overrides, "telemetry.level", "debug", "--verbose");
        }
    }
}

/// Flags of commands that compute with a model.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Model")]
pub(super) struct ModelFlags {
    /// The type of weights and activations
    #[arg(long, value_name = "TYPE", value_parser = ["auto", "float32", "bfloat16"])]
    dtype: Option<String>,
    /// Compute threads
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// Which tokens the KV cache keeps
    #[arg(long, value_name = "POLICY", value_parser = PolicyKind::ALL.map(PolicyKind::name))]
    kv_policy: Option<String>,
    /// How much one sequence keeps: tokens (2048), a share of the context (25%) or a size (64MiB)
    #[arg(long, value_name = "BUDGET", value_parser = budget)]
    kv_budget: Option<String>,
    /// Of it, tokens kept for the attention that they received
    #[arg(long, value_name = "TOKENS")]
    kv_heavy: Option<u32>,
    /// Of it, newest tokens that are always kept
    #[arg(long, value_name = "TOKENS")]
    kv_recent: Option<u32>,
}

fn budget(text: &str) -> Result<String, String> {
    let parsed: Result<Budget, _> = text.parse();
    parsed
        .map(|_| text.to_owned())
        .map_err(|error| error.to_string())
}

impl ModelFlags {
    /// Adds what the flags set.
    pub(super) fn add_to(&self, overrides: &mut Overrides) {
        let text = |value: Option<u32>| value.map(|n| n.to_string());
        let threads = self.threads.map(|n| n.to_string());
        // The numbers of a command line replace those of files together: a budget beside the `heavy` of a file would
        // be without effect. An empty text makes a key absent.
        let split = |own: Option<u32>| match own {
            None if self.names_kv_numbers() => Some(String::new()),
            own => text(own),
        };
        for (key, value, flag) in [
            ("model.dtype", self.dtype.clone(), "--dtype"),
            ("model.threads", threads, "--threads"),
            ("kv.policy", self.kv_policy.clone(), "--kv-policy"),
            ("kv.budget", self.kv_budget.clone(), "--kv-budget"),
            ("kv.heavy", split(self.kv_heavy), "--kv-heavy"),
            ("kv.recent", split(self.kv_recent), "--kv-recent"),
        ] {
            if let Some(value) = value {
                add(overrides, key, &value, flag);
            }
        }
    }

    /// Whether any flag says how the KV cache is bounded.
    pub(super) fn names_kv(&self) -> bool {
        self.kv_policy.is_some() || self.names_kv_numbers()
    }

    fn names_kv_numbers(&self) -> bool {
        self.kv_budget.is_some() || self.kv_heavy.is_some() || self.kv_recent.is_some()
    }
}

/// Adds one key's value, as text, to the command line's layer.
pub(super) fn add(overrides: &mut Overrides, key: &str, value: &str, flag: &str) {
    overrides.push((
        key.to_owned(),
        Value::String(value.to_owned()),
        flag.to_owned(),
    ));
}

/// Flags of commands that draw tokens.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Sampling")]
pub(super) struct SamplingFlags {
    /// How far from the most likely token a draw may stray; 0 always takes the most likely one
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    temperature: Option<f32>,
    /// Draw among this many of the most likely tokens; 0 = all
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    top_k: Option<i64>,
    /// Draw among the most likely tokens that hold this share of the probability
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    top_p: Option<f32>,
    /// Drop tokens below this share of the most likely one's probability
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    min_p: Option<f32>,
    /// Divide the score of tokens that occurred before by this
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    repetition_penalty: Option<f32>,
    /// The same seed gives the same answer
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// End the answer before this text; may be given several times
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// The longest answer in tokens
    #[arg(long, value_name = "N")]
    max_tokens: Option<NonZeroUsize>,
}

/// Flags of commands whose calls are kept in the history.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "History")]
pub(super) struct HistoryFlags {
    /// Go on with the conversation of the last call
    #[arg(short = 'c', long = "continue", conflicts_with_all = ["system", "conversation"])]
    pub(super) go_on: bool,
    /// Go on with this conversation, as `llamahome log` names it
    #[arg(long, value_name = "ID", conflicts_with = "system")]
    pub(super) conversation: Option<Named>,
    /// Keep no call of this command in the history
    #[arg(long)]
    pub(super) no_log: bool,
}

/// How the answers of one command are drawn.
#[derive(Debug, Clone)]
pub(super) struct Drawing {
    /// What is asked for; what is absent comes from the settings.
    pub(super) raw: RawSampling,
    /// The longest answer in tokens.
    pub(super) max_tokens: Option<usize>,
    stop: Vec<String>,
    defaults: Defaults,
}

impl SamplingFlags {
    /// The flags over the settings.
    ///
    /// # Errors
    /// [`Usage`] for a value out of its range.
    pub(super) fn drawing(&self, defaults: &Defaults) -> Result<Drawing> {
        let drawing = Drawing {
            raw: RawSampling {
                temperature: self.temperature,
                top_k: self.top_k,
                top_p: self.top_p,
                min_p: self.min_p,
                repetition_penalty: self.repetition_penalty,
                seed: self.seed,
                ..RawSampling::default()
            },
            max_tokens: self.max_tokens.map(NonZeroUsize::get),
            stop: self.stop.clone(),
            defaults: defaults.clone(),
        };
        drawing.params().map_err(|error| Usage(error.to_string()))?;
        drawing
            .matcher()
            .map_err(|error| Usage(error.to_string()))?;
        Ok(drawing)
    }
}

impl Drawing {
    /// Checked parameters; without a seed each call draws one.
    ///
    /// # Errors
    /// Names a value out of its range.
    pub(super) fn params(&self) -> Result<SamplingParams> {
        let raw = RawSampling {
            seed: self.raw.seed.or_else(|| Some(rand::random())),
            ..self.raw.clone()
        };
        Ok(SamplingParams::checked(self.defaults.fill(raw))?)
    }

    /// Looks for the stop strings.
    ///
    /// # Errors
    /// Names what is wrong with them.
    pub(super) fn matcher(&self) -> Result<StopMatcher> {
        Ok(StopMatcher::new(self.stop.clone())?)
    }

    /// The longest answer in tokens, of the flags or the settings.
    pub(super) fn limit(&self) -> Option<usize> {
        self.max_tokens
            .or_else(|| self.defaults.max_tokens.map(|n| n as usize))
    }

    /// What holds now, for people.
    pub(super) fn describe(&self) -> String {
        let filled = self.defaults.fill(self.raw.clone());
        let shown = |value: Option<String>| value.unwrap_or_else(|| "(absent)".to_owned());
        let rows = [
            (
                "temperature",
                shown(filled.temperature.map(|v| v.to_string())),
            ),
            ("top_k", shown(filled.top_k.map(|v| v.to_string()))),
            ("top_p", shown(filled.top_p.map(|v| v.to_string()))),
            ("min_p", shown(filled.min_p.map(|v| v.to_string()))),
            ("seed", shown(filled.seed.map(|v| v.to_string()))),
            ("max_tokens", shown(self.limit().map(|v| v.to_string()))),
        ];
        let lines = rows.map(|(name, value)| format!("{name:11} = {value}\n"));
        lines.concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Inputs, load};
    use crate::kv::{KvChoice, KvShape, Policy};

    const SHAPE: KvShape = KvShape {
        layers: 1,
        kv_heads: 1,
        head_dim: 8,
        value_bytes: 4,
    };

    fn policy(flags: &ModelFlags, file: &str) -> Policy {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(".config")).unwrap();
        std::fs::write(folder.path().join(".config/kv.toml"), file).unwrap();
        let mut overrides = Overrides::new();
        flags.add_to(&mut overrides);
        let inputs = Inputs {
            cwd: folder.path().to_owned(),
            overrides,
            ..Inputs::default()
        };
        let kv = load(&inputs).unwrap().settings.kv;
        KvChoice::default().resolve(&kv, 4000, SHAPE).unwrap()
    }

    #[test]
    fn kv_numbers_of_the_command_line_replace_those_of_a_file() {
        let file = "[kv]\npolicy = \"h2o\"\nheavy = 7\nrecent = 9\n";
        let plain = ModelFlags::default();
        assert_eq!(policy(&plain, file), Policy::h2o(7, 9).unwrap());
        let budget = ModelFlags {
            kv_budget: Some("100".to_owned()),
            ..plain.clone()
        };
        assert_eq!(policy(&budget, file), Policy::h2o(50, 50).unwrap());
        let parts = ModelFlags {
            kv_heavy: Some(256),
            kv_recent: Some(128),
            ..plain
        };
        assert_eq!(policy(&parts, file), Policy::h2o(256, 128).unwrap());
    }

    #[test]
    fn a_value_out_of_its_range_is_a_usage_error() {
        let hot = SamplingFlags {
            temperature: Some(9.0),
            ..SamplingFlags::default()
        };
        let error = hot.drawing(&Defaults::default()).unwrap_err();
        assert!(
            error.is::<Usage>() && error.to_string().contains("temperature"),
            "{error}"
        );
        let blank = SamplingFlags {
            stop: vec![String::new()],
            ..SamplingFlags::default()
        };
        assert!(
            blank
                .drawing(&Defaults::default())
                .unwrap_err()
                .is::<Usage>()
        );
    }
}
