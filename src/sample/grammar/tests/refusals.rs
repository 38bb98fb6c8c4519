//! What is refused, and what is bounded.

use super::*;

#[test]
fn what_cannot_be_honoured_is_refused_at_its_place() {
    let grammars = grammars();
    let deep = (0..60).fold(json!({}), |inner, _| json!({"items": inner}));
    for (schema, pointer) in [
        (
            json!({"type": "array", "uniqueItems": true}),
            "/uniqueItems",
        ),
        (
            json!({"properties": {"a": {"not": {}}}}),
            "/properties/a/not",
        ),
        (
            json!({"properties": {"a/b~c": {"if": {}}}}),
            "/properties/a~1b~0c/if",
        ),
        (
            json!({"anyOf": [{}, {"contains": {}}]}),
            "/anyOf/1/contains",
        ),
        (
            json!({"patternProperties": {"x": {"propertyNames": {}}}}),
            "/patternProperties/x/propertyNames",
        ),
        (
            json!({"items": {"dependentRequired": {}}}),
            "/items/dependentRequired",
        ),
        (
            json!({"$defs": {"d": {"unevaluatedProperties": false}}}),
            "/$defs/d/unevaluatedProperties",
        ),
        (json!({"maxlength": 3}), "/maxlength"),
        (
            json!({"x-guidance": {"lenient": true}, "not": {}}),
            "/x-guidance",
        ),
        (json!({"type": "string", "nullable": true}), "/nullable"),
        (json!({"type": "string", "format": "iri"}), "/format"),
        (json!({"$ref": "http://example.com/a.json"}), "/$ref"),
        (json!({"$ref": "#/$defs/none"}), "/$ref"),
        (
            json!({"properties": {"a": {"$id": "x"}}}),
            "/properties/a/$id",
        ),
        (json!({"maxItems": 1_000_000_000}), "/maxItems"),
        (json!({"minLength": -1}), "/minLength"),
        (
            json!({"type": "object", "minProperties": 2}),
            "/minProperties",
        ),
        (json!({"pattern": "a".repeat(5000)}), "/pattern"),
        (json!({"type": "string", "pattern": "("}), "/pattern"),
        (
            json!({"properties": {"p": {"type": "string", "pattern": "(?=a)b"}}}),
            "/properties/p/pattern",
        ),
        (json!({"type": "text"}), "/type"),
        (json!({"required": "a"}), "/required"),
        (json!({"properties": 5}), "/properties"),
        (json!({"anyOf": []}), "/anyOf"),
        (
            json!({"properties": {"o": {"oneOf": [{"type": "integer"}, {"type": "number"}]}}}),
            "/properties/o",
        ),
        (
            json!({"properties": {"n": {"type": "integer", "minimum": 5, "maximum": 1}}, "required": ["n"]}),
            "/properties/n/minimum",
        ),
        (
            json!({"type": "array", "minItems": 3, "maxItems": 2}),
            "/minItems",
        ),
        (
            json!({"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}),
            "",
        ),
    ] {
        let bad = grammars.compile(&Shape::JsonSchema(schema.clone()), Thinking::Never);
        let bad = bad.expect_err(&schema.to_string());
        assert_eq!(bad.pointer, pointer, "{schema}: {bad}");
    }
    let bad = grammars
        .compile(&Shape::JsonSchema(deep), Thinking::Never)
        .unwrap_err();
    assert!(bad.reason.contains("deeper"), "{bad}");
    for shape in [
        Shape::Regex("(".to_owned()),
        Shape::Regex("(?=a)b".to_owned()),
        Shape::Choice(Vec::new()),
        Shape::Choice(vec![String::new()]),
        Shape::Grammar("start: missing".to_owned()),
        Shape::Grammar("start: <[5]>".to_owned()),
        Shape::Grammar("start: <|im_end|>".to_owned()),
        Shape::Grammar("start: x\nx[temperature=2]: /a/".to_owned()),
        Shape::Grammar("start: %json {\"x-guidance\": {\"lenient\": true}}".to_owned()),
        Shape::Grammar("start: %json {\"not\": {}}".to_owned()),
        Shape::Regex("a".repeat(MAX_SHAPE_BYTES + 1)),
    ] {
        assert!(
            grammars.compile(&shape, Thinking::Never).is_err(),
            "{shape:?}"
        );
    }
    let named = |name: &str, parameters: Value| {
        let one = Callable {
            name: name.to_owned(),
            parameters: Some(parameters),
        };
        let format = CallFormat {
            functions: vec![functions().remove(1), one],
            syntax: CallSyntax::Hermes,
            required: true,
            several: true,
        };
        grammars
            .compile(&Shape::Calls(format), Thinking::Never)
            .unwrap_err()
            .pointer
    };
    assert_eq!(named("a b", json!({})), "/1/function/name");
    assert_eq!(named("now", json!({})), "/1/function/name");
    assert_eq!(
        named("f", json!({"type": "array"})),
        "/1/function/parameters/type"
    );
    assert_eq!(named("f", json!({"not": {}})), "/1/function/parameters/not");
}

/// Shapes that are made to cost are refused, or compile and draw within the bounds on work.
#[test]
fn hostile_shapes_do_not_hang() {
    let grammars = grammars();
    let nested = (0..10).fold(
        json!({"type": "string"}),
        |inner, _| json!({"anyOf": [inner.clone(), {"type": "array", "items": inner}]}),
    );
    let optional: serde_json::Map<String, Value> = (0..600)
        .map(|n| (format!("p{n}"), json!({"type": "string"})))
        .collect();
    for shape in [
        Shape::JsonSchema(nested),
        Shape::JsonSchema(json!({"type": "object", "properties": optional})),
        Shape::JsonSchema(json!({"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"})),
        Shape::JsonSchema(
            json!({"$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"}),
        ),
        Shape::JsonSchema(
            json!({"$defs": {"a": {"anyOf": [{"$ref": "#"}, {"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"}),
        ),
        Shape::JsonSchema(
            json!({"type": "array", "minItems": 60_000, "items": {"type": "integer"}}),
        ),
        Shape::JsonSchema(json!({"type": "string", "minLength": 60_000, "maxLength": 60_001})),
        Shape::JsonSchema(json!({"type": "string", "pattern": "^((a{1,100}){1,100}){1,100}$"})),
        Shape::JsonSchema(
            json!({"type": "integer", "multipleOf": 7919, "minimum": 0, "maximum": 1e15}),
        ),
        Shape::Regex("((((a?){99}){99}){99}){99}".to_owned()),
        Shape::Regex("(.*a.{60})+".to_owned()),
        Shape::Regex("(".repeat(5000)),
        Shape::Grammar("start: start start | start start start | \"a\"".to_owned()),
        Shape::Grammar(format!(
            "start: {}\"a\"{}",
            "(".repeat(3000),
            ")".repeat(3000)
        )),
        Shape::Choice((0..4096).map(|n| format!("choice {n} of many")).collect()),
    ] {
        let outcome = grammars.compile(&shape, Thinking::Never);
        let mut drawn = 0;
        if let Ok(constraint) = &outcome {
            let mut matcher = constraint.matcher();
            let size = tokenizer().0.vocab_size();
            for step in 0..40 {
                let mut logits: Vec<f32> = (0..size)
                    .map(|id| ((id * 31 + step * 17) % 97) as f32)
                    .collect();
                if matcher.restrict(&mut logits).is_err() {
                    break;
                }
                let best = (0..size)
                    .max_by(|a, b| logits[*a].total_cmp(&logits[*b]))
                    .unwrap();
                if matcher.advance(best as TokenId).is_err() {
                    break;
                }
                drawn += 1;
            }
        }
        // Choices may be over sooner.
        let over = matches!(shape, Shape::Choice(_)) && drawn > 0;
        let shown: String = format!("{shape:?}").chars().take(90).collect();
        assert!(outcome.is_err() || drawn == 40 || over, "{drawn}: {shown}");
    }
}
