//! A judge without a model.

use super::judge::{GenerateOptions, Judge, JudgeError, Likelihood, Loss, Prompt};
use super::sandbox::{Execution, Executor, Outcome, SandboxError};

/// Answers by rules that tests can foretell, and remembers what it was asked.
#[derive(Default)]
pub struct Fake {
    /// What it was asked, as text.
    pub asked: Vec<String>,
    /// Its reply to any prompt, in the order of samples, over and over.
    pub replies: Vec<String>,
    /// The size of the vocabulary over which it is uniform.
    pub vocabulary: f64,
    /// Whether it swallows an answer.
    pub short: bool,
}

impl Fake {
    fn cut<T>(&self, mut answers: Vec<T>) -> Vec<T> {
        if self.short {
            answers.pop();
        }
        answers
    }
}

impl Judge for Fake {
    /// Uniform over the vocabulary, two bytes a token; "broken" breaks it.
    fn losses(&mut self, texts: &[String]) -> Result<Vec<Loss>, JudgeError> {
        let mut losses = Vec::new();
        for (index, text) in texts.iter().enumerate() {
            if text == "broken" {
                return Err(JudgeError::TooLong {
                    index,
                    tokens: 9,
                    context: 8,
                });
            }
            self.asked.push(text.clone());
            let tokens = text.len() as u64 / 2;
            losses.push(Loss {
                nats: tokens as f64 * self.vocabulary.ln(),
                bytes: tokens * 2,
                tokens,
            });
        }
        Ok(self.cut(losses))
    }

    /// A pair that holds "gold" on either side is the most probable, and greedy.
    fn likelihoods(&mut self, pairs: &[(String, String)]) -> Result<Vec<Likelihood>, JudgeError> {
        let mut likelihoods = Vec::new();
        for (context, continuation) in pairs {
            self.asked.push(format!("{context}|{continuation}"));
            let last = context.rsplit("\n\n").next().unwrap_or(context);
            let gold = last.contains("gold") || continuation.contains("gold");
            likelihoods.push(Likelihood {
                log_probability: if gold { -1.0 } else { -2.0 },
                tokens: 1,
                greedy: gold,
            });
        }
        Ok(self.cut(likelihoods))
    }

    fn generate(
        &mut self,
        prompts: &[Prompt],
        options: &GenerateOptions,
    ) -> Result<Vec<Vec<String>>, JudgeError> {
        for prompt in prompts {
            self.asked.push(match prompt {
                Prompt::Text(text) => text.clone(),
                Prompt::Chat(messages) => {
                    let said = messages
                        .iter()
                        .map(|m| format!("{:?}: {}", m.role, m.content));
                    said.collect::<Vec<_>>().join("; ")
                }
            });
        }
        let replies = self.replies.iter().cycle().take(options.samples).cloned();
        let replies: Vec<String> = replies.collect();
        Ok(self.cut(vec![replies; prompts.len()]))
    }
}

/// Says that a program succeeds where it holds "good".
pub struct Reader;

impl Executor for Reader {
    fn run(&self, program: &str) -> Result<Execution, SandboxError> {
        if program.contains("unguarded") {
            return Err(SandboxError::Unguarded {
                missing: "seccomp".to_owned(),
            });
        }
        let outcome = if program.contains("good") {
            Outcome::Success
        } else {
            Outcome::TimedOut
        };
        Ok(Execution {
            outcome,
            stdout: String::new(),
            stderr: String::new(),
            truncated: false,
        })
    }
}
