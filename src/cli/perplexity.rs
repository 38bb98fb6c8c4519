//! `perplexity`: how well a model predicts a text.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::json;

use super::exit::Exit;
use super::flags::{Global, ModelFlags};
use super::host::Host;
use super::{output, progress};
use crate::config::Overrides;
use crate::kv::{KvChoice, Policy};
use crate::llama::{PerplexityOptions, perplexity};
use crate::sched::Forward;
use crate::text::Specials;

/// The flags of `perplexity`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The model: an installed name, one of the catalogue, or a path
    model: String,
    /// The text
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
    /// Measure this many tokens; absent = all that the context holds
    #[arg(long, value_name = "N")]
    tokens: Option<usize>,
    /// Count only the last so many predictions
    #[arg(long, value_name = "N")]
    tail: Option<usize>,
    /// Pass over so many tokens of the text first
    #[arg(long, value_name = "N", default_value_t = 0)]
    skip: usize,
    /// Cut the text to this many characters before it is tokenized
    #[arg(long, value_name = "N")]
    chars: Option<usize>,
    /// Feed one token at a time, as an answer is generated; a KV policy that evicts needs it
    #[arg(long)]
    stepwise: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    flags: ModelFlags,
}

/// Runs the command. Without a KV flag every token is kept.
///
/// # Errors
/// When the model or the text cannot be read, or the text is too short or too long.
pub(super) fn run(global: &Global, args: &Args) -> Result<Exit> {
    let mut overrides = Overrides::new();
    args.flags.add_to(&mut overrides);
    let mut host = Host::open(global, overrides)?;
    let text = std::fs::read_to_string(&args.file)
        .with_context(|| format!("cannot read {}", args.file.display()))?;
    host.start_log()?;
    host.ensure(&args.model)?;
    let (models, ..) = host.models();
    let (model, mut forward) = models.load(&args.model)?;
    let context = forward.model().context();
    let dtype = forward.model().compute().dtype_name();

    let text = first_chars(&text, args.chars);
    let mut ids = model.tokenizer.encode(text, Specials::Parse)?;
    ids.drain(..args.skip.min(ids.len()));
    let settings = host.settings();
    let policy = match args.flags.names_kv() {
        true => KvChoice::default().resolve(&settings.kv, context, forward.kv_shape())?,
        false => Policy::full(),
    };
    let wanted = args.tokens.unwrap_or(context.min(ids.len()));
    anyhow::ensure!(
        wanted <= context || (policy.beyond_context && policy.capacity().is_some()),
        "{wanted} tokens do not fit the context of {context}: lower --tokens, or bound the cache with --kv-policy and \
         let it run on with --set kv.beyond_context=true"
    );
    if let Some(tokens) = args.tokens.filter(|&tokens| tokens > ids.len()) {
        anyhow::bail!(
            "the text has {} tokens and --tokens asks for {tokens}: give a longer text",
            ids.len()
        );
    }
    ids.truncate(wanted);

    let options = PerplexityOptions {
        policy,
        stepwise: args.stepwise,
        chunk: settings.model.prefill_chunk,
        tail: args.tail,
    };
    let bar = progress::counter(ids.len(), "tokens", host.quiet());
    let nll = perplexity(&mut forward, &ids, &options, &mut |fed| {
        bar.set_position(fed as u64)
    })?;
    bar.finish_and_clear();
    if args.json {
        output::json(&json!({
            "file": args.file,
            "tokens": nll.tokens,
            "mean_nll": nll.mean_nll,
            "perplexity": nll.perplexity,
            "dtype": dtype,
            "kv": nll.kv,
            "stepwise": args.stepwise,
            "tail": args.tail,
            "steps": nll.steps,
            "resident_bytes": super::bench::resident(),
        }))?;
    } else {
        output::line(format!(
            "perplexity {:.4} (mean negative log-likelihood {:.6} nats) over {} tokens in {dtype}",
            nll.perplexity, nll.mean_nll, nll.tokens
        ))?;
        output::line(super::generate::kv_words(&nll.kv))?;
        if let Some(steps) = &nll.steps {
            output::line(format!(
                "a step took {:.2} ms once the budget was filled and {:.2} ms at the end ({:.2} times)",
                steps.first_ms, steps.last_ms, steps.ratio
            ))?;
        }
    }
    Ok(Exit::Done)
}

fn first_chars(text: &str, chars: Option<usize>) -> &str {
    let end = chars.and_then(|chars| text.char_indices().nth(chars));
    end.map_or(text, |(end, _)| text.split_at(end).0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        for (chars, cut) in [
            (None, "aéb"),
            (Some(2), "aé"),
            (Some(0), ""),
            (Some(9), "aéb"),
        ] {
            assert_eq!(first_chars("aéb", chars), cut);
        }
    }
}
