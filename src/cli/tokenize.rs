//! `tokenize` and `template`: what a model is really fed, to be checked from outside.

use std::io::Read;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::json;

use super::exit::Exit;
use super::flags::Global;
use super::generate::render_options;
use super::host::{self, Host};
use super::output;
use crate::config::Overrides;
use crate::store::Model;
use crate::text::{ChatTemplate, Message, Specials};

/// The flags of `tokenize`.
#[derive(Debug, clap::Args)]
pub(super) struct TokenizeArgs {
    /// The model: an installed name or a path
    model: String,
    /// Read this file instead of standard input
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Put the token that begins a text before it
    #[arg(long)]
    bos: bool,
    /// Print {"ids": [...]} on one line
    #[arg(long)]
    json: bool,
}

/// Prints the ids of a text: its exact bytes, control tokens parsed.
///
/// # Errors
/// When the model cannot be opened, or the text is not UTF-8 or too long.
pub(super) fn tokenize(global: &Global, args: &TokenizeArgs) -> Result<Exit> {
    let model = open(global, &args.model)?;
    let text = match &args.file {
        Some(path) => std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?,
        None => stdin()?,
    };
    let tokenizer = &model.tokenizer;
    let mut ids = tokenizer.encode(&text, Specials::Parse)?;
    if args.bos {
        match tokenizer.bos() {
            Some(bos) => ids.insert(0, bos),
            None => bail!(
                "{} has no token that begins a text: leave --bos out",
                args.model
            ),
        }
    }
    if args.json {
        output::json_line(&json!({ "ids": ids }))?;
    } else {
        let line = |id: &u32| {
            format!(
                "{id}\t{:?}\n",
                String::from_utf8_lossy(&tokenizer.token_bytes(*id))
            )
        };
        output::text(&ids.iter().map(line).collect::<String>())?;
    }
    Ok(Exit::Done)
}

/// The flags of `template`.
#[derive(Debug, clap::Args)]
pub(super) struct TemplateArgs {
    /// The model: an installed name or a path
    model: String,
    /// Print {"text": "...", "ids": [...]} on one line
    #[arg(long)]
    json: bool,
}

/// Messages, alone or as a request has them.
#[derive(Deserialize)]
#[serde(untagged)]
enum Messages {
    Alone(Vec<Message>),
    InRequest { messages: Vec<Message> },
}

/// Prints what the chat template makes of messages, up to where the answer begins.
///
/// # Errors
/// When the model cannot be opened, or the input is no list of messages or refused by the template.
pub(super) fn template(global: &Global, args: &TemplateArgs) -> Result<Exit> {
    let model = open(global, &args.model)?;
    let expected = "standard input is no list of messages, such as [{\"role\": \"user\", \"content\": \"Hi\"}]";
    let parsed = serde_json::from_str(&stdin()?).context(expected)?;
    let (Messages::Alone(messages) | Messages::InRequest { messages }) = parsed;
    let template = match (model.template, model.template_error) {
        (Some(template), _) => template,
        (None, error) => {
            let reason = error.unwrap_or_else(|| "it has none".to_owned());
            eprintln!("warning: no chat template from the model, using ChatML: {reason}");
            ChatTemplate::chatml()
        }
    };
    let options = render_options();
    let text = template.render(&messages, &options)?;
    if args.json {
        let ids = template.render_ids(&model.tokenizer, &messages, &options)?;
        output::json_line(&json!({ "text": text, "ids": ids }))?;
    } else {
        output::text(&text)?;
    }
    Ok(Exit::Done)
}

fn open(global: &Global, name: &str) -> Result<Model> {
    let host = Host::open(global, Overrides::new())?;
    Ok(Model::open(&host::find(&host.library, name)?.path)?)
}

fn stdin() -> Result<String> {
    let mut text = String::new();
    let read = std::io::stdin().read_to_string(&mut text);
    read.context("cannot read standard input")?;
    Ok(text)
}
