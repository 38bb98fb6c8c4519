//! Many answers at once.

use super::RolloutError;
use super::answer::{Answer, Writing};
use crate::eval::suite::Markers;
use crate::ids::{SeqId, TokenId};
use crate::kv::Policy;
use crate::sample::{Sampler, Sampling, SamplingParams};
use crate::sched::{Forward, ForwardError, Open, Origin, Phase, Plan, Row, RowOutput, Want};
use crate::text::Tokenizer;

/// Tokens of prompts that are read in one pass, unless one alone is longer.
const PROMPTS: usize = 2048;

/// A prompt, and what is wanted of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked<'a> {
    /// Its tokens, at least one.
    pub prompt: &'a [TokenId],
    /// How the calculator is called, where it may be.
    pub calculator: Option<Markers>,
    /// An answer for each seed.
    pub seeds: Vec<u64>,
}

/// How answers are drawn.
#[derive(Debug, Clone, Copy)]
pub struct Drawing<'a> {
    /// How a token is chosen.
    pub sampling: Sampling,
    /// The most tokens of an answer, at least 1; with the prompt, no more than the context.
    pub max_new_tokens: usize,
    /// Any of these ends an answer.
    pub ends: &'a [TokenId],
    /// How many answers are under way at most, unless one prompt alone has more.
    pub at_once: usize,
}

/// Draws answers to all prompts, in their order. What is drawn follows from weights, prompts and seeds.
///
/// # Errors
/// The model cannot compute, or has no numbers to draw from.
pub fn draw(
    forward: &mut dyn Forward,
    tokenizer: &Tokenizer,
    asked: &[Asked<'_>],
    how: &Drawing<'_>,
) -> Result<Vec<Vec<Answer>>, RolloutError> {
    let mut round = Round {
        forward,
        tokenizer,
        how,
        live: Vec::new(),
        parents: Vec::new(),
        ended: Vec::new(),
        sequences: 0,
        done: Vec::new(),
    };
    let mut waiting = asked.iter().enumerate().peekable();
    loop {
        let (mut fresh, mut samples, mut tokens) = (Vec::new(), round.live.len(), 0);
        while let Some((group, asked)) = waiting.next_if(|(_, asked)| {
            let fits = samples == 0 || samples + asked.seeds.len() <= how.at_once;
            fits && (tokens == 0 || tokens + asked.prompt.len() <= PROMPTS)
        }) {
            samples += asked.seeds.len();
            tokens += asked.prompt.len();
            fresh.push((group, asked));
        }
        match (fresh.is_empty(), round.live.is_empty()) {
            (false, _) => round.read(&fresh)?,
            (true, false) => round.step()?,
            (true, true) => break,
        }
    }
    round.close()?;
    let mut done = round.done;
    done.sort_by_key(|(place, _)| *place);
    let mut all: Vec<Vec<Answer>> = asked.iter().map(|_| Vec::new()).collect();
    for ((group, _), answer) in done {
        if let Some(answers) = all.get_mut(group) {
            answers.push(answer);
        }
    }
    Ok(all)
}

/// Which answer it is: the number of its prompt, and its own.
type AnswerPlace = (usize, usize);

/// An answer under way.
struct Live<'a> {
    place: AnswerPlace,
    seq: SeqId,
    /// What its sequence starts from, until it has.
    origin: Option<Origin>,
    /// What the model reads next, and the position of the first of it.
    next: Vec<TokenId>,
    start: usize,
    sampler: Sampler,
    writing: Writing<'a>,
}

struct Round<'a> {
    forward: &'a mut dyn Forward,
    tokenizer: &'a Tokenizer,
    how: &'a Drawing<'a>,
    live: Vec<Live<'a>>,
    /// Prompts whose answers have not yet gone on from them.
    parents: Vec<SeqId>,
    /// Sequences that are over, to be told with the next pass.
    ended: Vec<SeqId>,
    sequences: u64,
    done: Vec<(AnswerPlace, Answer)>,
}

fn open(origin: Origin) -> Open {
    Open {
        policy: Policy::full(),
        sampling: SamplingParams::default(),
        origin,
    }
}

impl<'a> Round<'a> {
    fn sequence(&mut self) -> SeqId {
        self.sequences += 1;
        SeqId(self.sequences)
    }

    fn pass(&mut self, rows: Vec<Row>) -> Result<Vec<RowOutput>, RolloutError> {
        let wanted: Vec<SeqId> = rows.iter().map(|row| row.seq).collect();
        let plan = Plan {
            rows,
            paused: Vec::new(),
            ended: self.ended.drain(..).map(Into::into).collect(),
        };
        let outputs = self.forward.forward(&plan)?.rows;
        let found = outputs.iter().map(|output| output.seq);
        match wanted.iter().copied().eq(found) {
            true => Ok(outputs),
            false => {
                let missing = wanted.first().copied().unwrap_or(SeqId(0));
                Err(ForwardError::UnknownSequence(missing).into())
            }
        }
    }

    /// Reads prompts and draws the first token of each of their answers.
    fn read(&mut self, fresh: &[(usize, &Asked<'_>)]) -> Result<(), RolloutError> {
        let mut rows = Vec::with_capacity(fresh.len());
        for (group, asked) in fresh {
            if asked.prompt.is_empty() {
                return Err(RolloutError::NoPrompt(*group));
            }
            rows.push(Row {
                seq: self.sequence(),
                open: Some(open(Origin::Empty)),
                tokens: asked.prompt.to_vec(),
                start: 0,
                want: Want::Last,
                phase: Phase::Prompt { left: 0 },
            });
        }
        let read = self.pass(rows)?;
        for ((group, asked), output) in fresh.iter().zip(read) {
            let alone = asked.seeds.len() == 1;
            let before = self.live.len();
            for (sample, &seed) in asked.seeds.iter().enumerate() {
                let params = SamplingParams {
                    sampling: self.how.sampling,
                    seed,
                    ..SamplingParams::default()
                };
                let markers = asked.calculator.as_ref();
                let most = self.how.max_new_tokens;
                let mut live = Live {
                    place: (*group, sample),
                    // One answer goes on in the sequence of its prompt.
                    seq: match alone {
                        true => output.seq,
                        false => self.sequence(),
                    },
                    origin: (!alone).then_some(Origin::Fork(output.seq)),
                    next: Vec::new(),
                    start: asked.prompt.len(),
                    sampler: Sampler::new(params),
                    writing: Writing::new(self.tokenizer, markers, most),
                };
                if live.choose(&mut output.logits.clone(), self.how.ends)? {
                    self.live.push(live);
                } else {
                    self.done.push((live.place, live.writing.finish()));
                }
            }
            match (alone, self.live.len() > before) {
                (true, true) => {}
                (false, true) => self.parents.push(output.seq),
                (_, false) => self.ended.push(output.seq),
            }
        }
        Ok(())
    }

    /// Computes the next token of all answers under way.
    fn step(&mut self) -> Result<(), RolloutError> {
        let row = |live: &mut Live<'_>| {
            let tokens = std::mem::take(&mut live.next);
            let start = live.start;
            live.start += tokens.len();
            Row {
                seq: live.seq,
                open: live.origin.take().map(open),
                phase: match tokens.len() {
                    1 => Phase::Decode,
                    // What was forced is read as a prompt is.
                    _ => Phase::Prompt { left: 0 },
                },
                tokens,
                start,
                want: Want::Last,
            }
        };
        let rows = self.live.iter_mut().map(row).collect();
        let outputs = self.pass(rows)?;
        self.ended.append(&mut self.parents);
        let live = std::mem::take(&mut self.live);
        for (mut live, mut output) in live.into_iter().zip(outputs) {
            if live.choose(&mut output.logits, self.how.ends)? {
                self.live.push(live);
            } else {
                self.ended.push(live.seq);
                self.done.push((live.place, live.writing.finish()));
            }
        }
        Ok(())
    }

    /// Frees what is left.
    fn close(&mut self) -> Result<(), RolloutError> {
        self.pass(Vec::new()).map(|_| ())
    }
}

impl Live<'_> {
    /// Draws the next token; whether the answer goes on.
    fn choose(&mut self, logits: &mut [f32], ends: &[TokenId]) -> Result<bool, RolloutError> {
        let token = self.sampler.choose(logits)?.token;
        self.next = self.writing.push(token, ends.contains(&token))?;
        Ok(!self.next.is_empty())
    }
}
