//! What a run will take of memory, before it begins.

use super::{TrainError, origin};
use crate::llama::ModelConfig;
use crate::store::{Library, Model};
use crate::train::memory::Footprint;
use crate::train::network::{NetworkError, has_head};
use crate::train::recipe::{Recipe, Stage};
use crate::train::scaling::Shape;

/// Tokens that a prompt of the stage rl counts as.
const PROMPT: u64 = 256;

/// An estimate of the memory that a run of `recipe` takes. Reads the header of its base model and no data.
///
/// # Errors
/// There is no such model, it has no shape, or rows do not fit its context.
pub fn footprint(library: &Library, recipe: &Recipe) -> Result<Footprint, TrainError> {
    let shape = shape(library, recipe)?;
    let row = match &recipe.rl {
        Some(rl) if recipe.stage == Stage::Rl => {
            (u64::from(rl.max_new_tokens) + PROMPT).min(shape.context)
        }
        _ => u64::from(origin::row_tokens(recipe, shape.context as usize)?),
    };
    Ok(Footprint::of(recipe, &shape, row))
}

fn shape(library: &Library, recipe: &Recipe) -> Result<Shape, TrainError> {
    let Some(base) = &recipe.model.base else {
        let section = recipe.tokenizer.as_ref().ok_or_else(origin::no_tokenizer)?;
        let tokens = match &section.from {
            Some(from) => Model::open(&library.find(from)?.path)?
                .tokenizer
                .vocab_size(),
            None => section.vocab_size as usize,
        };
        return Ok(Shape::of_depth(&recipe.model, tokens as u64)?);
    };
    let checkpoint = Model::open(&library.find(base)?.path)?.checkpoint;
    let config = ModelConfig::read(&checkpoint).map_err(NetworkError::from)?;
    Ok(origin::shape_of(&config, !has_head(&checkpoint)))
}
