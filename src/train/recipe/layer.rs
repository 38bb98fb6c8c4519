//! Keys and values with their places: a file's, then the overrides on top.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value as Json};

use super::llamahome::{self, Meaning, Unused};
use super::node::{Node, Table, Value};
use super::overrides::Override;
use super::schema::Keys;
use super::{Place, RecipeError};

/// The keys that were given, each with its value and its place.
#[derive(Debug, Default)]
pub(super) struct Layer {
    pub given: BTreeMap<String, (Node, Place)>,
    pub unused: Vec<Unused>,
}

impl Layer {
    /// The keys of a file.
    pub fn of_file(keys: &Keys, path: &Path, table: Table) -> Result<Layer, RecipeError> {
        let mut layer = Layer::default();
        let foreign = llamahome::is_its_own(table.iter().map(|(key, _)| key.as_str()));
        let mut flat = Vec::new();
        flatten(keys, foreign, "", table, path, &mut flat)?;
        let present: Vec<String> = flat.iter().map(|(key, _)| key.clone()).collect();
        for (key, node) in flat {
            let place = Place::File {
                path: path.to_owned(),
                line: node.line,
            };
            match llamahome::meaning(&key).filter(|_| foreign) {
                Some(meaning) => layer.translate(keys, key, node, place, meaning, &present)?,
                None => layer.set(keys, key, node, place)?,
            }
        }
        layer.drop_disabled();
        Ok(layer)
    }

    /// Sets the key of an override, or makes it absent.
    pub fn override_with(&mut self, keys: &Keys, given: Override) -> Result<(), RecipeError> {
        let place = Place::Override { text: given.text };
        if keys.has_section(&given.path) && given.node.value == Value::Null {
            let prefix = format!("{}.", given.path);
            self.given.retain(|key, _| !key.starts_with(&prefix));
            return Ok(());
        }
        self.given.remove(&given.path);
        if given.node.value == Value::Null && keys.find(&given.path).is_some() {
            return Ok(());
        }
        self.set(keys, given.path, given.node, place)
    }

    fn set(
        &mut self,
        keys: &Keys,
        path: String,
        mut node: Node,
        place: Place,
    ) -> Result<(), RecipeError> {
        let Some(key) = keys.find(&path) else {
            return Err(match keys.has_section(&path) {
                true => RecipeError::BadValue {
                    place,
                    reason: format!("is a section: write its keys, such as {path}.NAME"),
                    key: path,
                    closest: None,
                },
                false => keys.unknown(place, &path),
            });
        };
        keys.check(key, &mut node, &place)?;
        if let Some((_, other)) = self.given.get(&path) {
            return Err(RecipeError::Conflict {
                reason: format!("{other} says it, too: keep one of the two"),
                key: path,
                place,
            });
        }
        if node.value != Value::Null {
            self.given.insert(path, (node, place));
        }
        Ok(())
    }

    fn translate(
        &mut self,
        keys: &Keys,
        key: String,
        mut node: Node,
        place: Place,
        meaning: Meaning,
        present: &[String],
    ) -> Result<(), RecipeError> {
        let to = match meaning {
            Meaning::Nothing(reason) => {
                self.unused.push(Unused {
                    key,
                    place,
                    reason: reason.to_owned(),
                });
                return Ok(());
            }
            Meaning::Unless(_, first) if present.iter().any(|key| key == first) => {
                self.unused.push(Unused {
                    key,
                    place,
                    reason: format!("{first} says it, and goes first"),
                });
                return Ok(());
            }
            Meaning::Is(to) | Meaning::Unless(to, _) => to,
            Meaning::Precision => {
                if let Value::Bool(mixed) = node.value {
                    let precision = if mixed { "bf16" } else { "fp32" };
                    node.value = Value::Text(precision.to_owned());
                }
                "precision"
            }
            Meaning::Enabled(section) => {
                if node.value == Value::Bool(false) {
                    self.unused.push(Unused {
                        key: section.trim_end_matches('.').to_owned(),
                        place,
                        reason: "it is not enabled".to_owned(),
                    });
                }
                return Ok(());
            }
        };
        // LlamaHome writes `max_steps: null` for a number that is not set.
        if node.value == Value::Null {
            return Ok(());
        }
        self.set(keys, to.to_owned(), node, place)
    }

    /// Takes out what stood in a section that is not enabled.
    fn drop_disabled(&mut self) {
        let off = |unused: &Unused| unused.key == "training.early_stopping";
        if self.unused.iter().any(off) {
            self.given
                .retain(|key, _| !key.starts_with("early_stopping."));
        }
    }

    /// The keys as one JSON object of sections.
    pub fn json(&self) -> Result<Json, RecipeError> {
        let mut tree = Map::new();
        for (path, (node, _)) in &self.given {
            let finite = || RecipeError::Compose(format!("{path} is not finite"));
            let value = node.json().ok_or_else(finite)?;
            match path.split_once('.') {
                None => {
                    tree.insert(path.clone(), value);
                }
                Some((section, name)) => {
                    let section = tree.entry(section).or_insert_with(|| Map::new().into());
                    if let Json::Object(section) = section {
                        section.insert(name.to_owned(), value);
                    }
                }
            }
        }
        Ok(Json::Object(tree))
    }
}

/// Writes the tables of a file out as paths. A table of no known section is unknown as such.
fn flatten(
    keys: &Keys,
    foreign: bool,
    prefix: &str,
    table: Table,
    file: &Path,
    flat: &mut Vec<(String, Node)>,
) -> Result<(), RecipeError> {
    for (key, node) in table {
        let path = match prefix {
            "" => key,
            prefix => format!("{prefix}.{key}"),
        };
        let is_key = keys.find(&path).is_some() || (foreign && llamahome::meaning(&path).is_some());
        let is_section = keys.has_section(&path) || (foreign && llamahome::is_section(&path));
        let line = node.line;
        match node.value {
            Value::Table(inner) if is_section && !is_key => {
                flatten(keys, foreign, &path, inner, file, flat)?;
            }
            // An empty section of YAML.
            Value::Null if is_section => {}
            value if is_key || is_section => flat.push((path, Node { line, value })),
            _ => {
                let place = Place::File {
                    path: file.to_owned(),
                    line,
                };
                return Err(unknown(keys, foreign, place, &path));
            }
        }
    }
    Ok(())
}

fn unknown(keys: &Keys, foreign: bool, place: Place, path: &str) -> RecipeError {
    let near = super::error::closest(path, llamahome::keys());
    match keys.unknown(place, path) {
        RecipeError::UnknownKey { place, key, .. } if foreign && near.is_some() => {
            RecipeError::UnknownKey {
                place,
                key,
                closest: near,
            }
        }
        error => error,
    }
}
