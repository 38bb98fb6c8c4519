//! JSON schemas by number, as hard as those that people write: for the matcher alone and for a real model.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde_json::{Value, json};

/// A random schema: nested, with enumerations, alternatives, references, bounds and patterns.
fn schema(draws: &mut ChaCha8Rng, depth: usize) -> Value {
    let mut pick = |n: u32| draws.next_u32() % n;
    let kind = if depth == 0 { pick(8) } else { pick(13) };
    match kind {
        0 => json!({"type": "integer", "minimum": -(pick(50) as i64), "maximum": pick(1000)}),
        1 => json!({"type": "number", "exclusiveMinimum": 0, "maximum": 1 + pick(9)}),
        2 => json!({"type": "string", "minLength": pick(3), "maxLength": 3 + pick(20)}),
        3 => {
            let patterns = [
                "^[A-Z]{2}-\\d{3}$",
                "^(red|green)+$",
                "[0-9]+x",
                "^\\w+@\\w+\\.com$",
                "^a?b*c+$",
            ];
            json!({"type": "string", "pattern": patterns[pick(5) as usize]})
        }
        4 => json!({"enum": ["one", 2, null, {"three": [3]}, "日本", true]}),
        5 => json!({"type": ["boolean", "null"]}),
        6 => {
            let formats = ["date", "time", "date-time", "uuid", "ipv4", "email"];
            json!({"type": "string", "format": formats[pick(6) as usize]})
        }
        7 => json!({"const": pick(100)}),
        8 | 9 => {
            let names = ["a", "b", "long name", "é\"q"];
            let count = 1 + pick(4) as usize;
            let required = pick(count as u32 + 1) as usize;
            let open = pick(4) == 0;
            let named = names[..count].iter();
            let properties: serde_json::Map<String, Value> = named
                .map(|name| ((*name).to_owned(), schema(draws, depth - 1)))
                .collect();
            let mut object =
                json!({"type": "object", "properties": properties, "required": names[..required]});
            if !open {
                object["additionalProperties"] = json!(false);
            }
            object
        }
        10 => {
            let (least, more) = (pick(3), pick(3));
            json!({"type": "array", "items": schema(draws, depth - 1), "minItems": least, "maxItems": least + more})
        }
        11 => {
            json!({"anyOf": [schema(draws, depth - 1), schema(draws, depth - 1), {"type": "null"}]})
        }
        _ => json!({"$ref": "#/$defs/shared"}),
    }
}

/// One of them in full, with a definition that it may refer to, a tree of itself among others.
pub fn whole_schema(seed: u64) -> Value {
    let mut draws = ChaCha8Rng::seed_from_u64(seed);
    let inner = schema(&mut draws, 3);
    let shared = match seed % 3 {
        // A tree of itself.
        0 => {
            json!({"type": "object", "properties": {"v": {"type": "integer", "minimum": 0, "maximum": 9},
            "next": {"anyOf": [{"$ref": "#/$defs/shared"}, {"type": "null"}]}}, "required": ["v", "next"],
            "additionalProperties": false})
        }
        1 => json!({"type": "string", "enum": ["x", "y"]}),
        _ => json!({"type": "array", "items": {"type": "boolean"}, "maxItems": 3}),
    };
    json!({"type": "object", "properties": {"value": inner, "shared": {"$ref": "#/$defs/shared"}},
        "required": ["value"], "additionalProperties": false, "$defs": {"shared": shared}})
}
