//! The catalogue: well-known models by name, from `.config/models.json`.
//!
//! The file maps a model's name to `formats`, `versions`, `default_version`, `description` and
//! `license`; a version has `source`, `min_memory` (GiB) and, where known, `sha256` and `size`.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::closest;
use super::{Source, StoreError, hf_folder};

const BUILT_IN: &str = include_str!("../../.config/models.json");
const MODEL_KEYS: [&str; 5] = [
    "formats",
    "versions",
    "default_version",
    "description",
    "license",
];
const VERSION_KEYS: [&str; 4] = ["source", "sha256", "size", "min_memory"];

/// Models by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Catalog {
    models: BTreeMap<String, CatalogModel>,
}

/// One model of the catalogue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CatalogModel {
    /// The file formats of its versions.
    pub formats: Vec<Format>,
    /// The versions by name.
    pub versions: BTreeMap<String, Version>,
    /// The version that the bare name means.
    pub default_version: String,
    /// One line for people.
    pub description: String,
    /// The licence's short name.
    pub license: String,
}

/// A file format that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One GGUF file.
    Gguf,
    /// A folder of safetensors.
    Safetensors,
}

/// One version of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Version {
    /// A source other than a catalogue name, as [`Source`] parses it.
    pub source: String,
    /// The sha256 of its one file, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// The length of its one file in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Memory to run it with a short context, in GiB.
    pub min_memory: f64,
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Found<'a> {
    /// The model's name.
    pub name: &'a str,
    /// The model.
    pub model: &'a CatalogModel,
    /// The version's name.
    pub version_name: &'a str,
    /// The version.
    pub version: &'a Version,
}

impl Found<'_> {
    /// The name to install under: the bare one for the default version.
    pub fn install_name(&self) -> String {
        if self.version_name == self.model.default_version {
            self.name.to_owned()
        } else {
            format!("{}:{}", self.name, self.version_name)
        }
    }
}

impl Catalog {
    /// The catalogue that the program was built with.
    ///
    /// # Errors
    /// Never in a build whose tests passed.
    pub fn built_in() -> Result<Catalog, StoreError> {
        Catalog::parse(BUILT_IN, "the built-in catalogue")
    }

    /// Reads a catalogue file.
    ///
    /// # Errors
    /// If it cannot be read or breaks a rule, see [`Catalog::parse`].
    pub fn read(path: &Path) -> Result<Catalog, StoreError> {
        Catalog::parse(&hf_folder::read_text(path)?, &path.display().to_string())
    }

    /// Parses a catalogue; `origin` names it in errors.
    ///
    /// # Errors
    /// [`StoreError::Catalog`] with the place and the rule: keys are known (the closest known one is
    /// named), every model has formats and versions, the default is one of them, sources parse.
    pub fn parse(text: &str, origin: &str) -> Result<Catalog, StoreError> {
        parse(text).map_err(|reason| StoreError::Catalog {
            origin: origin.to_owned(),
            reason,
        })
    }

    /// This catalogue with `other`'s models added; one of the same name is replaced whole.
    #[must_use]
    pub fn overlaid(mut self, other: Catalog) -> Catalog {
        self.models.extend(other.models);
        self
    }

    /// Every model, in order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &CatalogModel)> {
        self.models
            .iter()
            .map(|(name, model)| (name.as_str(), model))
    }

    /// What `name` or `name:version` stands for.
    ///
    /// # Errors
    /// [`StoreError::UnknownModel`] with the closest name.
    pub fn lookup(&self, text: &str) -> Result<Found<'_>, StoreError> {
        let (wanted, version) = match text.split_once(':') {
            Some((name, version)) => (name, Some(version)),
            None => (text, None),
        };
        let unknown = |hint: Option<String>| StoreError::UnknownModel {
            name: text.to_owned(),
            closest: hint,
        };
        let Some((name, model)) = self.models.get_key_value(wanted) else {
            let near = closest(wanted, self.models.keys().map(String::as_str));
            return Err(unknown(near.map(|near| format!("did you mean {near:?}"))));
        };
        let wanted = version.unwrap_or(&model.default_version);
        let Some((version_name, version)) = model.versions.get_key_value(wanted) else {
            let known: Vec<&str> = model.versions.keys().map(String::as_str).collect();
            return Err(unknown(Some(format!("{name} has {}", known.join(", ")))));
        };
        Ok(Found {
            name,
            model,
            version_name,
            version,
        })
    }
}

fn parse(text: &str) -> Result<Catalog, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let object = value.as_object().ok_or("is not a map from model names")?;
    for (name, model) in object {
        check_keys(model, &MODEL_KEYS, name)?;
        let versions = model.get("versions").and_then(Value::as_object);
        for (version, entry) in versions.into_iter().flatten() {
            check_keys(entry, &VERSION_KEYS, &format!("{name}.versions.{version}"))?;
        }
    }
    let mut models = BTreeMap::new();
    for (name, model) in object {
        let model: CatalogModel =
            CatalogModel::deserialize(model).map_err(|error| format!("{name}: {error}"))?;
        check_model(name, &model).map_err(|reason| format!("{name}: {reason}"))?;
        models.insert(name.clone(), model);
    }
    Ok(Catalog { models })
}

/// Every key is known; a slip is answered with the closest known one.
fn check_keys(value: &Value, known: &[&str], place: &str) -> Result<(), String> {
    let object = value
        .as_object()
        .ok_or_else(|| format!("{place} is not a map"))?;
    match object.keys().find(|key| !known.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) => {
            let hint = match closest(key, known.iter().copied()) {
                Some(near) => format!("did you mean {near:?}"),
                None => format!("known are {}", known.join(", ")),
            };
            Err(format!("{place} has the unknown key {key:?}: {hint}"))
        }
    }
}

fn check_model(name: &str, model: &CatalogModel) -> Result<(), String> {
    let bare = |text: &str| matches!(text.parse(), Ok(Source::Catalog { version: None, .. }));
    if !bare(name) {
        return Err("the name must be letters, digits and . _ -".to_owned());
    }
    if model.formats.is_empty() {
        return Err("formats is empty".to_owned());
    }
    if model.versions.is_empty() {
        return Err("versions is empty".to_owned());
    }
    if !model.versions.contains_key(&model.default_version) {
        return Err(format!(
            "default_version {:?} is not among its versions",
            model.default_version
        ));
    }
    for (version, entry) in &model.versions {
        if !bare(version) {
            return Err(format!(
                "version {version:?} must be letters, digits and . _ -"
            ));
        }
        check_version(entry).map_err(|reason| format!("version {version}: {reason}"))?;
    }
    Ok(())
}

fn check_version(version: &Version) -> Result<(), String> {
    match version.source.parse::<Source>() {
        Ok(Source::Catalog { .. }) => return Err("source must not be a catalogue name".to_owned()),
        Ok(_) => {}
        Err(error) => return Err(error.to_string()),
    }
    let hex =
        |text: &str| text.len() == 64 && text.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'));
    if version.sha256.as_deref().is_some_and(|text| !hex(text)) {
        return Err("sha256 must be 64 lower-case hexadecimal digits".to_owned());
    }
    if !(version.min_memory.is_finite() && version.min_memory > 0.0) {
        return Err("min_memory must be a number of GiB above 0".to_owned());
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sample() -> Value {
        json!({"m": {
            "formats": ["gguf"], "default_version": "a", "description": "d", "license": "l",
            "versions": {"a": {"source": "hf:o/r", "min_memory": 1}, "b": {"source": "./b", "min_memory": 2}},
        }})
    }

    #[test]
    fn the_built_in_catalogue_is_sound() {
        let catalog = Catalog::built_in().unwrap();
        let found = catalog.lookup("smollm2").unwrap();
        assert_eq!(found.version.size, Some(98_362_432));
        assert_eq!(found.install_name(), "smollm2");
        assert!(catalog.iter().count() >= 4);
    }

    #[test]
    fn names_are_found_and_slips_are_answered() {
        let catalog = Catalog::parse(&sample().to_string(), "t").unwrap();
        assert_eq!(catalog.lookup("m").unwrap().version_name, "a");
        assert_eq!(catalog.lookup("m:a").unwrap().install_name(), "m");
        assert_eq!(catalog.lookup("m:b").unwrap().install_name(), "m:b");
        assert!(
            catalog
                .lookup("m:c")
                .unwrap_err()
                .to_string()
                .contains("m has a, b")
        );
        let slip = Catalog::built_in()
            .unwrap()
            .lookup("smolm2")
            .unwrap_err()
            .to_string();
        assert!(slip.contains("did you mean \"smollm2\""), "{slip}");
    }

    #[test]
    fn every_rule_is_checked() {
        let cases: [(&str, Value, &str); 9] = [
            ("/m/formats", json!([]), "formats is empty"),
            ("/m/formats", json!(["api"]), "unknown variant"),
            ("/m/versions", json!({}), "versions is empty"),
            ("/m/default_version", json!("z"), "not among"),
            ("/m/versions/a/source", json!("other"), "catalogue name"),
            ("/m/versions/a/source", json!("hf:x"), "hf:owner/repo"),
            ("/m/versions/a/min_memory", json!(-1), "min_memory"),
            (
                "/m/versions/a",
                json!({"sorce": "./x", "min_memory": 1}),
                "did you mean \"source\"",
            ),
            (
                "/m",
                json!({"format": [], "versions": {}}),
                "did you mean \"formats\"",
            ),
        ];
        for (place, value, part) in cases {
            let mut catalog = sample();
            *catalog.pointer_mut(place).unwrap() = value;
            let error = Catalog::parse(&catalog.to_string(), "t")
                .unwrap_err()
                .to_string();
            assert!(error.contains(part), "{place}: {error}");
        }
    }

    #[test]
    fn an_overlay_replaces_by_name() {
        let mut changed = sample();
        changed["m"]["default_version"] = json!("b");
        let base = Catalog::parse(&sample().to_string(), "t").unwrap();
        let overlaid = base.overlaid(Catalog::parse(&changed.to_string(), "t").unwrap());
        assert_eq!(overlaid.lookup("m").unwrap().version_name, "b");
    }
}
