//! `calibrate`: which KV heads of a model need how much of the cache.
//!
//! One head at a time is bound to a short window with sinks while all others keep everything; what that costs the
//! likelihood of what comes next is the head's need. DuoAttention finds such classes by training
//! (<https://arxiv.org/abs/2410.10819>); a model with some ninety KV heads can simply be asked.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use indicatif::ProgressBar;
use serde_json::json;

use super::exit::Exit;
use super::flags::{Global, ModelFlags};
use super::host::Host;
use super::{output, progress};
use crate::config::Overrides;
use crate::ids::TokenId;
use crate::kv::{HeadClasses, Policy, Spread};
use crate::llama::LlamaForward;
use crate::llama::eval::{Asked, Variant, ask, forget_context, read_context};
use crate::text::Specials;

/// Positions that the head under test keeps at both ends.
const SINKS: usize = 4;
const RECENT: usize = 60;

/// The flags of `calibrate`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The model: an installed name, one of the catalogue, or a path
    model: String,
    /// The text to measure on
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
    /// Tokens of a context
    #[arg(long, value_name = "N", default_value_t = 1024)]
    tokens: usize,
    /// Tokens after it whose likelihood is measured
    #[arg(long, value_name = "N", default_value_t = 128)]
    after: usize,
    /// Contexts, taken from the text one after the other
    #[arg(long, value_name = "N", default_value_t = 2)]
    samples: usize,
    /// Where to write the classes, for kv.classes
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    flags: ModelFlags,
}

/// Runs the command.
///
/// # Errors
/// When the model or the text cannot be read, or the text is too short.
pub(super) fn run(global: &Global, args: &Args) -> Result<Exit> {
    let mut overrides = Overrides::new();
    args.flags.add_to(&mut overrides);
    let mut host = Host::open(global, overrides)?;
    host.start_log()?;
    host.ensure(&args.model)?;
    let text = std::fs::read_to_string(&args.file)
        .with_context(|| format!("cannot read {}", args.file.display()))?;
    let (models, ..) = host.models();
    let (model, mut forward) = models.load(&args.model)?;
    let ids = model.tokenizer.encode(&text, Specials::Parse)?;
    let each = args.tokens + args.after;
    ensure!(
        args.tokens > SINKS + RECENT + 1 && args.after >= 2 && args.samples > 0,
        "--tokens is more than {}, --after at least 2 and --samples at least 1",
        SINKS + RECENT + 1
    );
    ensure!(
        ids.len() >= each * args.samples,
        "the text has {} tokens, {} samples of {each} need more: give a longer text or fewer samples",
        ids.len(),
        args.samples
    );
    let config = forward.model().config();
    let (layers, heads) = (config.layers, config.kv_heads);
    let mut need = vec![vec![0.0f64; heads]; layers];
    let bar = progress::counter(args.samples * layers * heads, "heads", host.quiet());
    let chunk = host.settings().scheduler.prefill_tokens;
    for sample in ids.chunks_exact(each).take(args.samples) {
        measure(&mut forward, sample, args.tokens, chunk, &mut need, &bar)?;
    }
    bar.finish_and_clear();
    let classes = HeadClasses {
        weights: weights(&need),
    };
    if let Some(path) = &args.out {
        let text = serde_json::to_string_pretty(&classes)?;
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let mean = |value: &f64| value / args.samples as f64;
    let costs: Vec<Vec<f64>> = need
        .iter()
        .map(|row| row.iter().map(mean).collect())
        .collect();
    if args.json {
        output::json(&json!({
            "model": args.model,
            "delta_nll": costs,
            "weights": classes.weights,
        }))?;
    } else {
        output::line("what it costs, in nats a token, to leave a KV head only its ends:")?;
        for (layer, row) in costs.iter().enumerate() {
            let cells: Vec<String> = row.iter().map(|cost| format!("{cost:+.5}")).collect();
            output::line(format!("layer {layer:>3}  {}", cells.join("  ")))?;
        }
        if let Some(path) = &args.out {
            output::line(format!(
                "written to {}; use it with --set kv.classes={}",
                path.display(),
                path.display()
            ))?;
        }
    }
    Ok(Exit::Done)
}

/// Adds to `need` what each head's restriction costs on one context and what follows it.
fn measure(
    forward: &mut LlamaForward,
    sample: &[TokenId],
    tokens: usize,
    chunk: usize,
    need: &mut [Vec<f64>],
    bar: &ProgressBar,
) -> Result<()> {
    let (context, rest) = sample.split_at(tokens);
    let (first, answer) = rest.split_at(1);
    read_context(forward, context, 1, chunk)?;
    let asked = Asked {
        context,
        question: first,
        answer,
        max_new_tokens: 0,
        stop: &[],
    };
    let full = nll(forward, &asked, Policy::full())?;
    let (layers, heads) = (need.len(), need.first().map_or(0, Vec::len));
    for (layer, row) in need.iter_mut().enumerate() {
        for (head, cost) in row.iter_mut().enumerate() {
            let policy = restricted(layers, heads, (layer, head), tokens + rest.len())?;
            *cost += nll(forward, &asked, policy)? - full;
            bar.inc(1);
        }
    }
    forget_context(forward)?;
    Ok(())
}

fn nll(forward: &mut LlamaForward, asked: &Asked<'_>, policy: Policy) -> Result<f64> {
    let variant = Variant {
        name: String::new(),
        share: None,
        policy,
        query_aware: false,
    };
    let replies = ask(forward, asked, &[variant])?;
    let likelihood = replies.first().and_then(|reply| reply.likelihood);
    Ok(likelihood.context("nothing was measured")?.0)
}

/// Everything for all heads but one, which keeps its ends.
fn restricted(layers: usize, heads: usize, one: (usize, usize), all: usize) -> Result<Policy> {
    let ends = SINKS + RECENT + 1;
    let free = (all - ends) as f32;
    let weights = (0..layers)
        .map(|layer| {
            let weight = |head| if (layer, head) == one { 0.0 } else { free };
            (0..heads).map(weight).collect()
        })
        .collect();
    let total = (layers * heads - 1) * all + ends;
    // The mean, rounded up: nobody but the one gets fewer than all.
    let capacity = total.div_ceil(layers * heads);
    let mut policy = Policy::streaming(SINKS, capacity - SINKS)?;
    policy.protect.recent = RECENT;
    policy.spread = Spread::Classes(Arc::new(HeadClasses { weights }));
    Ok(policy)
}

/// By rank of need, from a half to one and a half: the extremes of so few samples are noise.
fn weights(need: &[Vec<f64>]) -> Vec<Vec<f32>> {
    let mut sorted: Vec<f64> = need.iter().flatten().copied().collect();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1).max(1) as f32;
    let weight = |cost: &f64| {
        let rank = sorted.partition_point(|other| other < cost) as f32;
        0.5 + rank / last
    };
    need.iter()
        .map(|row| row.iter().map(weight).collect())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_ranks_around_one() {
        let weights = weights(&[vec![0.1, -0.2], vec![3.0, 0.2]]);
        assert_eq!(weights[0][1], 0.5);
        assert_eq!(weights[1][0], 1.5);
        assert!(weights[0][0] < weights[1][1]);
    }

    #[test]
    fn one_head_is_bound_and_no_other() {
        let policy = restricted(2, 2, (1, 0), 500).unwrap();
        let floor = policy.protect.len() + 1;
        let capacities = policy
            .spread
            .capacities(policy.capacity().unwrap(), floor, 2, 2);
        assert!(capacities[1][0] <= SINKS + RECENT + 4, "{capacities:?}");
        assert!(capacities[0].iter().all(|&c| c >= 500), "{capacities:?}");
    }
}
