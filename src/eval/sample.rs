//! One sample of a task: a context to compress, and what is asked about it afterwards.

use serde::Serialize;

use super::size::Count;
use super::task::Task;

/// A context and the questions about it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sample {
    /// The task it belongs to.
    pub task: Task,
    /// What is read first and compressed, the task's introduction included; without the questions.
    pub context: String,
    /// What is asked once the context is compressed, each in its turn.
    pub questions: Vec<Question>,
    /// Where the queried needle was asked to be, as a share of the context: 0 at its start, 1 at its end.
    pub depth: Option<f32>,
    /// The tokens asked for: context, questions and replies together do not exceed them.
    pub length: usize,
}

/// What is asked about a context.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Question {
    /// The question.
    pub text: String,
    /// What a right reply contains.
    pub answers: Vec<String>,
    /// How the reply begins ("The pass key is"); fed to the model as part of the question. It begins with a space.
    pub answer_prefix: String,
    /// The most tokens of a reply.
    pub max_new_tokens: usize,
}

impl Question {
    /// What is fed after the context: the question on a line of its own and the beginning of its answer.
    pub fn prompt(&self) -> String {
        format!("\n{}{}", self.text, self.answer_prefix)
    }

    /// What follows the prompt in a right reply, for the likelihood and the rank of the answer: the answers in their
    /// order with commas between them, after a space if the prompt ends without one.
    pub fn target(&self) -> String {
        let space = if self.answer_prefix.ends_with(' ') {
            ""
        } else {
            " "
        };
        format!("{space}{}", self.answers.join(", "))
    }
}

impl Sample {
    /// Tokens of the context, of all questions and of the longest replies to them.
    pub fn size(&self, count: &dyn Count) -> usize {
        let questions: usize = self
            .questions
            .iter()
            .map(|question| count.count(&question.prompt()) + question.max_new_tokens)
            .sum();
        count.count(&self.context) + questions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompt_and_target_join_with_one_space() {
        for (prefix, target) in [(" They are", " a, b"), (" They are: ", "a, b")] {
            let question = Question {
                text: "Which?".to_owned(),
                answers: vec!["a".to_owned(), "b".to_owned()],
                answer_prefix: prefix.to_owned(),
                max_new_tokens: 5,
            };
            assert_eq!(question.prompt(), format!("\nWhich?{prefix}"));
            assert_eq!(question.target(), target);
        }
    }

    #[test]
    fn every_question_and_reply_counts() {
        struct Bytes;
        impl Count for Bytes {
            fn count(&self, text: &str) -> usize {
                text.len()
            }
        }
        let question = Question {
            text: "ab".to_owned(),
            answers: vec![],
            answer_prefix: " c".to_owned(),
            max_new_tokens: 10,
        };
        let sample = Sample {
            task: Task::Multiturn,
            context: "xyz".to_owned(),
            questions: vec![question.clone(), question],
            depth: None,
            length: 0,
        };
        assert_eq!(sample.size(&Bytes), 3 + 2 * (5 + 10));
    }
}
