//! Which recipe a run is of.

use std::path::PathBuf;

use super::RunsError;
use crate::train::recipe::{self, Loaded};
use crate::train::trainer::TrainError;

/// The endings of recipes' files.
const ENDINGS: [&str; 4] = ["toml", "yaml", "yml", "json"];

/// Where a recipe is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecipeSource {
    /// In one of the folders of recipes, by its file's name without the ending.
    Name(String),
    /// Here, as TOML.
    Text(String),
    /// In this file.
    File(PathBuf),
}

impl RecipeSource {
    /// What `text` is: a recipe in TOML, which has an `=`, or the name of one.
    pub fn told(text: &str) -> RecipeSource {
        match text.contains('=') {
            true => RecipeSource::Text(text.to_owned()),
            false => RecipeSource::Name(text.trim().to_owned()),
        }
    }

    /// Reads it, with `overrides`, each `key=value`; one that is named, from the first of `folders` that has it.
    ///
    /// # Errors
    /// There is none of this name, or what is wrong with it.
    pub fn load(&self, folders: &[PathBuf], overrides: &[String]) -> Result<Loaded, RunsError> {
        let loaded = match self {
            RecipeSource::Text(text) => recipe::parse("recipe.toml".as_ref(), text, overrides),
            RecipeSource::File(path) => recipe::load(path, overrides),
            RecipeSource::Name(name) => match find(folders, name) {
                Some(path) => recipe::load(&path, overrides),
                None => {
                    return Err(RunsError::NoRecipe {
                        name: name.clone(),
                        known: names(folders),
                    });
                }
            },
        };
        Ok(loaded.map_err(TrainError::from)?)
    }
}

/// The file of a name. A name is no path: nothing outside of the folders is read.
fn find(folders: &[PathBuf], name: &str) -> Option<PathBuf> {
    if !crate::train::runs::is_name(name) {
        return None;
    }
    let files = folders.iter().flat_map(|folder| {
        ENDINGS
            .iter()
            .map(move |ending| folder.join(name).with_extension(ending))
    });
    files.into_iter().find(|path| path.is_file())
}

fn names(folders: &[PathBuf]) -> Vec<String> {
    let entries = folders.iter().filter_map(|folder| folder.read_dir().ok());
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let ending = path.extension()?.to_str()?;
            let name = path.file_stem()?.to_str()?;
            (ENDINGS.contains(&ending) && find(folders, name).is_some()).then(|| name.to_owned())
        })
        .collect();
    names.sort();
    names.dedup();
    names
}
