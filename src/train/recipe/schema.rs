//! The table of keys, derived from the sections' own types and doc comments, and the check of values against it.

use serde_json::Value as Json;

use super::error::closest;
use super::node::{Node, Value};
use super::{Place, Recipe, RecipeError};

/// One key of a recipe.
#[derive(Debug, Clone, PartialEq)]
pub struct Key {
    /// The name with its section, such as `optim.lr`.
    pub path: String,
    /// What a value looks like, for people.
    pub looks: String,
    /// What the key is for.
    pub meaning: String,
    /// The built-in value; null = absent.
    pub default: Json,
    schema: Json,
}

impl Key {
    /// The row of the key in a table of them, in Markdown.
    pub fn row(&self) -> String {
        let default = match &self.default {
            Json::Null => "absent".to_owned(),
            value => format!("`{value}`"),
        };
        let looks = self.looks.replace('|', "\\|");
        format!(
            "| `{}` | {looks} | {default} | {} |",
            self.path, self.meaning
        )
    }
}

/// All keys, in the order of the sections and their fields.
#[derive(Debug, Clone)]
pub struct Keys {
    /// Each section's name and what it is about.
    pub sections: Vec<(String, String)>,
    /// The keys.
    pub all: Vec<Key>,
    root: Json,
}

/// The JSON schema of a recipe, which editors read for completion.
pub fn schema() -> Json {
    schemars::schema_for!(Recipe).to_value()
}

impl Keys {
    /// Builds the table.
    pub fn new() -> Keys {
        let root = schema();
        let mut keys = Keys {
            sections: Vec::new(),
            all: Vec::new(),
            root: root.clone(),
        };
        for (name, field) in properties(&root) {
            let inside = plain(&root, field);
            if inside.get("properties").is_none() {
                keys.push(name.clone(), field, Json::Null);
                continue;
            }
            keys.sections.push((name.clone(), described(&root, field)));
            for (inner, field) in properties(inside) {
                let default = field.get("default").cloned().unwrap_or(Json::Null);
                keys.push(format!("{name}.{inner}"), field, default);
            }
        }
        keys
    }

    fn push(&mut self, path: String, field: &Json, default: Json) {
        let default = match field.get("default") {
            Some(own) => own.clone(),
            None => default,
        };
        self.all.push(Key {
            path,
            looks: looks(&self.root, field),
            meaning: text(field, "description"),
            default,
            schema: field.clone(),
        });
    }

    /// Whether `name` is a section.
    pub fn has_section(&self, name: &str) -> bool {
        self.sections.iter().any(|(known, _)| known == name)
    }

    /// The key `path`.
    pub fn find(&self, path: &str) -> Option<&Key> {
        self.all.iter().find(|key| key.path == path)
    }

    /// The right name in the wrong section, else a like name in the same section, else a like section or path.
    fn nearest(&self, path: &str) -> Option<String> {
        let last = path.rsplit('.').next().unwrap_or(path);
        let name = |key: &Key| key.path.rsplit('.').next() == Some(last);
        if let Some(moved) = self.all.iter().find(|key| name(key)) {
            return Some(moved.path.clone());
        }
        let paths = self.all.iter().map(|key| key.path.as_str());
        match path.rsplit_once('.') {
            Some((section, name)) if self.has_section(section) => {
                let inside = paths.filter_map(|path| path.strip_prefix(section)?.strip_prefix('.'));
                closest(name, inside).map(|name| format!("{section}.{name}"))
            }
            Some(_) => closest(path, paths),
            None => {
                let sections = self.sections.iter().map(|(name, _)| name.as_str());
                closest(
                    path,
                    sections.chain(paths.filter(|path| !path.contains('.'))),
                )
            }
        }
    }

    /// The error for a key that there is not.
    pub(super) fn unknown(&self, place: Place, path: &str) -> RecipeError {
        let closest = self.nearest(path);
        RecipeError::UnknownKey {
            place,
            key: path.to_owned(),
            closest,
        }
    }

    /// Checks the value of a key, and makes whole numbers of those written as fractions (`1e3`).
    pub(super) fn check(
        &self,
        key: &Key,
        node: &mut Node,
        place: &Place,
    ) -> Result<(), RecipeError> {
        let check = Check {
            root: &self.root,
            place,
        };
        check.value(&key.path, &key.schema, node)
    }
}

impl Default for Keys {
    fn default() -> Self {
        Keys::new()
    }
}

struct Check<'a> {
    root: &'a Json,
    place: &'a Place,
}

impl Check<'_> {
    fn bad(&self, node: &Node, key: &str, reason: String, closest: Option<String>) -> RecipeError {
        RecipeError::BadValue {
            place: self.at(node),
            key: key.to_owned(),
            reason,
            closest,
        }
    }

    /// The node's own line, when it has one.
    fn at(&self, node: &Node) -> Place {
        match (self.place, node.line) {
            (Place::File { path, .. }, Some(line)) => Place::File {
                path: path.clone(),
                line: Some(line),
            },
            (place, _) => place.clone(),
        }
    }

    fn value(&self, key: &str, schema: &Json, node: &mut Node) -> Result<(), RecipeError> {
        if node.value == Value::Null {
            return match optional(schema) {
                true => Ok(()),
                false => Err(self.bad(node, key, "needs a value".to_owned(), None)),
            };
        }
        let schema = plain(self.root, schema);
        let choices = choices(schema);
        if !choices.is_empty() {
            return self.choice(key, &choices, node);
        }
        let alternatives = schema.get("anyOf").and_then(Json::as_array);
        if let Some(alternatives) = alternatives {
            let fits = |schema: &&Json| fits(plain(self.root, schema), node);
            return match alternatives.iter().find(fits) {
                Some(schema) => self.value(key, schema, node),
                None => Err(self.bad(node, key, wants(&looks(self.root, schema), node), None)),
            };
        }
        if !fits(schema, node) {
            return Err(self.bad(node, key, wants(&looks(self.root, schema), node), None));
        }
        if has_type(schema, "integer")
            && let Value::Number(number) = node.value
        {
            node.value = Value::Integer(number as i64);
        }
        match &mut node.value {
            Value::Integer(number) => {
                let number = *number as f64;
                self.range(key, schema, number, node)
            }
            &mut Value::Number(number) => self.range(key, schema, number, node),
            Value::List(items) => {
                let Some(inner) = schema.get("items") else {
                    return Ok(());
                };
                items
                    .iter_mut()
                    .enumerate()
                    .try_for_each(|(at, item)| self.value(&format!("{key}[{at}]"), inner, item))
            }
            Value::Table(_) => self.table(key, schema, node),
            _ => Ok(()),
        }
    }

    fn table(&self, key: &str, schema: &Json, node: &mut Node) -> Result<(), RecipeError> {
        let required = schema.get("required").and_then(Json::as_array);
        let required = required.into_iter().flatten().filter_map(Json::as_str);
        let Value::Table(entries) = &node.value else {
            return Ok(());
        };
        for name in required {
            if !entries.iter().any(|(known, _)| known == name) {
                return Err(self.bad(node, key, format!("needs the key `{name}`"), None));
            }
        }
        let Value::Table(entries) = &mut node.value else {
            return Ok(());
        };
        for (name, value) in entries {
            let path = format!("{key}.{name}");
            let known = || properties(schema).map(|(name, _)| name.as_str());
            let Some((_, inner)) = properties(schema).find(|(known, _)| *known == name) else {
                return Err(RecipeError::UnknownKey {
                    place: self.at(value),
                    key: path,
                    closest: closest(name, known()).map(|name| format!("{key}.{name}")),
                });
            };
            self.value(&path, inner, value)?;
        }
        Ok(())
    }

    fn choice(&self, key: &str, choices: &[String], node: &Node) -> Result<(), RecipeError> {
        let text = match &node.value {
            Value::Text(text) if choices.contains(text) => return Ok(()),
            Value::Text(text) => text,
            _ => return Err(self.bad(node, key, wants(&choices.join(" | "), node), None)),
        };
        let reason = format!("{text:?} is none of {}", choices.join(" | "));
        let near = closest(text, choices.iter().map(String::as_str));
        Err(self.bad(node, key, reason, near))
    }

    fn range(&self, key: &str, schema: &Json, number: f64, node: &Node) -> Result<(), RecipeError> {
        let limit = |name: &str| schema.get(name).and_then(Json::as_f64);
        let inside = number.is_finite()
            && limit("minimum").is_none_or(|least| number >= least)
            && limit("maximum").is_none_or(|most| number <= most)
            && limit("exclusiveMinimum").is_none_or(|below| number > below)
            && limit("exclusiveMaximum").is_none_or(|above| number < above);
        if inside {
            return Ok(());
        }
        let allowed = bounds(schema);
        let reason = format!("{number} is out of range: {allowed} is allowed");
        Err(self.bad(node, key, reason, None))
    }
}

fn wants(looks: &str, node: &Node) -> String {
    let shown = match &node.value {
        Value::Text(text) => format!("{text:?}"),
        Value::List(_) | Value::Table(_) | Value::Null => node.kind().to_owned(),
        _ => node
            .json()
            .map_or_else(|| node.kind().to_owned(), |value| value.to_string()),
    };
    format!("{shown} is not what it takes: {looks}")
}

fn fits(schema: &Json, node: &Node) -> bool {
    match &node.value {
        Value::Null => has_type(schema, "null"),
        Value::Bool(_) => has_type(schema, "boolean"),
        Value::Integer(_) => has_type(schema, "integer") || has_type(schema, "number"),
        Value::Number(number) => {
            let whole = number.fract() == 0.0 && number.abs() < 9e15;
            has_type(schema, "number") || (has_type(schema, "integer") && whole)
        }
        Value::Text(_) => has_type(schema, "string"),
        Value::List(_) => has_type(schema, "array"),
        Value::Table(_) => has_type(schema, "object"),
    }
}

fn has_type(schema: &Json, name: &str) -> bool {
    match schema.get("type") {
        Some(Json::String(one)) => one == name,
        Some(Json::Array(many)) => many.iter().any(|one| one == name),
        _ => false,
    }
}

/// Whether a value may be absent.
fn optional(schema: &Json) -> bool {
    let any = schema.get("anyOf").and_then(Json::as_array);
    has_type(schema, "null") || any.is_some_and(|any| any.iter().any(|s| has_type(s, "null")))
}

/// The schema without references and without the `null` of an optional value.
fn plain<'a>(root: &'a Json, schema: &'a Json) -> &'a Json {
    if let Some(pointer) = schema.get("$ref").and_then(Json::as_str) {
        let pointer = pointer.trim_start_matches('#');
        return root
            .pointer(pointer)
            .map_or(schema, |found| plain(root, found));
    }
    let any = schema.get("anyOf").and_then(Json::as_array);
    let mut inner = any.into_iter().flatten().filter(|s| !has_type(s, "null"));
    match (inner.next(), inner.next()) {
        (Some(only), None) => plain(root, only),
        _ => schema,
    }
}

fn properties(schema: &Json) -> impl Iterator<Item = (&String, &Json)> {
    let properties = schema.get("properties").and_then(Json::as_object);
    properties.into_iter().flatten()
}

fn text(schema: &Json, name: &str) -> String {
    let text = schema.get(name).and_then(Json::as_str).unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A field's own description, else that of its type.
fn described(root: &Json, field: &Json) -> String {
    let own = text(field, "description");
    match own.is_empty() {
        false => own,
        true => text(plain(root, field), "description"),
    }
}

/// The values of an enum, whether or not its variants are documented.
fn choices(schema: &Json) -> Vec<String> {
    let listed = schema.get("enum").and_then(Json::as_array);
    let documented = schema.get("oneOf").and_then(Json::as_array);
    let documented = documented.into_iter().flatten();
    let constants = documented.flat_map(|choice| {
        let several = choice.get("enum").and_then(Json::as_array);
        choice
            .get("const")
            .into_iter()
            .chain(several.into_iter().flatten())
    });
    let all = listed.into_iter().flatten().chain(constants);
    all.filter_map(Json::as_str).map(str::to_owned).collect()
}

/// The range of a number, for people.
fn bounds(schema: &Json) -> String {
    let limit = |name: &str| schema.get(name).filter(|limit| limit.is_number());
    let low = limit("minimum")
        .map(|least| format!("{least} or more"))
        .or_else(|| limit("exclusiveMinimum").map(|below| format!("more than {below}")));
    let high = limit("maximum")
        .map(|most| format!("{most} at most"))
        .or_else(|| limit("exclusiveMaximum").map(|above| format!("less than {above}")));
    let all: Vec<String> = low.into_iter().chain(high).collect();
    match all.is_empty() {
        true => "any finite number".to_owned(),
        false => all.join(", "),
    }
}

fn looks(root: &Json, schema: &Json) -> String {
    let schema = plain(root, schema);
    let choices = choices(schema);
    if !choices.is_empty() {
        return choices.join(" | ");
    }
    if let Some(any) = schema.get("anyOf").and_then(Json::as_array) {
        let any = any.iter().filter(|schema| !has_type(schema, "null"));
        return any
            .map(|schema| looks(root, schema))
            .collect::<Vec<_>>()
            .join(" or ");
    }
    if has_type(schema, "boolean") {
        "true | false".to_owned()
    } else if has_type(schema, "array") {
        let items = schema.get("items").map(|items| plain(root, items));
        match items.is_some_and(|items| has_type(items, "object")) {
            true => "list of tables".to_owned(),
            false => "list of texts".to_owned(),
        }
    } else if has_type(schema, "integer") {
        format!("integer, {}", bounds(schema))
    } else if has_type(schema, "number") {
        format!("number, {}", bounds(schema))
    } else if has_type(schema, "object") {
        "table".to_owned()
    } else {
        "text".to_owned()
    }
}
