//! Looking at a recipe's data without training.

use std::fmt;

use serde::Serialize;

use super::TrainError;
use super::asking::{self, Asking};
use super::origin;
use super::supply::{self, Files};
use super::words::Words;
use crate::data::{self, Preview, Side, Validation};
use crate::eval::suite::{Reward, Split};
use crate::store::{Library, Model};
use crate::text::{Controls, Message};
use crate::train::recipe::{Recipe, Stage};

/// The most problems of a source that are listed; all are counted.
const PROBLEMS: usize = 100;

/// What a step learns from, to look at.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Looked {
    /// A sample of data.
    Sample(Preview),
    /// A prompt of the stage rl.
    Prompt(PromptPreview),
}

/// A prompt, and how answers to it are scored.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PromptPreview {
    /// What the model is asked.
    pub messages: Vec<Message>,
    /// The same as the model reads it.
    pub prompt: String,
    /// Its tokens.
    pub tokens: usize,
    /// Some answers, and what each is worth.
    pub scored: Vec<(String, Reward)>,
}

impl fmt::Display for Looked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Looked::Sample(preview) => preview.fmt(f),
            Looked::Prompt(prompt) => prompt.fmt(f),
        }
    }
}

impl fmt::Display for PromptPreview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} tokens | {:?}", self.tokens, self.prompt)?;
        for (answer, reward) in &self.scored {
            let parts = reward.parts.iter();
            let parts: Vec<String> = parts.map(|(name, part)| format!("{name} {part}")).collect();
            let (value, parts) = (reward.value, parts.join(", "));
            writeln!(f, "reward {value:.2} ({parts}) | {answer:?}")?;
        }
        Ok(())
    }
}

/// Reads all records of a recipe's sources, and says what is wrong with which. In the stage rl the source is the task,
/// whose problems are the records.
///
/// # Errors
/// A source that cannot be read at all; the first thing wrong with the file of a task.
pub fn validate(recipe: &Recipe) -> Result<Vec<(String, Validation)>, TrainError> {
    if recipe.stage == Stage::Rl {
        let task = asking::task(recipe)?;
        let records = task.len(Split::Train) + task.len(Split::HeldOut);
        let rl = recipe.rl.as_ref();
        let found = Validation {
            files: u64::from(rl.is_some_and(|rl| rl.path.is_some())),
            records: records as u64,
            ..Validation::default()
        };
        return Ok(vec![(task.name().to_owned(), found)]);
    }
    let files = Files::open(recipe)?;
    let sources = files.sources.iter();
    sources
        .map(|(name, dataset, _)| Ok((name.clone(), data::validate(dataset, None, PROBLEMS)?)))
        .collect()
}

/// The first samples of each of a recipe's sources as tokens. A new model's tokenizer is trained for it, and not kept. In
/// the stage rl, the first prompts with what answers to them are worth.
///
/// # Errors
/// The model or a record cannot be read.
pub fn preview(
    library: &Library,
    recipe: &Recipe,
    samples: usize,
    tokens: usize,
) -> Result<Vec<Looked>, TrainError> {
    let base = match &recipe.model.base {
        Some(base) => Some(Words::of(&Model::open(&library.find(base)?.path)?)),
        None => None,
    };
    if let (Stage::Rl, Some(words)) = (recipe.stage, &base) {
        return prompts(recipe, words, samples);
    }
    let files = Files::open(recipe)?;
    let words = match base {
        Some(words) => words,
        None => {
            let section = recipe.tokenizer.as_ref().ok_or_else(origin::no_tokenizer)?;
            let folder = tempfile::tempdir().map_err(TrainError::io(std::env::temp_dir()))?;
            let datasets: Vec<_> = files
                .sources
                .iter()
                .map(|(_, dataset, _)| dataset)
                .collect();
            Words::of_new(library, section, &datasets, folder.path(), &mut |_| {})?
        }
    };
    let encoder = supply::encoder(recipe, &words, recipe.data.max_length)?;
    let mut previews = Vec::new();
    for (_, dataset, _) in &files.sources {
        let shown = Preview::of_dataset(dataset, Side::Whole, &encoder, samples, tokens)?;
        previews.extend(shown.into_iter().map(Looked::Sample));
    }
    Ok(previews)
}

fn prompts(recipe: &Recipe, words: &Words, count: usize) -> Result<Vec<Looked>, TrainError> {
    let task = asking::task(recipe)?;
    let asking = Asking::new(recipe, words)?;
    let problems = (0..count).map_while(|index| task.problem(Split::Train, index));
    let look = |problem| -> Result<Looked, TrainError> {
        let ids = asking.prompt(&problem)?;
        let right = task.solution(&problem);
        // The answer of another problem is wrong, or right by chance; the bare answer lacks the format.
        let other = task.problem(Split::HeldOut, 0);
        let wrong = other.map(|other| task.solution(&other));
        let bare = Some(problem.answer.clone());
        let answers = [Some(right), wrong, bare].into_iter().flatten();
        Ok(Looked::Prompt(PromptPreview {
            prompt: words.tokenizer.decode(&ids, Controls::Keep),
            tokens: ids.len(),
            scored: answers
                .map(|answer| {
                    let reward = task.score(&problem, &answer);
                    (answer, reward)
                })
                .collect(),
            messages: problem.messages,
        }))
    };
    problems.map(look).collect()
}
