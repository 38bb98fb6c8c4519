//! `eval instruction`: is a rule of the system prompt still obeyed when the cache has let go of much of the talk?

use anyhow::Result;

use super::questions::Tokens;
use super::{Bench, row};
use crate::eval::{Row, Spec, Task, dialogue};
use crate::ids::TokenId;
use crate::kv::KvReport;
use crate::llama::eval::{Turn, converse};
use crate::text::{Controls, Message, RenderOptions, Role, Specials};

pub(super) fn run(bench: &mut Bench<'_>) -> Result<Vec<Row>> {
    let lengths = bench.lengths();
    let dialogues = lengths.len() * bench.args.samples;
    let bar = bench.bar(Task::Instruction.name(), dialogues, "dialogues");
    let mut rows = Vec::new();
    for &length in &lengths {
        let variants = bench.variants(length)?;
        let mut scores: Vec<Vec<f64>> = vec![Vec::new(); variants.len()];
        let mut last: Vec<KvReport> = vec![KvReport::default(); variants.len()];
        for number in 0..bench.args.samples {
            let talk = dialogue(&Spec {
                seed: bench.args.seed + number as u64,
                length,
                depth: None,
                wording: bench.wording(),
                haystack: &bench.haystack,
                count: &Tokens(&bench.model.tokenizer),
            })?;
            let turns = turns(bench, &talk.system, &talk.turns, talk.max_new_tokens)?;
            let system = turns.first().map_or(0, |turn| turn.system);
            let mut variants = variants.clone();
            for variant in &mut variants {
                variant.policy.protect_system(system);
            }
            let spoken = converse(bench.forward, &turns, &bench.model.eos, &variants)?;
            for (index, (replies, kv)) in spoken.into_iter().enumerate() {
                let texts: Vec<String> = replies
                    .iter()
                    .map(|tokens| bench.model.tokenizer.decode(tokens, Controls::Skip))
                    .collect();
                scores[index].push(talk.obedience(&texts));
                last[index] = kv;
            }
            bar.inc(1);
        }
        for ((variant, scores), kv) in variants.iter().zip(&scores).zip(&last) {
            let mut row = row(Task::Instruction, variant, kv).with_scores(scores);
            row.length = Some(length);
            rows.push(row);
        }
    }
    bar.finish_and_clear();
    Ok(rows)
}

/// What is fed in each turn: the template's text from the end of the last reply to the beginning of the next.
fn turns(bench: &Bench<'_>, system: &str, asked: &[String], most: usize) -> Result<Vec<Turn>> {
    let template = bench.model.chat_template();
    let options = RenderOptions::default();
    let closed = RenderOptions {
        add_generation_prompt: false,
        ..RenderOptions::default()
    };
    let encode = |text: &str| -> Result<Vec<TokenId>> {
        Ok(bench.model.tokenizer.encode(text, Specials::Parse)?)
    };
    let reply = "\u{1}";
    let mut messages = vec![Message::new(Role::System, system)];
    let bare = template.render(&messages, &closed)?;
    let system = encode(&bare)?.len();
    let mut turns = Vec::new();
    let mut said = String::new();
    for text in asked {
        messages.push(Message::new(Role::User, text));
        let whole = template.render(&messages, &options)?;
        // From the last placeholder on: what closes the reply before and opens the next.
        let fresh = match said.is_empty() {
            true => whole.as_str(),
            false => whole.rsplit(reply).next().unwrap_or_default(),
        };
        turns.push(Turn {
            tokens: encode(fresh)?,
            max_new_tokens: most,
            system,
        });
        said = whole;
        messages.push(Message::new(Role::Assistant, reply));
    }
    Ok(turns)
}
