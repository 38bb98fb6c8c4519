//! One source of settings: a file, a variable or a flag, as a figment `Provider`.

use figment::error::Kind as Fault;
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};

use super::error::closest;
use super::file::Syntax;
use super::keys::{Key, Keys};
use super::{ConfigError, Layer, Origin, Settings, lines};

/// A tree of values and where it came from.
#[derive(Debug, Clone)]
pub(super) struct Source {
    layer: Layer,
    place: String,
    lines: Lines,
    tree: Dict,
}

/// How the line of a key is found.
#[derive(Debug, Clone)]
enum Lines {
    None,
    Fixed(usize),
    Search(Syntax, String),
}

impl Source {
    /// The default values.
    pub(super) fn built_in() -> Result<Self, ConfigError> {
        let fault = |error: figment::Error| ConfigError::Compose(error.to_string());
        let value = Value::serialize(Settings::default()).map_err(fault)?;
        let tree = value.into_dict().unwrap_or_default();
        Ok(Source {
            layer: Layer::BuiltIn,
            place: "built-in".to_owned(),
            lines: Lines::None,
            tree,
        })
    }

    /// The tree of a file whose text is kept to find lines in.
    pub(super) fn file(
        layer: Layer,
        place: String,
        syntax: Syntax,
        text: String,
        tree: Dict,
    ) -> Self {
        Source {
            layer,
            place,
            lines: Lines::Search(syntax, text),
            tree,
        }
    }

    /// One value, from one variable or flag.
    pub(super) fn single(origin: Origin, key: &Key, value: Value) -> Self {
        let inner = Dict::from([(key.name.clone(), value)]);
        Source {
            layer: origin.layer,
            place: origin.place,
            lines: origin.line.map_or(Lines::None, Lines::Fixed),
            tree: Dict::from([(key.section.clone(), inner.into())]),
        }
    }

    /// Where this source has `path`.
    pub(super) fn origin(&self, path: &[&str]) -> Origin {
        let line = match &self.lines {
            Lines::None => None,
            Lines::Fixed(line) => Some(*line),
            Lines::Search(syntax, text) => lines::of_key(*syntax, text, path),
        };
        Origin {
            layer: self.layer,
            place: self.place.clone(),
            line,
        }
    }

    /// Whether figment's record of a winner speaks of this source.
    pub(super) fn is(&self, metadata: &Metadata) -> bool {
        let place = metadata.source.as_ref().and_then(|source| source.custom());
        metadata.name == self.layer.name() && place == Some(self.place.as_str())
    }

    /// Whether this source sets the key.
    pub(super) fn has(&self, section: &str, name: &str) -> bool {
        let inner = self.tree.get(section).and_then(Value::as_dict);
        inner.is_some_and(|inner| inner.contains_key(name))
    }

    /// Refuses keys that no section has; reads the texts of an INI file, which has no types, as their keys' types.
    pub(super) fn with_known_keys(mut self, keys: &Keys) -> Result<Self, ConfigError> {
        for (section, value) in std::mem::take(&mut self.tree) {
            let known = keys.has_section(&section);
            match value {
                Value::Dict(_, inner) if known => {
                    let inner = self.with_known_names(keys, &section, inner)?;
                    self.tree.insert(section, inner.into());
                }
                Value::Empty(..) if known => {}
                _ if known => {
                    let origin = self.origin(&[&section]);
                    return Err(ConfigError::NotATable { origin, section });
                }
                Value::Dict(..) => {
                    let near = closest(&section, keys.sections());
                    return Err(self.unknown(&[&section], near));
                }
                _ => {
                    let near = keys.closest(&section);
                    return Err(self.unknown(&[&section], near));
                }
            }
        }
        Ok(self)
    }

    fn with_known_names(
        &self,
        keys: &Keys,
        section: &str,
        inner: Dict,
    ) -> Result<Dict, ConfigError> {
        let untyped = matches!(self.lines, Lines::Search(Syntax::Ini, _));
        let mut known = Dict::new();
        for (name, value) in inner {
            let Some(key) = keys.find(section, &name) else {
                let near = keys.closest(&format!("{section}.{name}"));
                return Err(self.unknown(&[section, &name], near));
            };
            let value = match value {
                Value::String(_, text) if untyped => key.read(&text),
                other => other,
            };
            known.insert(name, value);
        }
        Ok(known)
    }

    fn unknown(&self, path: &[&str], closest: Option<String>) -> ConfigError {
        ConfigError::UnknownKey {
            origin: self.origin(path),
            key: path.join("."),
            closest,
        }
    }

    /// Refuses values of a wrong type. Each source is tried alone on top of the defaults, so that a bad value is
    /// found where it stands even when a higher layer hides it.
    pub(super) fn check(&self, built_in: &Source) -> Result<(), ConfigError> {
        let alone = Figment::from(built_in).merge(self);
        let error = match alone.extract::<Settings>() {
            Ok(settings) => return self.check_ranges(&settings),
            Err(error) => error,
        };
        let path: Vec<&str> = error.path.iter().map(String::as_str).take(2).collect();
        let near = match &error.kind {
            Fault::UnknownVariant(found, allowed) => closest(found, allowed.iter().copied()),
            _ => None,
        };
        Err(ConfigError::BadValue {
            origin: self.origin(&path),
            key: path.join("."),
            reason: error.kind.to_string(),
            closest: near,
        })
    }

    /// Ranges that a section's type does not hold by itself.
    fn check_ranges(&self, settings: &Settings) -> Result<(), ConfigError> {
        settings
            .sampling
            .check()
            .map_err(|bad| ConfigError::BadValue {
                origin: self.origin(&["sampling", bad.param]),
                key: format!("sampling.{}", bad.param),
                reason: bad.reason,
                closest: None,
            })
    }
}

impl Provider for Source {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.layer.name()).source(self.place.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Map::from([(Profile::Default, self.tree.clone())]))
    }
}
