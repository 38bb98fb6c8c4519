//! Groups of answers as passes of the network.

use super::advantages;
use crate::ids::TokenId;
use crate::train::network::Pass;
use crate::train::rollout::Answer;

/// The answers to a prompt, and what they are worth.
#[derive(Debug, Clone, PartialEq)]
pub struct Group<'a> {
    /// The tokens of the prompt, at least one.
    pub prompt: &'a [TokenId],
    /// The answers.
    pub answers: &'a [Answer],
    /// One an answer.
    pub rewards: &'a [f64],
}

/// What of a step's groups is learnt.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Learnt {
    /// The sum of their losses is that of `-advantage * log p` over all tokens drawn.
    pub passes: Vec<Pass>,
    /// Tokens drawn in groups that something is learnt of: what the sum is divided by.
    pub tokens: usize,
    /// Groups whose rewards are all equal: they have no gradient and are left out.
    pub skipped: usize,
}

/// A sequence of a pass.
struct Sequence<'a> {
    prompt: &'a [TokenId],
    answer: &'a Answer,
    weight: f64,
}

impl Sequence<'_> {
    /// The last token predicts nothing.
    fn len(&self) -> usize {
        (self.prompt.len() + self.answer.ids.len()).saturating_sub(1)
    }
}

/// The passes of a step's groups, each of at most `most` tokens unless one answer alone is longer. Equal answers to a
/// prompt have equal gradients: they are computed once, with the sum of their advantages.
pub fn learnt(groups: &[Group<'_>], most: usize) -> Learnt {
    let mut all = Learnt::default();
    let mut sequences: Vec<Sequence<'_>> = Vec::new();
    for group in groups {
        let Some(advantages) = advantages(group.rewards) else {
            all.skipped += 1;
            continue;
        };
        let first = sequences.len();
        for (answer, advantage) in group.answers.iter().zip(advantages) {
            all.tokens += answer.drawn_tokens();
            let own = sequences.iter_mut().skip(first);
            let same = |known: &&mut Sequence<'_>| {
                known.answer.ids == answer.ids && known.answer.drawn == answer.drawn
            };
            match { own }.find(same) {
                Some(known) => known.weight += advantage,
                None => sequences.push(Sequence {
                    prompt: group.prompt,
                    answer,
                    weight: advantage,
                }),
            }
        }
    }
    sequences.retain(|sequence| sequence.weight != 0.0 && sequence.answer.drawn_tokens() > 0);
    for sequence in &sequences {
        match all.passes.last_mut() {
            Some(pass) if pass.ids.len() + sequence.len() <= most => add(pass, sequence),
            _ => {
                let mut pass = Pass::default();
                add(&mut pass, sequence);
                all.passes.push(pass);
            }
        }
    }
    all
}

fn add(pass: &mut Pass, sequence: &Sequence<'_>) {
    let (start, prompt) = (pass.ids.len(), sequence.prompt);
    let Answer { ids, drawn, .. } = sequence.answer;
    let both = prompt.iter().chain(ids).copied();
    pass.ids.extend(both.take(sequence.len()));
    pass.positions.extend(0..sequence.len());
    pass.spans.push((start, sequence.len()));
    // The row before a token predicts it.
    let rows = start + prompt.len().saturating_sub(1)..;
    for (row, (&target, _)) in rows.zip(ids.iter().zip(drawn)).filter(|(_, (_, d))| **d) {
        pass.objective.rows.push(row);
        pass.objective.targets.push(target);
        pass.objective.weights.push(sequence.weight as f32);
    }
}
