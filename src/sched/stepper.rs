//! A model and the samplers of its sequences: one call takes a plan to tokens. What the compute thread runs.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::ids::{SeqId, TokenId};
use crate::kv::tree::Miss;
use crate::kv::{KvReport, KvShape};
use crate::sample::{Choice, ChooseError, Sampler, Stuck, TokenLogprob};

use super::{
    Forward, ForwardError, Kept, MemoryReport, Origin, Phase, Plan, Row, RowOutput, SessionOrder,
    SessionReply, Want,
};

/// What a step came to.
#[derive(Debug, Clone, Default)]
pub struct Stepped {
    /// One a row that is done.
    pub drawn: Vec<Drawn>,
    /// See [`super::Outputs::prompts`].
    pub prompts: Option<Duration>,
}

/// What one row came to.
#[derive(Debug, Clone)]
pub struct Drawn {
    /// The sequence.
    pub seq: SeqId,
    /// The next tokens, when the row wanted any: one, and one more for every guess that was right.
    pub choices: Vec<Choice>,
    /// Guesses that were checked.
    pub drafted: usize,
    /// The cache after the row.
    pub kv: KvReport,
    /// Tokens of the row that a cache held.
    pub cached: usize,
    /// In a prompt's first row, why the prefix cache did not hold more of it.
    pub missed: Option<Miss>,
    /// Log-probabilities of the row's tokens, where they are wanted; a prompt's first token has none.
    pub told: Vec<TokenLogprob>,
    /// Hidden states of the row's tokens, where they are wanted.
    pub states: Vec<f32>,
    /// Why the sequence cannot go on, though the step was computed: no token keeps to its constraint.
    pub stuck: Option<Stuck>,
}

/// A [`Forward`] with one [`Sampler`] a sequence.
///
/// Samplers live beside the model, so that a step hands back tokens and not rows of logits.
pub struct Stepper {
    model: Box<dyn Forward>,
    samplers: HashMap<SeqId, Sampler>,
    /// Prompts that a shared prefix may have begun, and how many of their tokens the samplers were told.
    prompts: HashMap<SeqId, (Arc<[TokenId]>, usize)>,
    /// Rows that the model has not computed to their ends.
    under_way: Vec<Row>,
    /// Of prompts whose tokens are told, the logits after the last token that was fed.
    last: HashMap<SeqId, Vec<f32>>,
}

impl Stepper {
    /// A stepper without sequences.
    pub fn new(model: Box<dyn Forward>) -> Self {
        Stepper {
            model,
            samplers: HashMap::new(),
            prompts: HashMap::new(),
            under_way: Vec::new(),
            last: HashMap::new(),
        }
    }

    /// What a token costs in KV cache.
    pub fn kv_shape(&self) -> KvShape {
        self.model.kv_shape()
    }

    /// Bytes of the weights in memory.
    pub fn weight_bytes(&self) -> usize {
        self.model.weight_bytes()
    }

    /// A stepper over the same weights, without sequences; see [`Forward::twin`].
    pub fn twin(&self) -> Option<Stepper> {
        self.model.twin().map(Stepper::new)
    }

    /// See [`Forward::take_kept`].
    pub fn take_kept(&mut self) -> Option<Kept> {
        self.model.take_kept()
    }

    /// See [`Forward::put_kept`].
    pub fn put_kept(&mut self, kept: Kept) -> bool {
        self.model.put_kept(kept)
    }

    /// Does something with parked sessions.
    pub fn session(&mut self, order: SessionOrder) -> Result<SessionReply, ForwardError> {
        self.model.session(order)
    }

    /// What is kept by open sequences and beyond them.
    pub fn memory(&self) -> MemoryReport {
        self.model.memory()
    }

    /// Tells a sampler of the tokens before a row that were not fed, since a shared prefix held them.
    fn observe_skipped(&mut self, row: &Row) {
        let Some((prompt, told)) = self.prompts.get_mut(&row.seq) else {
            return;
        };
        let skipped = prompt.get(*told..row.start).unwrap_or_default();
        if let Some(sampler) = self.samplers.get_mut(&row.seq) {
            skipped.iter().for_each(|&token| sampler.observe(token));
        }
        *told = row.start + row.tokens.len();
        if *told >= prompt.len() {
            self.prompts.remove(&row.seq);
        }
    }

    /// See [`Forward::slices`].
    pub fn slices(&self) -> usize {
        self.model.slices()
    }

    /// Computes a step and draws a token for each row that is done and wants one, or several where it has guesses; see
    /// [`Forward::forward_within`].
    pub fn step(&mut self, plan: &Plan, slice: Option<Duration>) -> Result<Stepped, ForwardError> {
        for ended in &plan.ended {
            self.samplers.remove(&ended.seq);
            self.prompts.remove(&ended.seq);
            self.last.remove(&ended.seq);
            self.under_way.retain(|row| row.seq != ended.seq);
        }
        for row in &plan.rows {
            if let Some(open) = &row.open {
                self.samplers
                    .insert(row.seq, Sampler::new(open.sampling.clone()));
                if let Origin::Prefix { prompt, .. } = &open.origin {
                    self.prompts.insert(row.seq, (Arc::clone(prompt), 0));
                }
            }
            self.observe_skipped(row);
            if let Some(sampler) = self.samplers.get_mut(&row.seq) {
                let fed = match row.want {
                    // Guesses count when they have come true.
                    Want::Drafts => 1,
                    Want::Nothing | Want::Last | Want::All | Want::States => row.tokens.len(),
                };
                for &token in row.tokens.iter().take(fed) {
                    sampler.observe(token);
                }
            }
        }
        let outputs = self.model.forward_within(plan, slice)?;
        let mut drawn = Vec::with_capacity(outputs.rows.len());
        let mut under_way = std::mem::take(&mut self.under_way);
        for mut output in outputs.rows {
            let mut all = plan.rows.iter().chain(&under_way);
            // What ended with this plan may have been computed to its end.
            let Some(row) = all.find(|row| row.seq == output.seq) else {
                continue;
            };
            let told = match row.want {
                Want::All => self.tell(row, &mut output)?,
                Want::Nothing | Want::Last | Want::States | Want::Drafts => Vec::new(),
            };
            let complete = row.phase == Phase::Prompt { left: 0 };
            let (choices, stuck) = match row.want {
                Want::Last | Want::Drafts => self.draw(row, &mut output)?,
                Want::All if complete => self.draw(row, &mut output)?,
                Want::Nothing | Want::All | Want::States => (Vec::new(), None),
            };
            if output.drafted > 0 {
                // The row's own token was right in any case.
                output.kv = self.model.keep(row.seq, choices.len().max(1))?;
            }
            drawn.push(Drawn {
                seq: row.seq,
                choices,
                drafted: output.drafted,
                kv: output.kv,
                cached: output.cached,
                missed: output.missed,
                told,
                states: output.states,
                stuck,
            });
        }
        let undone = |row: &Row| !drawn.iter().any(|drawn| drawn.seq == row.seq);
        under_way.retain(undone);
        under_way.extend(plan.rows.iter().filter(|row| undone(row)).cloned());
        self.under_way = under_way;
        Ok(Stepped {
            drawn,
            prompts: outputs.prompts,
        })
    }

    /// How probable each token of the row was behind those before it. Leaves the logits after the last one, for the next
    /// row or the draw.
    fn tell(
        &mut self,
        row: &Row,
        output: &mut RowOutput,
    ) -> Result<Vec<TokenLogprob>, ForwardError> {
        let unknown = || ForwardError::UnknownSequence(row.seq);
        let sampler = self.samplers.get(&row.seq).ok_or_else(unknown)?;
        let vocab = (output.logits.len() / row.tokens.len().max(1)).max(1);
        let before = self.last.remove(&row.seq);
        // The very first token comes behind nothing.
        let first = before.is_none().into();
        let logits = before.as_deref().into_iter();
        let logits = logits.chain(output.logits.chunks_exact(vocab));
        let told = row.tokens.iter().skip(first).zip(logits);
        let told = told.map(|(&token, logits)| sampler.tell(logits, token));
        let told = told.collect::<Option<Vec<_>>>();
        let told = told.ok_or(ForwardError::NotFinite(row.seq))?;
        output
            .logits
            .drain(..output.logits.len().saturating_sub(vocab));
        if row.phase != (Phase::Prompt { left: 0 }) {
            self.last
                .insert(row.seq, std::mem::take(&mut output.logits));
        }
        Ok(told)
    }

    /// Draws position by position, as long as what is drawn is what was guessed: as one step a token would, with the
    /// same random numbers. What is drawn keeps to the sequence's constraint, so a guess that does not is wrong.
    fn draw(
        &mut self,
        row: &Row,
        output: &mut RowOutput,
    ) -> Result<(Vec<Choice>, Option<Stuck>), ForwardError> {
        let sampler = self.samplers.get_mut(&row.seq);
        let sampler = sampler.ok_or(ForwardError::UnknownSequence(row.seq))?;
        let vocab = (output.logits.len() / (output.drafted + 1)).max(1);
        let mut choices: Vec<Choice> = Vec::with_capacity(1);
        for (position, logits) in output.logits.chunks_exact_mut(vocab).enumerate() {
            if let Some(last) = choices.last() {
                if row.tokens.get(position) != Some(&last.token) {
                    break;
                }
                sampler.observe(last.token);
            }
            match sampler.choose(logits) {
                Ok(choice) => choices.push(choice),
                Err(ChooseError::NotFinite) => return Err(ForwardError::NotFinite(row.seq)),
                Err(ChooseError::Stuck(stuck)) => return Ok((choices, Some(stuck))),
            }
        }
        match choices.is_empty() {
            true => Err(ForwardError::NotFinite(row.seq)),
            false => Ok((choices, None)),
        }
    }
}
