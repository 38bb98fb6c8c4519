//! The one table of keys, derived from the sections' own types and doc comments.

use figment::value::{Empty, Tag, Value};
use serde_json::{Map, Value as Json};

use super::error::closest;
use super::{ConfigError, Settings};

/// What the text of a variable or flag is read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text, also sizes, durations and values out of a list.
    Text,
    /// A whole number.
    Integer,
    /// A number with or without a fraction.
    Number,
    /// A whole number, or text when it is not one.
    IntegerOrText,
    /// true or false.
    Switch,
    /// Texts, separated by commas.
    List,
}

/// One key of the settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Key {
    /// The section, such as `kv`.
    pub section: String,
    /// The name within its section, such as `policy`.
    pub name: String,
    /// What its text is read as.
    pub kind: Kind,
    /// Whether the key may be absent.
    pub optional: bool,
    /// What a value looks like, for people.
    pub looks: String,
    /// One line that says what the key is for.
    pub meaning: String,
    /// The built-in value; null = absent.
    pub default: Json,
    /// A value to show when there is no default.
    pub example: Option<Json>,
}

impl Key {
    /// `section.name`.
    pub fn path(&self) -> String {
        format!("{}.{}", self.section, self.name)
    }

    /// The environment variable that sets the key.
    pub fn variable(&self) -> String {
        format!("LLAMAHOME_{}__{}", self.section, self.name).to_uppercase()
    }

    /// Reads the text of a variable or flag as the key's type. A text that is not of the type stays a text, which the
    /// type check then refuses; an empty text makes an optional key absent and a list empty.
    pub(super) fn read(&self, text: &str) -> Value {
        let trimmed = text.trim();
        if trimmed.is_empty() && self.optional {
            return Value::Empty(Tag::Default, Empty::None);
        }
        let integer = || trimmed.parse::<i64>().ok().map(Value::from);
        let typed = match self.kind {
            Kind::Text => None,
            Kind::Integer | Kind::IntegerOrText => integer(),
            Kind::Number => trimmed.parse::<f64>().ok().map(Value::from),
            Kind::Switch => match trimmed {
                "true" | "1" => Some(true.into()),
                "false" | "0" => Some(false.into()),
                _ => None,
            },
            Kind::List => {
                let items = trimmed
                    .split(',')
                    .map(str::trim)
                    .filter(|item| !item.is_empty());
                Some(items.map(Value::from).collect::<Vec<Value>>().into())
            }
        };
        typed.unwrap_or_else(|| text.into())
    }
}

/// All keys, in the order of the sections and their fields.
#[derive(Debug, Clone)]
pub struct Keys {
    /// Each section's name and what it is about.
    pub about: Vec<(String, String)>,
    /// The keys.
    pub all: Vec<Key>,
}

impl Keys {
    /// Builds the table.
    ///
    /// # Errors
    /// When a section's type describes itself in a way this reader does not know, a defect of this program.
    pub fn new() -> Result<Self, ConfigError> {
        let schema = schema();
        let defaults = values(&Settings::default())?;
        let mut keys = Keys {
            about: Vec::new(),
            all: Vec::new(),
        };
        for (section, outer) in properties(&schema) {
            let inner = resolve(&schema, outer);
            keys.about.push((section.clone(), description(outer)));
            for (name, field) in properties(inner) {
                let path = format!("{section}.{name}");
                let default = defaults.iter().find(|(known, _)| *known == path);
                let default = default.map(|(_, value)| value.clone());
                keys.all
                    .push(key(section, name, field, default.unwrap_or(Json::Null)));
            }
        }
        if keys.all.is_empty() {
            return Err(ConfigError::Compose(
                "the sections describe no key".to_owned(),
            ));
        }
        Ok(keys)
    }

    pub(super) fn has_section(&self, section: &str) -> bool {
        self.sections().any(|known| known == section)
    }

    pub(super) fn sections(&self) -> impl Iterator<Item = &str> {
        self.about.iter().map(|(section, _)| section.as_str())
    }

    /// The known key whose path is nearest to `wrong`.
    pub(super) fn closest(&self, wrong: &str) -> Option<String> {
        closest(wrong, self.all.iter().map(Key::path))
    }

    pub(super) fn find(&self, section: &str, name: &str) -> Option<&Key> {
        self.all
            .iter()
            .find(|key| key.section == section && key.name == name)
    }
}

/// The JSON schema of a settings file, which editors read for completion.
pub fn schema() -> Json {
    schemars::schema_for!(Settings).to_value()
}

/// Every key and its value, `section.name` first, in the order of the sections; secrets are redacted.
pub fn values(settings: &Settings) -> Result<Vec<(String, Json)>, ConfigError> {
    let tree =
        serde_json::to_value(settings).map_err(|error| ConfigError::Compose(error.to_string()))?;
    let mut flat = Vec::new();
    for (section, inner) in tree.as_object().into_iter().flatten() {
        for (name, value) in inner.as_object().into_iter().flatten() {
            flat.push((format!("{section}.{name}"), shortest(value.clone())));
        }
    }
    Ok(flat)
}

/// A 32-bit float widened to 64 bits shows digits that nobody wrote: 0.8 as 0.800000011920929.
fn shortest(value: Json) -> Json {
    match value.as_f64() {
        Some(wide) if value.is_f64() && f64::from(wide as f32) == wide => {
            let text = (wide as f32).to_string();
            text.parse::<f64>().map_or(value, Json::from)
        }
        _ => value,
    }
}

fn properties(schema: &Json) -> impl Iterator<Item = (&String, &Json)> {
    schema
        .get("properties")
        .and_then(Json::as_object)
        .into_iter()
        .flat_map(Map::iter)
}

fn description(schema: &Json) -> String {
    let text = schema
        .get("description")
        .and_then(Json::as_str)
        .unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn resolve<'a>(root: &'a Json, schema: &'a Json) -> &'a Json {
    let pointer = schema
        .get("$ref")
        .and_then(Json::as_str)
        .and_then(|r| r.strip_prefix('#'));
    pointer
        .and_then(|pointer| root.pointer(pointer))
        .unwrap_or(schema)
}

fn key(section: &str, name: &str, field: &Json, default: Json) -> Key {
    let (core, optional) = without_null(field);
    let types = type_names(&core);
    let (kind, looks) = kind_of(&core, &types);
    Key {
        section: section.to_owned(),
        name: name.to_owned(),
        kind,
        optional,
        looks,
        meaning: description(field),
        default,
        example: field.pointer("/examples/0").cloned(),
    }
}

/// The schema of an `Option`'s inside, and whether it was one.
fn without_null(field: &Json) -> (Json, bool) {
    let is_null = |schema: &Json| schema.get("type").and_then(Json::as_str) == Some("null");
    if let Some(choices) = field.get("anyOf").and_then(Json::as_array) {
        let inside = choices.iter().find(|choice| !is_null(choice));
        return (
            inside.cloned().unwrap_or(Json::Null),
            choices.iter().any(is_null),
        );
    }
    let names = type_names(field);
    (field.clone(), names.iter().any(|name| name == "null"))
}

fn type_names(schema: &Json) -> Vec<String> {
    match schema.get("type") {
        Some(Json::String(one)) => vec![one.clone()],
        Some(Json::Array(many)) => many
            .iter()
            .filter_map(Json::as_str)
            .map(str::to_owned)
            .collect(),
        _ => Vec::new(),
    }
}

fn kind_of(schema: &Json, types: &[String]) -> (Kind, String) {
    let has = |name: &str| types.iter().any(|known| known == name);
    let choices = choices(schema);
    if !choices.is_empty() {
        return (Kind::Text, choices.join(" | "));
    }
    let format = schema
        .get("format")
        .and_then(Json::as_str)
        .unwrap_or_default();
    match format {
        "size" => return (Kind::IntegerOrText, "size".to_owned()),
        "budget" => return (Kind::IntegerOrText, "tokens, share or size".to_owned()),
        "duration" | "secret" => return (Kind::Text, format.to_owned()),
        "ip" => return (Kind::Text, "IP address".to_owned()),
        _ => {}
    }
    if has("boolean") {
        (Kind::Switch, "true | false".to_owned())
    } else if has("array") {
        (Kind::List, "list of texts".to_owned())
    } else if has("integer") {
        let least = schema
            .get("minimum")
            .and_then(Json::as_u64)
            .unwrap_or_default();
        (Kind::Integer, format!("integer, {least} or more"))
    } else if has("number") {
        (Kind::Number, "number".to_owned())
    } else {
        (Kind::Text, "text".to_owned())
    }
}

/// The values of an enum, whether or not its variants are documented.
fn choices(schema: &Json) -> Vec<String> {
    let listed = schema
        .get("enum")
        .and_then(Json::as_array)
        .into_iter()
        .flatten();
    let documented = schema
        .get("oneOf")
        .and_then(Json::as_array)
        .into_iter()
        .flatten();
    let documented = documented.filter_map(|choice| choice.get("const"));
    listed
        .chain(documented)
        .filter_map(Json::as_str)
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_every_key_of_the_settings_and_no_other() {
        let described: Vec<String> = Keys::new().unwrap().all.iter().map(Key::path).collect();
        let values = values(&Settings::default()).unwrap();
        let held: Vec<String> = values.into_iter().map(|(path, _)| path).collect();
        assert_eq!(described, held);
    }

    #[test]
    fn every_key_says_what_it_is_for_and_optional_ones_show_an_example() {
        let keys = Keys::new().unwrap();
        for (section, about) in &keys.about {
            assert!(!about.is_empty(), "[{section}] has no doc comment");
        }
        for key in keys.all {
            assert!(!key.meaning.is_empty(), "{} has no doc comment", key.path());
            let secret = key.looks == "secret";
            let shown = !key.default.is_null() || key.example.is_some() || secret;
            assert!(shown, "{} has neither a default nor an example", key.path());
        }
    }

    #[test]
    fn texts_are_read_as_their_keys_types() {
        let keys = Keys::new().unwrap();
        let read = |section, name, text| keys.find(section, name).unwrap().read(text);
        assert_eq!(read("scheduler", "max_batch", "16"), Value::from(16));
        assert_eq!(
            read("telemetry", "resources", "false").to_bool(),
            Some(false)
        );
        assert_eq!(read("kv", "budget", "25%").as_str(), Some("25%"));
        assert_eq!(read("http", "api_key", "0123").as_str(), Some("0123"));
        assert_eq!(
            read("http", "cors_origins", "a, b,")
                .as_array()
                .unwrap()
                .len(),
            2
        );
        assert_eq!(
            read("http", "cors_origins", "").as_array().unwrap().len(),
            0
        );
        assert!(matches!(read("model", "threads", ""), Value::Empty(..)));
        assert_eq!(
            read("scheduler", "max_batch", "many").as_str(),
            Some("many")
        );
    }
}
