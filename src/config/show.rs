//! What `config show` prints: every key, its value and, when asked, where it came from.

use serde_json::{Map, Value as Json, json};

use super::{ConfigError, Loaded, keys};

/// Lists every key as text or JSON. Secrets are redacted.
///
/// Text: one `key = value` a line, with the origin after it when `origin`, then the files that were ignored. JSON: the
/// nested tree, or with `origin` a flat object of `{"value", "origin": {"layer", "place", "line"}}` by key.
///
/// # Errors
/// When a section cannot be written as JSON, a defect of this program.
pub fn show(loaded: &Loaded, origin: bool, json: bool) -> Result<String, ConfigError> {
    let values = keys::values(&loaded.settings)?;
    if json {
        let tree = if origin {
            flat(loaded, values)
        } else {
            nested(values)
        };
        return Ok(format!("{tree:#}\n"));
    }
    Ok(text(loaded, &values, origin))
}

fn flat(loaded: &Loaded, values: Vec<(String, Json)>) -> Json {
    let entry = |(path, value): (String, Json)| {
        let origin = loaded.origins.get(&path);
        (path, json!({ "value": value, "origin": origin }))
    };
    Json::Object(values.into_iter().map(entry).collect())
}

fn nested(values: Vec<(String, Json)>) -> Json {
    let mut sections = Map::new();
    for (path, value) in values {
        let Some((section, name)) = path.split_once('.') else {
            continue;
        };
        let inner = sections
            .entry(section)
            .or_insert_with(|| Json::Object(Map::new()));
        if let Some(inner) = inner.as_object_mut() {
            inner.insert(name.to_owned(), value);
        }
    }
    Json::Object(sections)
}

fn text(loaded: &Loaded, values: &[(String, Json)], origin: bool) -> String {
    let rows: Vec<(&str, String)> = values
        .iter()
        .map(|(path, value)| (path.as_str(), shown(value)))
        .collect();
    let keys = rows
        .iter()
        .map(|(path, _)| path.len())
        .max()
        .unwrap_or_default();
    let longest = rows
        .iter()
        .map(|(_, value)| value.chars().count())
        .max()
        .unwrap_or_default();
    let mut out = String::new();
    for (path, value) in rows {
        let line = match loaded.origins.get(path).filter(|_| origin) {
            Some(from) if from.place != from.layer.name() => {
                format!(
                    "{path:keys$} = {value:longest$}  {} {from}",
                    from.layer.name()
                )
            }
            Some(from) => format!("{path:keys$} = {value:longest$}  {}", from.layer.name()),
            None => format!("{path:keys$} = {value}"),
        };
        out.push_str(&line);
        out.push('\n');
    }
    for path in &loaded.ignored {
        out.push_str(&format!("# ignored: {}\n", path.display()));
    }
    out
}

fn shown(value: &Json) -> String {
    match value {
        Json::Null => "(absent)".to_owned(),
        other => other.to_string(),
    }
}
