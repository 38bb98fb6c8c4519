//! A recipe from its file and overrides.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::layer::Layer;
use super::llamahome::Unused;
use super::rules::Rules;
use super::schema::Keys;
use super::{KeepBest, Place, Recipe, RecipeError, Stage, overrides, syntax};

/// A recipe, and what is to be told of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The recipe.
    pub recipe: Recipe,
    /// For each key (`optim.lr`), where its value came from.
    pub places: BTreeMap<String, Place>,
    /// Keys of another program's file that have no meaning here. To be shown to the user.
    pub unused: Vec<Unused>,
}

/// Reads the recipe at `path` (TOML, YAML or JSON, by its extension) and applies `overrides`, each `key=value`.
///
/// # Errors
/// The first thing wrong, with its file and line or the override.
pub fn load(path: &Path, overrides: &[String]) -> Result<Loaded, RecipeError> {
    let text = fs::read_to_string(path).map_err(|source| RecipeError::Read {
        path: path.to_owned(),
        source,
    })?;
    parse(path, &text, overrides)
}

/// The same for a text that is at hand; `path` names it in errors, and its extension the format.
///
/// # Errors
/// As [`load`].
pub fn parse(path: &Path, text: &str, overrides: &[String]) -> Result<Loaded, RecipeError> {
    let keys = Keys::new();
    let mut layer = Layer::of_file(&keys, path, syntax::parse(path, text)?)?;
    for given in overrides {
        layer.override_with(&keys, overrides::read(given)?)?;
    }
    if !layer.given.contains_key("stage") {
        let foreign = !layer.unused.is_empty();
        return Err(RecipeError::Missing {
            path: path.to_owned(),
            key: "stage".to_owned(),
            reason: match foreign {
                true => "files of LlamaHome do not say what to train: add stage, model.base and data.path, or give them as overrides".to_owned(),
                false => "say pretrain, sft, lora, qlora or rl".to_owned(),
            },
        });
    }
    let mut recipe: Recipe = serde_json::from_value(layer.json()?)
        .map_err(|error| RecipeError::Compose(error.to_string()))?;
    with_sections(&mut recipe, &layer);
    Rules {
        path,
        recipe: &recipe,
        layer: &layer,
    }
    .check()?;
    let mut places: BTreeMap<String, Place> = keys
        .all
        .iter()
        .map(|key| (key.path.clone(), Place::Default))
        .collect();
    for (key, (_, place)) in layer.given {
        places.insert(key, place);
    }
    Ok(Loaded {
        recipe,
        places,
        unused: layer.unused,
    })
}

/// Adds the sections that the stage has, with their defaults.
fn with_sections(recipe: &mut Recipe, layer: &Layer) {
    let new = recipe.model.base.is_none();
    match recipe.stage {
        Stage::Pretrain if new => {
            recipe.tokenizer.get_or_insert_default();
        }
        Stage::Pretrain | Stage::Sft => {}
        Stage::Lora => {
            recipe.lora.get_or_insert_default();
        }
        Stage::Qlora => {
            recipe.lora.get_or_insert_default();
            recipe.quantisation.get_or_insert_default();
        }
        Stage::Rl => {
            recipe.rl.get_or_insert_default();
        }
    }
    if !layer.given.contains_key("checkpoint.keep_best") {
        recipe.checkpoint.keep_best = match recipe.stage {
            Stage::Rl => KeepBest::Reward,
            _ if recipe.data.validates() => KeepBest::Loss,
            _ => KeepBest::Off,
        };
    }
}
