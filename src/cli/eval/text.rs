//! `eval ppl` and `eval kld`: a text, token by token, under every policy at once.

use anyhow::{Context, Result, bail, ensure};

use super::{Bench, row};
use crate::eval::{Row, Task};
use crate::llama::eval::{Curve, curve};
use crate::text::Specials;

pub(super) fn run(bench: &mut Bench<'_>, tasks: &[Task]) -> Result<Vec<Row>> {
    let Some(file) = &bench.args.file else {
        bail!("ppl and kld measure a text: name it with --file");
    };
    let text =
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    // Far more than enough for the tokens that are wanted, and no more work than that.
    let most = bench.args.tokens.saturating_mul(16).max(60_000);
    let text: String = text.chars().take(most).collect();
    let mut ids = bench.model.tokenizer.encode(&text, Specials::Parse)?;
    ensure!(
        ids.len() >= bench.args.tokens && bench.args.tokens >= 2,
        "the text has {} tokens and --tokens asks for {} (at least 2)",
        ids.len(),
        bench.args.tokens
    );
    ids.truncate(bench.args.tokens);
    let variants = bench.variants(ids.len())?;
    let name = format!("{} policies", variants.len());
    let bar = bench.bar(&name, ids.len(), "tokens");
    let how = Curve {
        tail: bench.args.tail,
        divergence: tasks.contains(&Task::Divergence),
    };
    let found = curve(bench.forward, &ids, &variants, how, &mut |fed| {
        bar.set_position(fed as u64)
    })?;
    bar.finish_and_clear();
    let mut rows = Vec::new();
    for &task in tasks {
        for measured in &found {
            let mut row = row(task, &measured.variant, &measured.kv);
            row.length = Some(ids.len());
            rows.push(match task {
                Task::Divergence => row.with_divergence(&measured.divergence.summary()),
                _ => {
                    let mut row = row.with_nll(
                        measured.mean_nll,
                        measured.standard_error,
                        measured.predictions as u64,
                    );
                    row.delta_nll = found.first().map(|full| measured.mean_nll - full.mean_nll);
                    row
                }
            });
        }
    }
    Ok(rows)
}
