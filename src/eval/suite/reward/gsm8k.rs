//! Grade-school problems from a file.

use std::fs;
use std::path::Path;

use serde::Deserialize;

use super::super::calculator::Markers;
use super::super::metric::last_number;
use super::problem::{Problem, Reward, RewardError, RewardTask, Split, place, share};
use crate::text::{Message, Role};

/// Problems in the form of GSM8K (<https://arxiv.org/abs/2110.14168>): JSONL with `question` and `answer`, whose
/// answer ends with `#### 42`. A reply gives its own number after `####`, and may call the calculator as the solutions
/// do, `<<48/2=24>>`. Every tenth problem is held out.
#[derive(Debug, Clone, PartialEq)]
pub struct Gsm8k {
    problems: Vec<Problem>,
    partial: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    question: String,
    answer: String,
}

impl Gsm8k {
    /// Reads the file; `partial` is the reward of a number after `####` that is wrong.
    ///
    /// # Errors
    /// A file that cannot be read or holds no problem, or a line of another form.
    pub fn open(path: &Path, partial: f64) -> Result<Self, RewardError> {
        let text = fs::read_to_string(path).map_err(|source| RewardError::Read {
            path: path.to_owned(),
            source,
        })?;
        let mut problems = Vec::new();
        let lines = text.lines().enumerate();
        for (number, line) in lines.filter(|(_, line)| !line.trim().is_empty()) {
            let fault = |why: String| RewardError::Line {
                path: path.to_owned(),
                line: number + 1,
                why,
            };
            let line: Line = serde_json::from_str(line)
                .map_err(|e| fault(format!("not an object with question and answer: {e}")))?;
            let answer = final_number(&line.answer).ok_or_else(|| {
                fault("field answer does not end with #### and a number".to_owned())
            })?;
            let question = format!(
                "{}\nEnd your answer with #### and the number.",
                line.question.trim()
            );
            problems.push(Problem {
                messages: vec![Message::new(Role::User, question)],
                answer,
            });
        }
        if problems.is_empty() {
            return Err(RewardError::Line {
                path: path.to_owned(),
                line: 1,
                why: "the file holds no problem".to_owned(),
            });
        }
        Ok(Gsm8k { problems, partial })
    }
}

impl RewardTask for Gsm8k {
    fn name(&self) -> &str {
        "gsm8k"
    }

    fn len(&self, split: Split) -> usize {
        share(split, self.problems.len())
    }

    fn problem(&self, split: Split, index: usize) -> Option<Problem> {
        let at = place(split, index, self.problems.len())?;
        self.problems.get(at).cloned()
    }

    fn solution(&self, problem: &Problem) -> String {
        format!("#### {}", problem.answer)
    }

    fn score(&self, problem: &Problem, reply: &str) -> Reward {
        let answer = final_number(reply);
        let right = answer.as_ref() == Some(&problem.answer);
        Reward::of(answer.is_some(), right, self.partial)
    }

    fn calculator(&self) -> Option<Markers> {
        Some(Markers::gsm8k())
    }
}

/// The first number after the last `####`.
fn final_number(text: &str) -> Option<String> {
    let (_, after) = text.rsplit_once("####")?;
    let word = after.split_whitespace().next()?;
    last_number(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_are_read_and_scored() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let line = |n: usize| {
            format!(
                "{{\"question\": \"q{n}\", \"answer\": \"<<{n}*1000={n}000>>\\n#### {n},000\"}}\n"
            )
        };
        fs::write(file.path(), (1..=20).map(line).collect::<String>()).unwrap();
        let task = Gsm8k::open(file.path(), 0.1).unwrap();
        assert_eq!((task.len(Split::Train), task.len(Split::HeldOut)), (18, 2));
        assert_eq!(task.calculator(), Some(Markers::gsm8k()));
        let problem = task.problem(Split::HeldOut, 0).unwrap();
        assert_eq!(problem.answer, "10000");
        assert!(problem.messages[0].content.starts_with("q10\n"));
        for (reply, value) in [
            ("so\n#### 10,000", 1.0),
            ("#### $10000. Done in 2 steps", 1.0),
            ("#### 10", 0.1),
            ("10000", 0.0),
            ("#### ten", 0.0),
            ("####", 0.0),
        ] {
            assert_eq!(task.score(&problem, reply).value, value, "{reply}");
        }
    }

    #[test]
    fn faults_name_file_and_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (text, fault) in [
            ("", ":1: the file holds no problem"),
            ("\n{\"question\": \"q\"}\n", ":2: not an object"),
            (
                "{\"question\": \"q\", \"answer\": \"4\"}\n",
                ":1: field answer",
            ),
        ] {
            fs::write(file.path(), text).unwrap();
            let error = Gsm8k::open(file.path(), 0.0).unwrap_err().to_string();
            assert!(error.contains(fault), "{error}");
        }
        let error = Gsm8k::open(Path::new("/nonexistent/x.jsonl"), 0.0).unwrap_err();
        assert!(matches!(error, RewardError::Read { .. }));
    }
}
