//! The engine as a suite's judge: texts are scored and continued with full attention, one after the other.

use std::error::Error;

use crate::eval::suite::{GenerateOptions, Judge, JudgeError, Likelihood, Loss, Prompt};
use crate::ids::{SeqId, TokenId};
use crate::kv::Policy;
use crate::sample::{RawSampling, Sampler, SamplingParams, StopMatcher, logsumexp};
use crate::sched::{Forward, ForwardError, Open, Origin, Phase, Plan, Row, Want};
use crate::text::{ChatTemplate, Controls, Detokenizer, RenderOptions, Specials, Tokenizer};

/// What is read of a text.
const BASE: SeqId = SeqId(u64::MAX);
/// A reply to it.
const REPLY: SeqId = SeqId(u64::MAX - 1);

/// A loaded model under evaluation.
pub(super) struct Engine<'a> {
    /// Computes.
    pub(super) forward: &'a mut dyn Forward,
    /// Of the model.
    pub(super) tokenizer: &'a Tokenizer,
    /// Of the model, if it has one.
    pub(super) template: Option<&'a ChatTemplate>,
    /// The tokens that end a reply.
    pub(super) ends: &'a [TokenId],
    /// Tokens of the context.
    pub(super) context: usize,
    /// Tokens of one forward pass, at least 1.
    pub(super) chunk: usize,
    /// Replies drawn so far: the seed of the next.
    pub(super) drawn: u64,
}

/// One prediction of a text.
struct Predicted {
    log_probability: f64,
    greedy: bool,
}

fn failed(error: impl Error + Send + Sync + 'static) -> JudgeError {
    JudgeError::Model(Box::new(error))
}

fn plan(rows: Vec<Row>, ended: &[SeqId]) -> Plan {
    Plan {
        rows,
        paused: Vec::new(),
        ended: ended.iter().map(|&seq| seq.into()).collect(),
    }
}

fn open(origin: Origin) -> Open {
    Open {
        policy: Policy::full(),
        sampling: SamplingParams::default(),
        origin,
    }
}

impl Engine<'_> {
    /// What the first token of a text is predicted from: as in EleutherAI's harness
    /// (<https://github.com/EleutherAI/lm-evaluation-harness>), the token that begins texts, else the one that ends them.
    fn prefix(&self) -> Result<TokenId, JudgeError> {
        let token = self.tokenizer.bos().or_else(|| self.tokenizer.eos());
        token.ok_or_else(|| {
            let why = "the tokenizer has no token that begins or ends a text, to predict a text's first token from";
            JudgeError::Model(why.into())
        })
    }

    /// A text to go on from: what the model expects before a text, and the text.
    fn encode(&self, text: &str) -> Result<Vec<TokenId>, JudgeError> {
        let mut ids = self.tokenizer.encode_prompt(text).map_err(failed)?;
        if ids.last().copied() == self.tokenizer.eos() && ids.len() > 1 {
            let bare = self
                .tokenizer
                .encode(text, Specials::Parse)
                .map_err(failed)?;
            // An end that the text does not hold itself was put there.
            if bare.last() != ids.last() {
                ids.pop();
            }
        }
        if ids.is_empty() {
            ids.push(self.prefix()?);
        }
        Ok(ids)
    }

    fn fits(&self, index: usize, tokens: usize) -> Result<(), JudgeError> {
        match tokens <= self.context {
            true => Ok(()),
            false => Err(JudgeError::TooLong {
                index,
                tokens,
                context: self.context,
            }),
        }
    }

    /// The predictions of `ids[first..]`, each from all before it; `first` is at least 1.
    fn predict(&mut self, ids: &[TokenId], first: usize) -> Result<Vec<Predicted>, ForwardError> {
        let fed = ids.get(..ids.len().saturating_sub(1)).unwrap_or_default();
        let mut predictions = Vec::with_capacity(ids.len().saturating_sub(first));
        let mut start = 0;
        for chunk in fed.chunks(self.chunk.max(1)) {
            let end = start + chunk.len();
            let wanted = end >= first;
            let row = Row {
                seq: BASE,
                open: (start == 0).then(|| open(Origin::Empty)),
                tokens: chunk.to_vec(),
                start,
                want: if wanted { Want::All } else { Want::Nothing },
                phase: Phase::Prompt {
                    left: fed.len() - end,
                },
            };
            let outputs = self.forward.forward(&plan(vec![row], &[]))?;
            if wanted {
                let logits = outputs.rows.first().map_or(&[][..], |row| &row.logits);
                let vocab = logits.len() / chunk.len();
                let targets = ids.get(start + 1..).unwrap_or_default();
                let skipped = first.saturating_sub(start + 1);
                let rows = logits.chunks_exact(vocab.max(1)).zip(targets);
                for (row, &target) in rows.skip(skipped) {
                    predictions.push(predicted(row, target)?);
                }
            }
            start = end;
        }
        if !fed.is_empty() {
            self.forward.forward(&plan(Vec::new(), &[BASE]))?;
        }
        Ok(predictions)
    }

    /// `options.samples` replies to a prompt of at least one token.
    fn replies(
        &mut self,
        ids: &[TokenId],
        options: &GenerateOptions,
    ) -> Result<Vec<String>, JudgeError> {
        let Some((&last, before)) = ids.split_last() else {
            return Ok(Vec::new());
        };
        let mut start = 0;
        for chunk in before.chunks(self.chunk.max(1)) {
            let row = Row {
                seq: BASE,
                open: (start == 0).then(|| open(Origin::Empty)),
                tokens: chunk.to_vec(),
                start,
                want: Want::Nothing,
                phase: Phase::Prompt {
                    left: ids.len() - start - chunk.len(),
                },
            };
            self.forward
                .forward(&plan(vec![row], &[]))
                .map_err(failed)?;
            start += chunk.len();
        }
        let mut replies = Vec::with_capacity(options.samples);
        for _ in 0..options.samples {
            let origin = match before.is_empty() {
                true => Origin::Empty,
                false => Origin::Fork(BASE),
            };
            replies.push(self.reply(last, before.len(), origin, options)?);
        }
        if !before.is_empty() {
            self.forward
                .forward(&plan(Vec::new(), &[BASE]))
                .map_err(failed)?;
        }
        Ok(replies)
    }

    /// One reply after the token `last`, which stands at `position`.
    fn reply(
        &mut self,
        last: TokenId,
        position: usize,
        origin: Origin,
        options: &GenerateOptions,
    ) -> Result<String, JudgeError> {
        let raw = RawSampling {
            temperature: Some(options.temperature),
            top_k: Some(0),
            top_p: Some(1.0),
            min_p: Some(0.0),
            repetition_penalty: Some(1.0),
            seed: Some(self.drawn),
            ..RawSampling::default()
        };
        self.drawn += 1;
        let mut sampler = Sampler::new(SamplingParams::checked(raw).map_err(failed)?);
        let mut stops = StopMatcher::new(options.stop.clone()).map_err(failed)?;
        let mut detokenizer = Detokenizer::new(self.tokenizer);
        let mut reply = String::new();
        let mut opening = Some(open(origin));
        let mut token = last;
        let mut stopped = false;
        for step in 0..options.max_new {
            let row = Row {
                seq: REPLY,
                open: opening.take(),
                tokens: vec![token],
                start: position + step,
                want: Want::Last,
                phase: match step {
                    0 => Phase::Prompt { left: 0 },
                    _ => Phase::Decode,
                },
            };
            let outputs = self
                .forward
                .forward(&plan(vec![row], &[]))
                .map_err(failed)?;
            let Some(mut output) = outputs.rows.into_iter().next() else {
                return Err(failed(ForwardError::UnknownSequence(REPLY)));
            };
            token = sampler.choose(&mut output.logits).map_err(failed)?.token;
            if self.ends.contains(&token) {
                break;
            }
            let piece = stops.push(&detokenizer.push(token));
            reply.push_str(&piece.emit);
            if piece.hit.is_some() {
                stopped = true;
                break;
            }
        }
        if !stopped {
            let piece = stops.push(&detokenizer.flush());
            reply.push_str(&piece.emit);
            if piece.hit.is_none() {
                reply.push_str(&stops.flush());
            }
        }
        if opening.is_none() {
            self.forward
                .forward(&plan(Vec::new(), &[REPLY]))
                .map_err(failed)?;
        }
        Ok(reply)
    }
}

/// How `target` was predicted by a row of logits; of equally probable tokens the lowest is the greedy one.
fn predicted(logits: &[f32], target: TokenId) -> Result<Predicted, ForwardError> {
    let found = logits
        .get(target as usize)
        .copied()
        .ok_or(ForwardError::BadToken {
            seq: BASE,
            token: target,
            vocab: logits.len(),
        })?;
    let log_probability = f64::from(found) - logsumexp(logits);
    if !log_probability.is_finite() {
        return Err(ForwardError::NotFinite(BASE));
    }
    let place = target as usize;
    let mut others = logits.iter().enumerate();
    let greedy = !others.any(|(index, &logit)| logit > found || (logit == found && index < place));
    Ok(Predicted {
        log_probability,
        greedy,
    })
}

impl Judge for Engine<'_> {
    fn losses(&mut self, texts: &[String]) -> Result<Vec<Loss>, JudgeError> {
        let mut losses = Vec::with_capacity(texts.len());
        for (index, text) in texts.iter().enumerate() {
            let bare = self
                .tokenizer
                .encode(text, Specials::Parse)
                .map_err(failed)?;
            let ids = [&[self.prefix()?], &bare[..]].concat();
            self.fits(index, ids.len())?;
            let predictions = self.predict(&ids, 1).map_err(failed)?;
            losses.push(Loss {
                nats: predictions.iter().map(|one| -one.log_probability).sum(),
                bytes: self.tokenizer.decode(&bare, Controls::Skip).len() as u64,
                tokens: predictions.len() as u64,
            });
        }
        Ok(losses)
    }

    fn likelihoods(&mut self, pairs: &[(String, String)]) -> Result<Vec<Likelihood>, JudgeError> {
        let mut likelihoods = Vec::with_capacity(pairs.len());
        for (index, (context, continuation)) in pairs.iter().enumerate() {
            let before = self.encode(context)?;
            let mut ids = self.encode(&format!("{context}{continuation}"))?;
            let shared = before.iter().zip(&ids).take_while(|(a, b)| a == b);
            let mut border = shared.count();
            if continuation.is_empty() || border == ids.len() {
                return Err(JudgeError::Empty { index });
            }
            if border == 0 {
                ids.insert(0, self.prefix()?);
                border = 1;
            }
            self.fits(index, ids.len())?;
            let predictions = self.predict(&ids, border).map_err(failed)?;
            likelihoods.push(Likelihood {
                log_probability: predictions.iter().map(|one| one.log_probability).sum(),
                tokens: predictions.len() as u64,
                greedy: predictions.iter().all(|one| one.greedy),
            });
        }
        Ok(likelihoods)
    }

    fn generate(
        &mut self,
        prompts: &[Prompt],
        options: &GenerateOptions,
    ) -> Result<Vec<Vec<String>>, JudgeError> {
        let mut all = Vec::with_capacity(prompts.len());
        for (index, prompt) in prompts.iter().enumerate() {
            let ids = match prompt {
                Prompt::Text(text) => self.encode(text)?,
                Prompt::Chat(messages) => {
                    let template = self.template.ok_or(JudgeError::NoTemplate)?;
                    let rendered =
                        template.render_ids(self.tokenizer, messages, &RenderOptions::default());
                    rendered.map_err(failed)?
                }
            };
            self.fits(index, ids.len() + options.max_new)?;
            all.push(self.replies(&ids, options)?);
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests;
