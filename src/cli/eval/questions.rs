//! The tasks that ask about a context: needles, RULER, several questions on one context.

use std::collections::BTreeMap;

use anyhow::Result;

use super::{Bench, row};
use crate::eval::{Count, Row, Sample, Spec, Task, make, string_match_all};
use crate::ids::TokenId;
use crate::kv::KvReport;
use crate::llama::eval::{Asked, Reply, Variant, ask, forget_context, read_context};
use crate::text::{Controls, Specials, Tokenizer};

/// Counts tokens of plain text.
pub(super) struct Tokens<'a>(pub(super) &'a Tokenizer);

impl Count for Tokens<'_> {
    fn count(&self, text: &str) -> usize {
        // Generated text holds nothing that cannot be encoded.
        self.0
            .encode(text, Specials::Literal)
            .map_or(0, |ids| ids.len())
    }
}

/// What the samples of one cell came to.
#[derive(Default)]
struct Cell {
    scores: Vec<f64>,
    nll: f64,
    rank: f64,
    measured: usize,
    kv: KvReport,
}

/// A length, a depth by its place in the list, a question and a variant.
type Key = (usize, Option<usize>, Option<usize>, usize);

pub(super) fn run(bench: &mut Bench<'_>, task: Task) -> Result<Vec<Row>> {
    let depths: Vec<Option<f32>> = match (task.has_depth(), bench.args.depths.is_empty()) {
        (true, false) => bench.args.depths.iter().copied().map(Some).collect(),
        _ => vec![None],
    };
    let lengths = bench.lengths();
    let samples = lengths.len() * depths.len() * bench.args.samples;
    let bar = bench.bar(task.name(), samples, "samples");
    let mut cells: BTreeMap<Key, Cell> = BTreeMap::new();
    let mut names: BTreeMap<usize, Vec<Variant>> = BTreeMap::new();
    for &length in &lengths {
        let variants = bench.variants(length)?;
        for (place, &depth) in depths.iter().enumerate() {
            for number in 0..bench.args.samples {
                let sample = make(
                    task,
                    &Spec {
                        seed: bench.args.seed + number as u64,
                        length,
                        depth,
                        wording: bench.wording(),
                        haystack: &bench.haystack,
                        count: &Tokens(&bench.model.tokenizer),
                    },
                )?;
                let replies = answer(bench, &sample, &variants)?;
                for (question, of_question) in replies.into_iter().enumerate() {
                    for (variant, (reply, score)) in of_question.into_iter().enumerate() {
                        let number = (sample.questions.len() > 1).then_some(question + 1);
                        let key = (length, depth.map(|_| place), number, variant);
                        let cell = cells.entry(key).or_default();
                        cell.scores.push(score);
                        if let Some((nll, rank)) = reply.likelihood {
                            cell.nll += nll;
                            cell.rank += rank;
                            cell.measured += 1;
                        }
                        cell.kv = reply.compressed;
                    }
                }
                bar.inc(1);
            }
        }
        names.insert(length, variants);
    }
    bar.finish_and_clear();
    let mut rows = Vec::new();
    for ((length, depth, question, variant), cell) in cells {
        let Some(variant) = names.get(&length).and_then(|v| v.get(variant)) else {
            continue;
        };
        let mut row = row(task, variant, &cell.kv).with_scores(&cell.scores);
        row.length = Some(length);
        row.depth = depth.and_then(|place| depths.get(place).copied().flatten());
        row.question = question;
        if cell.measured > 0 {
            row.mean_nll = Some(cell.nll / cell.measured as f64);
            row.mean_rank = Some(cell.rank / cell.measured as f64);
        }
        rows.push(row);
    }
    Ok(rows)
}

/// Each question's replies under every variant, with their scores.
fn answer(
    bench: &mut Bench<'_>,
    sample: &Sample,
    variants: &[Variant],
) -> Result<Vec<Vec<(Reply, f64)>>> {
    let encode = |text: &str| bench.model.tokenizer.encode(text, Specials::Literal);
    let context = encode(&sample.context)?;
    let mut prompts: Vec<(Vec<TokenId>, Vec<TokenId>)> = Vec::new();
    for question in &sample.questions {
        prompts.push((encode(&question.prompt())?, encode(&question.target())?));
    }
    // Read once for all policies and questions: the last token is what each policy reads for itself.
    let window = bench.settings.window;
    read_context(bench.forward, &context, window, bench.chunk)?;
    let mut all = Vec::new();
    for (question, (prompt, target)) in sample.questions.iter().zip(&prompts) {
        let asked = Asked {
            context: &context,
            question: prompt,
            answer: target,
            max_new_tokens: question.max_new_tokens,
            stop: &bench.model.eos,
        };
        let replies = ask(bench.forward, &asked, variants)?;
        let scored = replies.into_iter().map(|reply| {
            let text = bench.model.tokenizer.decode(&reply.tokens, Controls::Skip);
            let score = string_match_all(&text, &question.answers);
            (reply, score)
        });
        all.push(scored.collect());
    }
    forget_context(bench.forward)?;
    Ok(all)
}
