//! `run --show-kv`: which tokens of a prompt the cache keeps, in colours.

use std::io::IsTerminal;

use anyhow::{Context, Result};
use serde::Serialize;

use super::output;
use crate::ids::{SeqId, TokenId};
use crate::kv::{KvReport, Policy};
use crate::llama::LlamaForward;
use crate::sample::{Sampler, SamplingParams};
use crate::sched::{Forward, Open, Origin, Phase, Plan, Row, RowOutput, Want};
use crate::text::{Controls, Detokenizer, Tokenizer};

const SEQ: SeqId = SeqId(0);

/// From little to much attention: dark to bright of a terminal's 256 colours.
const RAMP: [u8; 6] = [17, 19, 25, 31, 37, 43];
const GREY: u8 = 240;

/// A token of a prompt, and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Kept {
    pub(super) token: TokenId,
    pub(super) text: String,
    /// The share of layers and KV heads that keep it.
    pub(super) kept: f32,
    /// The attention that it received per query, averaged over those that keep it.
    pub(super) score: f32,
}

/// A prompt read under a policy, and what it is answered with.
pub(super) struct Reading<'a> {
    pub(super) forward: &'a mut LlamaForward,
    pub(super) tokenizer: &'a Tokenizer,
    pub(super) policy: Policy,
    pub(super) sampling: SamplingParams,
    pub(super) eos: &'a [TokenId],
    pub(super) chunk: usize,
}

impl Reading<'_> {
    /// Reads `prompt`. Returns what became of each token, and the next token's logits.
    pub(super) fn read(&mut self, prompt: &[TokenId]) -> Result<(Vec<Kept>, RowOutput)> {
        let mut at = 0;
        let mut last = None;
        while at < prompt.len() {
            let end = ((at / self.chunk + 1) * self.chunk).min(prompt.len());
            let left = prompt.len() - end;
            last = Some(self.feed(&prompt[at..end], at, Phase::Prompt { left })?);
            at = end;
        }
        let last = last.context("the prompt is empty")?;
        Ok((self.kept(prompt), last))
    }

    fn feed(&mut self, tokens: &[TokenId], start: usize, phase: Phase) -> Result<RowOutput> {
        let row = Row {
            seq: SEQ,
            open: (start == 0).then(|| Open {
                policy: self.policy.clone(),
                sampling: self.sampling.clone(),
                origin: Origin::Empty,
            }),
            tokens: tokens.to_vec(),
            start,
            want: Want::Last,
            phase,
        };
        let plan = Plan {
            rows: vec![row],
            paused: Vec::new(),
            ended: Vec::new(),
        };
        let rows = self.forward.forward(&plan)?.rows;
        rows.into_iter().next().context("the step gave no row")
    }

    fn kept(&self, prompt: &[TokenId]) -> Vec<Kept> {
        let config = self.forward.model().config();
        let (layers, heads) = (config.layers, config.kv_heads);
        let mut count = vec![0usize; prompt.len()];
        let mut score = vec![0f32; prompt.len()];
        for layer in 0..layers {
            for head in 0..heads {
                for (position, sum) in self.forward.held(SEQ, layer, head).unwrap_or_default() {
                    let position = position as usize;
                    let queries = (prompt.len() - position.min(prompt.len() - 1)) as f32;
                    count[position] += 1;
                    score[position] += sum / queries;
                }
            }
        }
        let token = |(position, &token): (usize, &TokenId)| Kept {
            token,
            text: self.tokenizer.decode(&[token], Controls::Keep),
            kept: count[position] as f32 / (layers * heads) as f32,
            score: score[position] / count[position].max(1) as f32,
        };
        prompt.iter().enumerate().map(token).collect()
    }

    /// Answers after `first`, at most `limit` tokens; each part of the text goes to `part`.
    pub(super) fn answer(
        &mut self,
        prompt: &[TokenId],
        mut next: RowOutput,
        limit: usize,
        mut part: impl FnMut(&str) -> Result<()>,
    ) -> Result<KvReport> {
        let mut sampler = Sampler::new(self.sampling.clone());
        prompt.iter().for_each(|&token| sampler.observe(token));
        let mut text = Detokenizer::new(self.tokenizer);
        for position in prompt.len()..prompt.len() + limit {
            let token = sampler.choose(&mut next.logits)?.token;
            if self.eos.contains(&token) {
                break;
            }
            sampler.observe(token);
            part(&text.push(token))?;
            next = self.feed(&[token], position, Phase::Decode)?;
        }
        part(&text.flush())?;
        Ok(next.kv)
    }
}

/// Draws the tokens: coloured on a terminal; else what no head keeps stands in double brackets.
pub(super) fn draw(tokens: &[Kept]) -> Result<()> {
    let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let mut drawn = String::new();
    let top = tokens.iter().map(|t| t.score).fold(0.0, f32::max);
    for token in tokens {
        let text: String = token
            .text
            .chars()
            .map(|c| {
                if c.is_control() && c != '\n' {
                    '\u{fffd}'
                } else {
                    c
                }
            })
            .collect();
        match (colour, token.kept > 0.0) {
            (true, true) => {
                let place = shade(token.score, top);
                drawn.push_str(&format!("\x1b[48;5;{}m{text}\x1b[0m", RAMP[place]));
            }
            (true, false) => drawn.push_str(&format!("\x1b[38;5;{GREY}m{text}\x1b[0m")),
            (false, true) => drawn.push_str(&text),
            (false, false) => drawn.push_str(&format!("[[{text}]]")),
        }
    }
    output::line(drawn)?;
    let gone = tokens.iter().filter(|token| token.kept == 0.0).count();
    let some = tokens
        .iter()
        .filter(|t| t.kept > 0.0 && t.kept < 1.0)
        .count();
    output::line(format!(
        "\n({} tokens: {} kept by every head, {some} by some, {gone} by none)",
        tokens.len(),
        tokens.len() - some - gone
    ))
}

/// Attention falls off steeply, so steps are of the logarithm.
fn shade(score: f32, top: f32) -> usize {
    if score <= 0.0 || top <= 0.0 {
        return 0;
    }
    let below = (top / score).ln().max(0.0);
    (RAMP.len() - 1).saturating_sub(below as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shades_fall_with_the_logarithm_of_the_score() {
        assert_eq!(shade(1.0, 1.0), RAMP.len() - 1);
        assert_eq!(shade(0.3, 1.0), RAMP.len() - 2);
        assert_eq!(shade(1e-9, 1.0), 0);
        assert_eq!(shade(0.0, 0.0), 0);
    }
}
