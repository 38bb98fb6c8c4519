//! Looking at a recipe's data without training.

use super::TrainError;
use super::origin;
use super::supply::{self, Files};
use super::words::Words;
use crate::data::{self, Preview, Side, Validation};
use crate::store::{Library, Model};
use crate::train::recipe::Recipe;

/// The most problems of a source that are listed; all are counted.
const PROBLEMS: usize = 100;

/// Reads all records of a recipe's sources, and says what is wrong with which.
///
/// # Errors
/// A source that cannot be read at all.
pub fn validate(recipe: &Recipe) -> Result<Vec<(String, Validation)>, TrainError> {
    let files = Files::open(recipe)?;
    let sources = files.sources.iter();
    sources
        .map(|(name, dataset, _)| Ok((name.clone(), data::validate(dataset, None, PROBLEMS)?)))
        .collect()
}

/// The first samples of each of a recipe's sources as tokens. A new model's tokenizer is trained for it, and not kept.
///
/// # Errors
/// The model or a record cannot be read.
pub fn preview(
    library: &Library,
    recipe: &Recipe,
    samples: usize,
    tokens: usize,
) -> Result<Vec<Preview>, TrainError> {
    let files = Files::open(recipe)?;
    let words = match &recipe.model.base {
        Some(base) => Words::of(&Model::open(&library.find(base)?.path)?),
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
        previews.extend(Preview::of_dataset(
            dataset,
            Side::Whole,
            &encoder,
            samples,
            tokens,
        )?);
    }
    Ok(previews)
}
