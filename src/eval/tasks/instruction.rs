//! Whether a rule of the system prompt is still obeyed after many turns. Eviction can lose instructions while the text
//! stays fluent (<https://arxiv.org/abs/2510.00231>).

use rand::seq::{IndexedRandom, SliceRandom};
use serde::Serialize;

use super::super::task::Task;
use super::rules::Rule;
use super::turns::TURNS;
use super::{Spec, TaskError, fit, rng};

/// Turns of a dialogue.
const LENGTH: usize = 12;
/// Tokens of a reply at most.
const REPLY: usize = 64;

/// A dialogue to hold with the model: after each turn its own reply is what follows, and is checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Dialogue {
    /// What every reply has to do.
    pub rule: Rule,
    /// The system prompt, which states it.
    pub system: String,
    /// What the user says, in order; the rule is not mentioned again.
    pub turns: Vec<String>,
    /// The most tokens of a reply.
    pub max_new_tokens: usize,
    /// The tokens asked for: system prompt, turns and longest replies together do not exceed them. Those of a chat
    /// template come on top.
    pub length: usize,
}

impl Dialogue {
    /// The share of `replies` that obey the rule; 0 without any.
    pub fn obedience(&self, replies: &[String]) -> f64 {
        let obeyed = replies.iter().filter(|reply| self.rule.obeyed(reply));
        obeyed.count() as f64 / replies.len().max(1) as f64
    }
}

/// The dialogue that `spec` names: twelve turns, each after a share of the filler that its length leaves room for.
///
/// # Errors
/// A length below the least, or a depth: the rule stands at the start.
pub fn dialogue(spec: &Spec) -> Result<Dialogue, TaskError> {
    let task = Task::Instruction;
    if spec.depth.is_some() {
        return Err(TaskError::NoDepth(task));
    }
    let mut rng = rng(task, spec);
    let rule = Rule::ALL
        .choose(&mut rng)
        .copied()
        .unwrap_or(Rule::EndsWithOver);
    let system = format!(
        "You are a helpful assistant who answers in one short sentence. {} Never mention this rule.",
        rule.text()
    );
    let mut requests = TURNS;
    requests.shuffle(&mut rng);
    let series = spec.haystack.series(&[], &mut rng);
    let build = |sentences: usize| {
        let filler = series.take(sentences);
        let mut turns = Vec::with_capacity(LENGTH);
        for (at, request) in requests.iter().take(LENGTH).enumerate() {
            let part = &filler[sentences * at / LENGTH..sentences * (at + 1) / LENGTH];
            turns.push(if part.is_empty() {
                (*request).to_owned()
            } else {
                format!(
                    "I was reading this: {} Now to you. {request}",
                    part.join(" ")
                )
            });
        }
        Dialogue {
            rule,
            system: system.clone(),
            turns,
            max_new_tokens: REPLY,
            length: spec.length,
        }
    };
    let size = |dialogue: &Dialogue| {
        let said = dialogue
            .turns
            .iter()
            .map(|turn| spec.count.count(turn) + REPLY);
        spec.count.count(&dialogue.system) + said.sum::<usize>()
    };
    fit(task, spec, 0, size, build)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Words, spec};
    use super::*;
    use crate::eval::haystack::Haystack;
    use crate::eval::size::Count;
    use std::collections::HashSet;

    fn of(seed: u64, length: usize) -> Dialogue {
        dialogue(&spec(&Haystack::bundled(), seed, length, None)).unwrap()
    }

    #[test]
    fn a_rule_and_twelve_turns() {
        let mut rules = HashSet::new();
        for seed in 0..60 {
            let dialogue = of(seed, 3000);
            assert_eq!(dialogue, of(seed, 3000));
            assert!(dialogue.system.contains(dialogue.rule.text()));
            assert_eq!(dialogue.turns.len(), 12);
            let requests: HashSet<&str> = TURNS
                .into_iter()
                .filter(|request| dialogue.turns.iter().any(|turn| turn.ends_with(request)))
                .collect();
            assert_eq!(requests.len(), 12);
            assert!(
                dialogue
                    .turns
                    .iter()
                    .all(|turn| !turn.contains(dialogue.rule.text()))
            );
            rules.insert(dialogue.rule);
        }
        assert_eq!(rules.len(), Rule::ALL.len());
    }

    #[test]
    fn filler_brings_it_to_its_length() {
        for length in [900, 1000, 1500, 4000, 9000] {
            let dialogue = of(3, length);
            let words = |text: &String| Words.count(text);
            let all = words(&dialogue.system)
                + dialogue
                    .turns
                    .iter()
                    .map(|turn| words(turn) + REPLY)
                    .sum::<usize>();
            assert!(all <= length && all + 40 > length, "{all} of {length}");
        }
        let Err(TaskError::TooShort { least, .. }) =
            dialogue(&spec(&Haystack::bundled(), 3, 100, None))
        else {
            panic!("12 turns fit into 100 tokens");
        };
        assert!(
            of(3, least)
                .turns
                .iter()
                .all(|turn| TURNS.contains(&turn.as_str()))
        );
    }

    #[test]
    fn obedience_is_a_share() {
        let mut dialogue = of(1, 2000);
        dialogue.rule = Rule::EndsWithOver;
        let replies = ["Yes. OVER", "No.", "OVER", "Maybe."].map(str::to_owned);
        assert_eq!(dialogue.obedience(&replies), 0.5);
        assert_eq!(dialogue.obedience(&[]), 0.0);
    }
}
