//! The tasks by name.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test may panic"))]

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// What is measured. The order is part of the seed of samples: new tasks come last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Task {
    /// Perplexity of a text.
    Perplexity,
    /// KL divergence from full attention, over a text.
    Divergence,
    /// One fact in filler text.
    NeedleSingle,
    /// One of four facts of the same form.
    NeedleMultikey,
    /// Four values of one key.
    NeedleMultivalue,
    /// The pass key of landmark attention (<https://arxiv.org/abs/2305.16300>).
    Passkey,
    /// RULER: a number in noise.
    NiahSingle1,
    /// RULER: a number in essays.
    NiahSingle2,
    /// RULER: a uuid in essays.
    NiahSingle3,
    /// RULER: one of four numbers in essays.
    NiahMultikey1,
    /// RULER: a number among nothing but others.
    NiahMultikey2,
    /// RULER: variable tracking.
    VariableTracking,
    /// RULER: the most common of numbered words.
    CommonWords,
    /// RULER: the most frequent of coded words.
    FrequentWords,
    /// Five questions about one compressed context.
    Multiturn,
    /// A rule of the system prompt, obeyed over many turns.
    Instruction,
}

/// A word that names no task and no group.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "there is no task {word:?}: use one or more of ppl, kld, needle, ruler, multiturn, instruction, or of needle and ruler only {}",
    members()
)]
pub struct UnknownTask {
    word: String,
}

fn members() -> String {
    let names: Vec<_> = Group::Needle
        .tasks()
        .iter()
        .chain(Group::Ruler.tasks())
        .map(Task::name)
        .collect();
    names.join(", ")
}

impl Task {
    /// Every task.
    pub const ALL: [Task; 16] = [
        Task::Perplexity,
        Task::Divergence,
        Task::NeedleSingle,
        Task::NeedleMultikey,
        Task::NeedleMultivalue,
        Task::Passkey,
        Task::NiahSingle1,
        Task::NiahSingle2,
        Task::NiahSingle3,
        Task::NiahMultikey1,
        Task::NiahMultikey2,
        Task::VariableTracking,
        Task::CommonWords,
        Task::FrequentWords,
        Task::Multiturn,
        Task::Instruction,
    ];

    /// Its name on the command line and in results.
    pub fn name(&self) -> &'static str {
        match self {
            Task::Perplexity => "ppl",
            Task::Divergence => "kld",
            Task::NeedleSingle => "needle-single",
            Task::NeedleMultikey => "needle-multikey",
            Task::NeedleMultivalue => "needle-multivalue",
            Task::Passkey => "passkey",
            Task::NiahSingle1 => "niah_single_1",
            Task::NiahSingle2 => "niah_single_2",
            Task::NiahSingle3 => "niah_single_3",
            Task::NiahMultikey1 => "niah_multikey_1",
            Task::NiahMultikey2 => "niah_multikey_2",
            Task::VariableTracking => "vt",
            Task::CommonWords => "cwe",
            Task::FrequentWords => "fwe",
            Task::Multiturn => "multiturn",
            Task::Instruction => "instruction",
        }
    }

    /// Whether its samples have a needle whose depth can be chosen.
    pub fn has_depth(&self) -> bool {
        matches!(
            self,
            Task::NeedleSingle
                | Task::NeedleMultikey
                | Task::NeedleMultivalue
                | Task::Passkey
                | Task::NiahSingle1
                | Task::NiahSingle2
                | Task::NiahSingle3
                | Task::NiahMultikey1
                | Task::NiahMultikey2
        )
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Task {
    type Err = UnknownTask;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Task::ALL
            .into_iter()
            .find(|task| task.name() == word)
            .ok_or_else(|| UnknownTask {
                word: word.chars().take(60).collect(),
            })
    }
}

impl Serialize for Task {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

#[derive(Clone, Copy)]
enum Group {
    Needle,
    Ruler,
}

impl Group {
    fn tasks(self) -> &'static [Task] {
        match self {
            Group::Needle => &[
                Task::NeedleSingle,
                Task::NeedleMultikey,
                Task::NeedleMultivalue,
                Task::Passkey,
            ],
            Group::Ruler => &[
                Task::NiahSingle1,
                Task::NiahSingle2,
                Task::NiahSingle3,
                Task::NiahMultikey1,
                Task::NiahMultikey2,
                Task::VariableTracking,
                Task::CommonWords,
                Task::FrequentWords,
            ],
        }
    }
}

/// Tasks as asked for, each once: names and the groups `needle` and `ruler`, with commas between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskSet(Vec<Task>);

impl TaskSet {
    /// The tasks in the order asked for.
    pub fn tasks(&self) -> &[Task] {
        &self.0
    }
}

impl FromStr for TaskSet {
    type Err = UnknownTask;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut tasks: Vec<Task> = Vec::new();
        for word in text.split(',').map(str::trim) {
            let one;
            let named = match word {
                "needle" => Group::Needle.tasks(),
                "ruler" => Group::Ruler.tasks(),
                name => {
                    one = [name.parse()?];
                    &one
                }
            };
            for &task in named {
                if !tasks.contains(&task) {
                    tasks.push(task);
                }
            }
        }
        Ok(TaskSet(tasks))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for (at, task) in Task::ALL.into_iter().enumerate() {
            assert_eq!(task.to_string().parse::<Task>(), Ok(task));
            assert_eq!(task as usize, at);
        }
        assert_eq!(format!("[{:>5}]", Task::VariableTracking), "[   vt]");
        assert_eq!(
            serde_json::to_string(&Task::CommonWords).unwrap(),
            "\"cwe\""
        );
    }

    #[test]
    fn groups_are_spelled_out_once() {
        let names = |text: &str| {
            let set: TaskSet = text.parse().unwrap();
            set.tasks()
                .iter()
                .map(Task::name)
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(names("ppl"), "ppl");
        assert_eq!(
            names("passkey, needle,ppl"),
            "passkey needle-single needle-multikey needle-multivalue ppl"
        );
        assert_eq!(
            names("ruler"),
            "niah_single_1 niah_single_2 niah_single_3 niah_multikey_1 niah_multikey_2 vt cwe fwe"
        );
    }

    #[test]
    fn other_words_are_refused_with_the_known_ones() {
        for word in ["", "niah", "PPL", "needle,,ppl"] {
            let error = word.parse::<TaskSet>().unwrap_err().to_string();
            assert!(
                error.contains("needle-multivalue, passkey, niah_single_1"),
                "{error}"
            );
        }
    }
}
