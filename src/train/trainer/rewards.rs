//! Lessons from rewards: prompts, answers to them from the present weights, and what those are worth.

use std::num::NonZeroU32;
use std::time::Instant;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::TrainError;
use super::asking::{Asking, settings, task};
use super::teacher::Lesson;
use super::words::Words;
use crate::data::order_of_prompts;
use crate::eval::suite::{Problem, Reward, RewardTask, Split};
use crate::ids::TokenId;
use crate::llama::LlamaForward;
use crate::sample::Sampling;
use crate::sched::Forward;
use crate::text::Tokenizer;
use crate::train::memory::CACHES;
use crate::train::network::{Moment, Network};
use crate::train::plan::Plan;
use crate::train::policy::{Group, learnt};
use crate::train::recipe::{self, Recipe, Rl};
use crate::train::record::Drawn;
use crate::train::rollout::{self, Answer, Asked, Drawing};

/// Answers of an evaluation that are drawn at once.
const JUDGED: usize = 256;

/// A problem, and the prompt that asks for its answer.
struct Prompt {
    problem: Problem,
    ids: Vec<TokenId>,
}

/// Where a run is in its prompts: all that is random follows from this and the seed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    /// Prompts gone through, of all epochs.
    prompts: u64,
}

/// See the module.
pub(super) struct Rewards {
    pub(super) task: Box<dyn RewardTask>,
    tokenizer: Tokenizer,
    ends: Vec<TokenId>,
    settings: Rl,
    seed: u64,
    train: Vec<Prompt>,
    held_out: Vec<Prompt>,
    /// Tokens of the longest prompt and the longest answer.
    context: usize,
    /// Answers under way at most.
    at_once: usize,
    place: Place,
    /// The epoch and its order.
    order: Option<(u64, Vec<usize>)>,
}

impl Rewards {
    pub(super) fn open(
        recipe: &Recipe,
        words: &Words,
        network: &Network,
        tell: &mut dyn FnMut(&str),
    ) -> Result<Rewards, TrainError> {
        let settings = settings(recipe)?.clone();
        let task = task(recipe)?;
        let asking = Asking::new(recipe, words)?;
        let most = network.context();
        let room = most.saturating_sub(settings.max_new_tokens as usize);
        let read = |split, wanted: usize| -> Result<(Vec<Prompt>, usize), TrainError> {
            let (mut prompts, mut long) = (Vec::new(), 0);
            let problems = (0..task.len(split)).map_while(|index| task.problem(split, index));
            for problem in problems {
                if prompts.len() == wanted {
                    break;
                }
                let ids = asking.prompt(&problem)?;
                match ids.len() <= room {
                    true => prompts.push(Prompt { problem, ids }),
                    false => long += 1,
                }
            }
            Ok((prompts, long))
        };
        let (train, long) = read(Split::Train, usize::MAX)?;
        let wanted = settings.eval_prompts as usize;
        let (held_out, long_held) = read(Split::HeldOut, wanted)?;
        tell(&format!(
            "task {}: {} prompts to learn from, {} held out",
            task.name(),
            train.len(),
            held_out.len()
        ));
        if held_out.len() < wanted {
            tell(&format!(
                "rl.eval_prompts = {wanted}, and the task holds out {}: evaluations ask those",
                held_out.len()
            ));
        }
        if long + long_held > 0 {
            tell(&format!(
                "warning: {} prompts are left out: with rl.max_new_tokens = {} they are longer than the context of {most}",
                long + long_held,
                settings.max_new_tokens
            ));
        }
        if train.is_empty() || held_out.is_empty() {
            let reason = match long + long_held {
                0 => "the task has too few problems to learn from some and hold out others",
                _ => "no prompt fits into the model's context beside the longest answer: lower it",
            };
            let key = match long + long_held {
                0 => "rl.task",
                _ => "rl.max_new_tokens",
            };
            return Err(TrainError::key(key, reason));
        }
        let prompts = train.iter().chain(&held_out);
        let longest = prompts.map(|prompt| prompt.ids.len()).max().unwrap_or(0);
        let context = longest + settings.max_new_tokens as usize;
        let bytes = match recipe.precision {
            recipe::Precision::Fp32 => 4,
            recipe::Precision::Bf16 => 2,
        };
        let one = network.config().kv_shape(bytes).slot_bytes() * context;
        let samples = settings.samples as usize;
        let at_once = (CACHES / one.max(1)).max(samples);
        let all = settings.groups as usize * samples;
        if at_once < all {
            tell(&format!(
                "{at_once} of a step's {all} answers are drawn at once, whose caches take {} MiB",
                (at_once * one) >> 20
            ));
        }
        Ok(Rewards {
            task,
            tokenizer: words.tokenizer.clone(),
            ends: words.eos.clone(),
            settings,
            seed: recipe.seed,
            train,
            held_out,
            context,
            at_once,
            place: Place::default(),
            order: None,
        })
    }

    /// Prompts to learn from, and those held out.
    pub(super) fn prompts(&self) -> (u64, u64) {
        (self.train.len() as u64, self.held_out.len() as u64)
    }

    pub(super) fn context(&self) -> u32 {
        u32::try_from(self.context).unwrap_or(u32::MAX)
    }

    pub(super) fn start(&mut self, place: Option<Value>) -> Result<(), TrainError> {
        if let Some(place) = place {
            self.place = serde_json::from_value(place).map_err(TrainError::place)?;
        }
        Ok(())
    }

    pub(super) fn place(&self) -> Result<Value, serde_json::Error> {
        serde_json::to_value(self.place)
    }

    pub(super) fn learn(
        &mut self,
        network: &mut Network,
        plan: &Plan,
        step: u64,
    ) -> Result<Lesson, TrainError> {
        let wanted: Vec<usize> = (0..self.settings.groups).map(|_| self.next()).collect();
        let prompts = wanted.iter().filter_map(|&index| self.train.get(index));
        let prompts: Vec<&Prompt> = prompts.collect();
        let (answers, mut drawn) = self.draw(network, &prompts, step)?;
        let rewards = prompts.iter().zip(&answers).map(|(prompt, answers)| {
            let reward = |answer| self.score(prompt, answer).value;
            answers.iter().map(reward).collect()
        });
        let rewards: Vec<Vec<f64>> = rewards.collect();
        let groups = prompts.iter().zip(&answers).zip(&rewards);
        let groups = groups.map(|((prompt, answers), rewards)| Group {
            prompt: &prompt.ids,
            answers,
            rewards,
        });
        let most = plan.micro_rows as usize * self.context;
        let learnt = learnt(&groups.collect::<Vec<_>>(), most);
        let mut lesson = Lesson {
            divisor: learnt.tokens as f64,
            reward: mean(rewards.iter().flatten().copied()),
            ..Lesson::default()
        };
        for (micro_step, pass) in (0..).zip(&learnt.passes) {
            let cost = network.learn(pass, Moment { step, micro_step })?;
            lesson.loss += cost.loss_sum;
            lesson.tokens += pass.ids.len() as u64;
        }
        drawn.skipped = learnt.skipped as u64;
        drawn.learnt = lesson.tokens;
        lesson.drawn = Some(drawn);
        Ok(lesson)
    }

    /// Answers to the prompts of a step from the present weights.
    fn draw(
        &self,
        network: &Network,
        prompts: &[&Prompt],
        step: u64,
    ) -> Result<(Vec<Vec<Answer>>, Drawn), TrainError> {
        let samples = u64::from(self.settings.samples);
        let asked = (0..).zip(prompts).map(|(group, prompt)| Asked {
            prompt: &prompt.ids,
            calculator: self.task.calculator(),
            seeds: (0..samples)
                .map(|sample| seed(self.seed, step, group, sample))
                .collect(),
        });
        let asked: Vec<Asked<'_>> = asked.collect();
        let sampling = Sampling::Random {
            temperature: self.settings.temperature as f32,
            top_k: NonZeroU32::new(self.settings.top_k),
            top_p: 1.0,
            min_p: 0.0,
        };
        let begun = Instant::now();
        let mut engine = self.engine(network)?;
        let refresh_s = begun.elapsed().as_secs_f64();
        let begun = Instant::now();
        let answers = self.answers(&mut engine, &asked, sampling, self.at_once)?;
        let draw_s = begun.elapsed().as_secs_f64();
        let all = || answers.iter().flatten();
        let drawn = Drawn {
            groups: answers.len() as u64,
            answers: all().count() as u64,
            cut: all().filter(|answer| !answer.ended).count() as u64,
            tokens: all().map(|answer| answer.ids.len() as u64).sum(),
            refresh_s,
            draw_s,
            ..Drawn::default()
        };
        Ok((answers, drawn))
    }

    /// The mean reward of the likeliest answers to the prompts held out, and the share of them that is right.
    pub(super) fn held_out(&self, network: &Network) -> Result<(f64, f64), TrainError> {
        let asked: Vec<Asked<'_>> = self
            .held_out
            .iter()
            .map(|prompt| Asked {
                prompt: &prompt.ids,
                calculator: self.task.calculator(),
                seeds: vec![0],
            })
            .collect();
        let at_once = self.at_once.min(JUDGED);
        let mut engine = self.engine(network)?;
        let answers = self.answers(&mut engine, &asked, Sampling::Greedy, at_once)?;
        let pairs = self.held_out.iter().zip(answers.iter().flatten());
        let rewards = pairs.map(|(prompt, answer)| self.score(prompt, answer));
        let rewards: Vec<Reward> = rewards.collect();
        let value = mean(rewards.iter().map(|reward| reward.value));
        let right = mean(rewards.iter().map(|reward| f64::from(reward.right)));
        Ok((value.unwrap_or(f64::NAN), right.unwrap_or(f64::NAN)))
    }

    fn engine(&self, network: &Network) -> Result<LlamaForward, TrainError> {
        Ok(rollout::engine(network, self.context)?)
    }

    fn answers(
        &self,
        engine: &mut dyn Forward,
        asked: &[Asked<'_>],
        sampling: Sampling,
        at_once: usize,
    ) -> Result<Vec<Vec<Answer>>, TrainError> {
        let how = Drawing {
            sampling,
            max_new_tokens: self.settings.max_new_tokens as usize,
            ends: &self.ends,
            at_once,
        };
        Ok(rollout::draw(engine, &self.tokenizer, asked, &how)?)
    }

    fn score(&self, prompt: &Prompt, answer: &Answer) -> Reward {
        self.task.score(&prompt.problem, &answer.text)
    }

    /// The next prompt of the epoch, by its place among those to learn from.
    pub(super) fn next(&mut self) -> usize {
        let count = self.train.len() as u64;
        let (epoch, at) = (self.place.prompts / count, self.place.prompts % count);
        self.place.prompts += 1;
        let order = match self.order.take() {
            Some((known, order)) if known == epoch => order,
            _ => order_of_prompts(self.seed, epoch, self.train.len()),
        };
        let index = order.get(at as usize).copied().unwrap_or(0);
        self.order = Some((epoch, order));
        index
    }
}

/// The seed of an answer.
fn seed(seed: u64, step: u64, group: u64, sample: u64) -> u64 {
    let mut bytes = [0; 32];
    let words = [seed, step, group, sample];
    let all = words.iter().flat_map(|word| word.to_le_bytes());
    bytes.iter_mut().zip(all).for_each(|(to, from)| *to = from);
    ChaCha8Rng::from_seed(bytes).random()
}

fn mean(values: impl Iterator<Item = f64> + Clone) -> Option<f64> {
    let count = values.clone().count();
    (count > 0).then(|| values.sum::<f64>() / count as f64)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_answer_has_a_seed_of_its_own() {
        let mut seen = BTreeSet::new();
        for (run, step, group, sample) in [
            (0, 0, 0, 0),
            (1, 0, 0, 0),
            (0, 1, 0, 0),
            (0, 0, 1, 0),
            (0, 0, 0, 1),
            (0, 0, 1, 1),
        ] {
            let found = seed(run, step, group, sample);
            assert_eq!(found, seed(run, step, group, sample));
            assert!(seen.insert(found));
        }
    }
}
