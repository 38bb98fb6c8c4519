//! JSON schemas that can be honoured wholly. Keywords that no automaton keeps to are refused where they stand; what is
//! left goes to llguidance (<https://github.com/guidance-ai/llguidance/blob/main/docs/json_schema.md>).

use llguidance::api::ParserLimits;
use llguidance::{GrammarBuilder, JsonCompileOptions};
use serde_json::{Map, Value, json};

use super::check::short;
use super::shape::BadShape;

/// Deepest nesting of a schema.
const MAX_DEPTH: usize = 48;
/// Most schemas in a schema.
const MAX_SCHEMAS: usize = 4096;
/// Largest count of a keyword such as `maxItems`: a grammar has a part for each.
const MAX_COUNT: u64 = 65_536;
/// Longest pattern, in bytes.
const MAX_PATTERN: usize = 4096;
/// Most parts that are tried alone to find the one at fault.
const MAX_TRIES: usize = 64;
/// White space between the parts of JSON: without an end a small model may write nothing else.
const SPACE: &str = r"[ \n\r\t]{1,40}";

/// Keywords whose value is a schema.
const ONE: [&str; 3] = ["additionalProperties", "additionalItems", "items"];
/// Keywords whose value is a list of schemas.
const LIST: [&str; 4] = ["anyOf", "oneOf", "allOf", "prefixItems"];
/// Keywords whose value has a schema a name.
const MAP: [&str; 4] = ["properties", "patternProperties", "$defs", "definitions"];
/// Keywords whose value is a count.
const COUNT: [&str; 6] = [
    "minItems",
    "maxItems",
    "minLength",
    "maxLength",
    "minProperties",
    "maxProperties",
];
/// Keywords that are honoured, with values that the compiler reads.
const PLAIN: [&str; 9] = [
    "type",
    "const",
    "enum",
    "required",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
];
/// Keywords that say nothing about what is valid.
const ANNOTATIONS: [&str; 14] = [
    "title",
    "description",
    "default",
    "example",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
    "$comment",
    "contentMediaType",
    "contentEncoding",
    "discriminator",
    "externalDocs",
    "xml",
];
/// Formats that texts are kept to.
const FORMATS: [&str; 10] = [
    "date-time",
    "time",
    "date",
    "duration",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "uuid",
    "uri",
];

/// Looks whether a schema can be honoured.
///
/// # Errors
/// [`BadShape`] with a pointer to the first keyword that cannot.
pub(super) fn check(schema: &Value) -> Result<(), BadShape> {
    let mut walk = Walk {
        schemas: 0,
        root: schema,
    };
    walk.schema(schema, &Place::default())
}

/// The schema as the compiler is given it.
pub(super) fn prepared(mut schema: Map<String, Value>) -> Map<String, Value> {
    schema.insert(
        "x-guidance".to_owned(),
        json!({"whitespace_flexible": true, "whitespace_pattern": SPACE}),
    );
    schema
}

/// Where the walk is.
#[derive(Debug, Clone, Default)]
struct Place {
    pointer: String,
    depth: usize,
}

impl Place {
    fn below(&self, part: &str) -> Place {
        let part = part.replace('~', "~0").replace('/', "~1");
        Place {
            pointer: format!("{}/{part}", self.pointer),
            depth: self.depth + 1,
        }
    }

    fn bad(&self, reason: impl Into<String>) -> BadShape {
        BadShape::at(self.pointer.clone(), reason)
    }
}

struct Walk<'a> {
    schemas: usize,
    root: &'a Value,
}

impl Walk<'_> {
    fn schema(&mut self, schema: &Value, at: &Place) -> Result<(), BadShape> {
        self.schemas += 1;
        if at.depth > MAX_DEPTH {
            return Err(at.bad(format!("is deeper than {MAX_DEPTH}: use a flatter schema")));
        }
        if self.schemas > MAX_SCHEMAS {
            let reason = format!("is one of more than {MAX_SCHEMAS} schemas: use a smaller one");
            return Err(at.bad(reason));
        }
        let map = match schema {
            Value::Object(map) => map,
            Value::Bool(_) if at.depth > 0 => return Ok(()),
            _ => return Err(at.bad("is no schema: use an object")),
        };
        for (name, value) in map {
            self.keyword(name, value, map, &at.below(name))?;
        }
        bounds(map, at)
    }

    fn keyword(
        &mut self,
        name: &str,
        value: &Value,
        around: &Map<String, Value>,
        at: &Place,
    ) -> Result<(), BadShape> {
        if name == "items" && value.is_array() {
            return self.list(value, at);
        }
        if ONE.contains(&name) {
            return self.schema(value, at);
        }
        if LIST.contains(&name) {
            return self.list(value, at);
        }
        if MAP.contains(&name) {
            let map = value.as_object();
            let map = map.ok_or_else(|| at.bad("is not an object of schemas"))?;
            for (part, schema) in map {
                if name == "patternProperties" {
                    pattern(part, &at.below(part))?;
                }
                self.schema(schema, &at.below(part))?;
            }
            return Ok(());
        }
        if COUNT.contains(&name) {
            let count = value.as_u64().filter(|count| *count <= MAX_COUNT);
            let reason = format!("is not a whole number from 0 to {MAX_COUNT}");
            let count = count.ok_or_else(|| at.bad(reason))?;
            let required = around.get("required").and_then(Value::as_array);
            let required = required.map_or(0, Vec::len) as u64;
            if name == "minProperties" && count > required + 1 {
                return Err(at.bad(
                    "asks for several properties that are not required, whose names could be the same one: require \
                     them by name",
                ));
            }
            return Ok(());
        }
        match name {
            "pattern" => match value.as_str() {
                Some(text) => pattern(text, at),
                None => Err(at.bad("is no string")),
            },
            "format" => match value.as_str() {
                Some(text) if FORMATS.contains(&text) => Ok(()),
                _ => Err(at.bad(format!(
                    "is not supported: use one of {}, or a pattern",
                    FORMATS.join(", ")
                ))),
            },
            "$ref" => self.reference(value, at),
            "$schema" => match value.as_str() {
                Some(text) if text.contains("//json-schema.org/") => Ok(()),
                _ => Err(at.bad("is no dialect of json-schema.org")),
            },
            // Identifiers of a whole document change nothing; inside, they would change what references mean.
            "$id" | "id" if at.depth == 1 && value.is_string() => Ok(()),
            "nullable" => Err(at.bad("is not json schema: use \"type\": [..., \"null\"]")),
            known if PLAIN.contains(&known) || ANNOTATIONS.contains(&known) => Ok(()),
            own if own.starts_with("x-") && own != "x-guidance" => Ok(()),
            _ => Err(at.bad("is a keyword that is not supported: leave it out")),
        }
    }

    fn list(&mut self, value: &Value, at: &Place) -> Result<(), BadShape> {
        let list = value.as_array().filter(|list| !list.is_empty());
        let list = list.ok_or_else(|| at.bad("is not a list of schemas"))?;
        for (place, schema) in list.iter().enumerate() {
            self.schema(schema, &at.below(&place.to_string()))?;
        }
        Ok(())
    }

    fn reference(&self, value: &Value, at: &Place) -> Result<(), BadShape> {
        let local = value.as_str().and_then(|text| text.strip_prefix('#'));
        let Some(pointer) = local.filter(|p| p.is_empty() || p.starts_with('/')) else {
            return Err(at.bad("is not a place in this schema: use \"#/$defs/...\""));
        };
        match self.root.pointer(pointer) {
            Some(Value::Object(_) | Value::Bool(_)) => Ok(()),
            _ => Err(at.bad("is a place that this schema does not have")),
        }
    }
}

/// Bounds that leave nothing between them.
fn bounds(map: &Map<String, Value>, at: &Place) -> Result<(), BadShape> {
    for (least, most) in [
        ("minimum", "maximum"),
        ("exclusiveMinimum", "exclusiveMaximum"),
        ("minLength", "maxLength"),
        ("minItems", "maxItems"),
        ("minProperties", "maxProperties"),
    ] {
        let number = |name: &str| map.get(name).and_then(Value::as_f64);
        if let (Some(low), Some(high)) = (number(least), number(most))
            && low > high
        {
            let reason = format!("is above {most}: nothing is left between them");
            return Err(at.below(least).bad(reason));
        }
    }
    Ok(())
}

fn pattern(text: &str, at: &Place) -> Result<(), BadShape> {
    match text.len() {
        length if length > MAX_PATTERN => Err(at.bad(format!(
            "is a pattern of {length} bytes, at most {MAX_PATTERN} are allowed"
        ))),
        _ => Ok(()),
    }
}

/// The smallest part of a schema that does not compile, for a schema that does not as a whole.
pub(super) fn at_fault(schema: &Value, limits: &ParserLimits, whole: String) -> BadShape {
    let mut parts = Vec::new();
    parts_of(schema, &Place::default(), &mut parts);
    // Deepest first: what holds a part that fails does, too.
    parts.sort_by_key(|(place, _)| std::cmp::Reverse(place.depth));
    for (place, part) in parts.into_iter().take(MAX_TRIES) {
        if place.depth == 0 {
            continue;
        }
        let mut alone = part.clone();
        for shared in ["$defs", "definitions"] {
            if let Some(value) = schema.get(shared) {
                alone.insert(shared.to_owned(), value.clone());
            }
        }
        let builder = GrammarBuilder::new(None, limits.clone());
        let options = JsonCompileOptions::default();
        let tried = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            options.json_to_llg(builder, Value::Object(alone))
        }));
        if let Ok(Err(error)) = tried {
            return place.bad(format!("cannot be honoured: {}", short(&error.to_string())));
        }
    }
    BadShape::whole(format!("cannot be honoured: {}", short(&whole)))
}

fn parts_of<'a>(schema: &'a Value, at: &Place, parts: &mut Vec<(Place, &'a Map<String, Value>)>) {
    let Some(map) = schema.as_object() else {
        return;
    };
    // Alone, references into the rest would lead nowhere.
    let text = schema.to_string();
    let elsewhere = text.matches("\"$ref\"").count()
        != text.matches("\"$ref\":\"#/$defs/").count()
            + text.matches("\"$ref\":\"#/definitions/").count();
    if !elsewhere {
        parts.push((at.clone(), map));
    }
    for (name, value) in map {
        let below = at.below(name);
        match value {
            Value::Array(list) if LIST.contains(&name.as_str()) || name == "items" => {
                for (place, part) in list.iter().enumerate() {
                    parts_of(part, &below.below(&place.to_string()), parts);
                }
            }
            Value::Object(named) if MAP.contains(&name.as_str()) => {
                for (part, schema) in named {
                    parts_of(schema, &below.below(part), parts);
                }
            }
            Value::Object(_) if ONE.contains(&name.as_str()) => parts_of(value, &below, parts),
            _ => {}
        }
    }
}
