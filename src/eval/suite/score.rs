//! The scores of a few items of one task.

use super::error::SuiteError;
use super::item::{Item, Question};
use super::judge::{Judge, JudgeError, Likelihood, Loss, Prompt};
use super::metric::Metric;
use super::sandbox::{Executor, Outcome};
use super::shots::examples;
use super::task::{Kind, Normalise, TaskSpec};
use crate::text::{Message, Role};

/// A task and its items.
pub(super) struct Loaded<'a> {
    pub spec: &'a TaskSpec,
    pub items: &'a [Item],
}

/// What one item gave.
pub(super) enum Score {
    Loss(Loss),
    /// The share of replies that were right.
    Right(f64),
}

impl Loaded<'_> {
    /// The scores of `asked`, pairs of a place in the order and the item there.
    pub fn score(
        &self,
        judge: &mut dyn Judge,
        executor: Option<&dyn Executor>,
        asked: &[(usize, usize)],
    ) -> Result<Vec<Score>, SuiteError> {
        let judged = |source: JudgeError| SuiteError::Judge {
            task: self.spec.name.clone(),
            source,
        };
        let items: Vec<&Item> = asked
            .iter()
            .filter_map(|&(_, item)| self.items.get(item))
            .collect();
        match &self.spec.kind {
            Kind::Loss => {
                let texts = items.iter().filter_map(|item| match &item.question {
                    Question::Text(text) => Some(text.clone()),
                    _ => None,
                });
                let losses = judge.losses(&texts.collect::<Vec<_>>()).map_err(judged)?;
                self.answered(losses.len(), items.len())?;
                Ok(losses.into_iter().map(Score::Loss).collect())
            }
            Kind::MultipleChoice { normalise } | Kind::Schema { normalise } => {
                let sets: Vec<(Vec<(String, String)>, usize)> =
                    asked.iter().filter_map(|&at| self.choices(at)).collect();
                let pairs: Vec<_> = sets.iter().flat_map(|(pairs, _)| pairs.clone()).collect();
                let likelihoods = judge.likelihoods(&pairs).map_err(judged)?;
                self.answered(likelihoods.len(), pairs.len())?;
                let mut rest = likelihoods.as_slice();
                let mut scores = Vec::new();
                for (pairs, gold) in &sets {
                    let (mine, others) = rest.split_at(pairs.len());
                    rest = others;
                    scores.push(right(best(mine, pairs, *normalise) == Some(*gold)));
                }
                Ok(scores)
            }
            Kind::Generation {
                metric: Metric::Greedy,
                ..
            } => {
                let pairs: Vec<(String, String)> = asked
                    .iter()
                    .filter_map(|&at| {
                        let (prompt, answer) = self.items.get(at.1)?.shown(&self.spec.delimiter)?;
                        Some((self.shots(at) + &prompt, answer))
                    })
                    .collect();
                let likelihoods = judge.likelihoods(&pairs).map_err(judged)?;
                self.answered(likelihoods.len(), items.len())?;
                Ok(likelihoods
                    .iter()
                    .map(|likelihood| right(likelihood.greedy))
                    .collect())
            }
            Kind::Generation { metric, options } | Kind::Chat { metric, options } => {
                let prompts: Vec<Prompt> = asked.iter().filter_map(|&at| self.prompt(at)).collect();
                let replies = judge.generate(&prompts, options).map_err(judged)?;
                self.answered(replies.len(), items.len())?;
                let score = |(item, replies): (&&Item, Vec<String>)| {
                    self.answered(replies.len(), options.samples)?;
                    let answers = match &item.question {
                        Question::Reply { answers, .. } => answers.as_slice(),
                        _ => &[],
                    };
                    let hits = replies
                        .iter()
                        .filter(|reply| metric.matches(reply, answers));
                    Ok(Score::Right(hits.count() as f64 / options.samples as f64))
                };
                items.iter().zip(replies).map(score).collect()
            }
            Kind::Code {
                options, program, ..
            } => {
                let executor = executor.ok_or_else(|| SuiteError::NoSandbox {
                    task: self.spec.name.clone(),
                })?;
                let prompts: Vec<Prompt> = asked.iter().filter_map(|&at| self.prompt(at)).collect();
                let replies = judge.generate(&prompts, options).map_err(judged)?;
                self.answered(replies.len(), items.len())?;
                let mut scores = Vec::new();
                for (item, replies) in items.iter().zip(replies) {
                    self.answered(replies.len(), options.samples)?;
                    let mut hits = 0;
                    for reply in &replies {
                        let mut fields = item.fields.clone();
                        fields.insert("reply".to_owned(), code_in(reply).into());
                        let program = program.fill(&fields).map_err(|why| SuiteError::Invalid {
                            at: item.at.clone(),
                            why,
                        })?;
                        let ended =
                            executor
                                .run(&program)
                                .map_err(|source| SuiteError::Sandbox {
                                    task: self.spec.name.clone(),
                                    source,
                                })?;
                        hits += usize::from(ended.outcome == Outcome::Success);
                    }
                    scores.push(Score::Right(hits as f64 / options.samples as f64));
                }
                Ok(scores)
            }
        }
    }

    fn answered(&self, given: usize, asked: usize) -> Result<(), SuiteError> {
        match given == asked {
            true => Ok(()),
            false => Err(SuiteError::Answers {
                task: self.spec.name.clone(),
                given,
                asked,
            }),
        }
    }

    /// The examples of an item, each with a blank line after it.
    fn shots(&self, at: (usize, usize)) -> String {
        let shown = self
            .example_items(at)
            .filter_map(|item| item.shown(&self.spec.delimiter));
        shown
            .map(|(prompt, answer)| format!("{prompt}{answer}\n\n"))
            .collect()
    }

    fn example_items(&self, (place, item): (usize, usize)) -> impl Iterator<Item = &Item> {
        let chosen = examples(self.items.len(), item, place, self.spec.shots);
        chosen.into_iter().filter_map(|other| self.items.get(other))
    }

    /// The pairs to compare and which is right.
    fn choices(&self, at: (usize, usize)) -> Option<(Vec<(String, String)>, usize)> {
        let shots = self.shots(at);
        let delimiter = &self.spec.delimiter;
        match &self.items.get(at.1)?.question {
            Question::Choice {
                prompt,
                choices,
                gold,
            } => {
                let pair = |choice| (format!("{shots}{prompt}"), format!("{delimiter}{choice}"));
                Some((choices.iter().map(pair).collect(), *gold))
            }
            Question::Schema {
                contexts,
                continuation,
                gold,
            } => {
                let pair = |context| {
                    (
                        format!("{shots}{context}"),
                        format!("{delimiter}{continuation}"),
                    )
                };
                Some((contexts.iter().map(pair).collect(), *gold))
            }
            _ => None,
        }
    }

    fn prompt(&self, at: (usize, usize)) -> Option<Prompt> {
        let (Question::Reply { prompt, .. } | Question::Code { prompt }) =
            &self.items.get(at.1)?.question
        else {
            return None;
        };
        let chats = matches!(
            self.spec.kind,
            Kind::Chat { .. } | Kind::Code { chat: true, .. }
        );
        if !chats {
            return Some(Prompt::Text(self.shots(at) + prompt));
        }
        let mut messages = Vec::new();
        for (question, answer) in self.example_items(at).filter_map(|item| item.shown("")) {
            messages.push(Message::new(Role::User, question));
            messages.push(Message::new(Role::Assistant, answer));
        }
        messages.push(Message::new(Role::User, prompt));
        Some(Prompt::Chat(messages))
    }
}

fn right(is: bool) -> Score {
    Score::Right(if is { 1.0 } else { 0.0 })
}

/// The most probable pair; the first of equals.
fn best(
    likelihoods: &[Likelihood],
    pairs: &[(String, String)],
    normalise: Normalise,
) -> Option<usize> {
    let measure = |(likelihood, (_, continuation)): (&Likelihood, &(String, String))| {
        let by = match normalise {
            Normalise::Tokens => likelihood.tokens as f64,
            Normalise::Bytes => continuation.len() as f64,
            Normalise::None => 1.0,
        };
        likelihood.log_probability / by.max(1.0)
    };
    let measures = likelihoods.iter().zip(pairs).map(measure).enumerate();
    measures
        .reduce(|best, next| if next.1 > best.1 { next } else { best })
        .map(|(at, _)| at)
}

/// The first fenced block of a reply, or all of it.
fn code_in(reply: &str) -> &str {
    let Some((_, after)) = reply.split_once("```") else {
        return reply;
    };
    let body = after.split_once('\n').map_or("", |(_, body)| body);
    body.split("```").next().unwrap_or(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_taken_from_its_fence() {
        for (reply, code) in [
            ("    return 1\n", "    return 1\n"),
            ("Sure:\n```python\nx = 1\n```\nDone.", "x = 1\n"),
            ("```\nx\n", "x\n"),
            ("```", ""),
        ] {
            assert_eq!(code_in(reply), code);
        }
    }

    #[test]
    fn normalising_changes_the_best() {
        let likelihood = |log_probability, tokens| Likelihood {
            log_probability,
            tokens,
            greedy: false,
        };
        let likelihoods = [
            likelihood(-2.0, 1),
            likelihood(-3.0, 3),
            likelihood(-4.0, 2),
        ];
        let pairs = ["ab", "abc", "abcdefghij"].map(|text| (String::new(), text.to_owned()));
        for (normalise, at) in [
            (Normalise::None, 0),
            (Normalise::Tokens, 1),
            (Normalise::Bytes, 2),
        ] {
            assert_eq!(best(&likelihoods, &pairs, normalise), Some(at));
        }
        assert_eq!(best(&[], &[], Normalise::None), None);
    }
}
