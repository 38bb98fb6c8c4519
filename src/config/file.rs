//! One file of any format, read by the `config` crate.

use std::fs;
use std::path::Path;

use ::config::{FileFormat, Format, ValueKind};
use figment::value::{Dict, Empty, Tag, Value};

use super::keys::Keys;
use super::source::Source;
use super::{ConfigError, Layer, Origin, lines};

/// The formats that are read, chosen by the file's extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Syntax {
    Toml,
    Yaml,
    Json,
    Json5,
    Ini,
}

impl Syntax {
    /// The format that a file's extension names, if it is one of ours.
    pub(super) fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "toml" => Some(Syntax::Toml),
            "yaml" | "yml" => Some(Syntax::Yaml),
            "json" => Some(Syntax::Json),
            "json5" => Some(Syntax::Json5),
            "ini" => Some(Syntax::Ini),
            _ => None,
        }
    }

    fn format(self) -> FileFormat {
        match self {
            Syntax::Toml => FileFormat::Toml,
            Syntax::Yaml => FileFormat::Yaml,
            Syntax::Json => FileFormat::Json,
            Syntax::Json5 => FileFormat::Json5,
            Syntax::Ini => FileFormat::Ini,
        }
    }
}

/// Reads a file and checks that it has known keys only.
pub(super) fn read(
    keys: &Keys,
    layer: Layer,
    path: &Path,
    syntax: Syntax,
) -> Result<Source, ConfigError> {
    let text = fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    parse(keys, layer, path.display().to_string(), syntax, text)
}

/// The same for a text that is at hand; `place` is what errors and listings call it.
pub(super) fn parse(
    keys: &Keys,
    layer: Layer,
    place: String,
    syntax: Syntax,
    text: String,
) -> Result<Source, ConfigError> {
    let parsed = syntax.format().parse(None, &text).map_err(|error| {
        let (line, reason) = lines::of_error(&text, error.as_ref());
        let place = place.clone();
        ConfigError::Syntax {
            origin: Origin { layer, place, line },
            reason,
        }
    })?;
    let tree: Dict = parsed
        .into_iter()
        .map(|(key, value)| (key, value_of(value.kind)))
        .collect();
    let source = Source::file(layer, place, syntax, text, tree);
    source.with_known_keys(keys)
}

fn value_of(kind: ValueKind) -> Value {
    match kind {
        ValueKind::Nil => Value::Empty(Tag::Default, Empty::Unit),
        ValueKind::Boolean(value) => value.into(),
        ValueKind::I64(value) => value.into(),
        ValueKind::U64(value) => value.into(),
        // No key is that large: as text the number reaches the type check, which refuses it by name.
        ValueKind::I128(value) => value.to_string().into(),
        ValueKind::U128(value) => value.to_string().into(),
        ValueKind::Float(value) => value.into(),
        ValueKind::String(value) => value.into(),
        ValueKind::Table(table) => {
            let dict: Dict = table
                .into_iter()
                .map(|(key, value)| (key, value_of(value.kind)))
                .collect();
            dict.into()
        }
        ValueKind::Array(items) => {
            let items: Vec<Value> = items.into_iter().map(|item| value_of(item.kind)).collect();
            items.into()
        }
    }
}
