//! Answers drawn by a model that knows nothing, at temperature 1: whatever is finished is what was asked for.

mod refusals;
#[path = "../../../tests/support/schemas.rs"]
mod schemas;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde_json::{Value, json};

use schemas::whole_schema;

use super::*;
use crate::ids::TokenId;
use crate::sample::{Sampler, Sampling, SamplingParams};
use crate::text::{CallSyntax, Detokenizer, Part, Speech, Thinking, Tokenizer, Vocab, VocabModel};

/// Bytes, and pieces that cross the parts of JSON.
fn tokenizer() -> (Tokenizer, TokenId) {
    let mut tokens: Vec<String> = (0..=255u8).map(|byte| format!("<0x{byte:02X}>")).collect();
    tokens.extend(('a'..='z').map(String::from));
    tokens.extend(('0'..='9').map(String::from));
    let pieces = [
        "▁",
        "{\"",
        "\":",
        "\",",
        "\",▁\"",
        "\"}",
        "}}",
        "]",
        "],",
        "[{",
        "▁{",
        "true",
        "false",
        "null",
        "12",
        "-1",
        "0.",
        "▁the",
        "name",
        "id",
        "<tool",
        "_call>",
        "</",
        ">",
        "ab",
        "▁▁▁▁",
        "\\",
        "\\\"",
        "é",
        "日",
    ];
    tokens.extend(pieces.map(String::from));
    tokens.push("</s>".to_owned());
    let end = tokens.len() as TokenId - 1;
    let vocab = Vocab {
        model: VocabModel::Spm,
        pre: None,
        scores: vec![0.0; tokens.len()],
        tokens,
        types: Vec::new(),
        merges: Vec::new(),
        bos: None,
        eos: Some(end),
        eot: None,
        unk: None,
        add_bos: false,
        add_eos: false,
        add_space_prefix: false,
    };
    (Tokenizer::from_vocab(vocab).unwrap(), end)
}

fn grammars() -> Grammars {
    let (tokenizer, end) = tokenizer();
    Grammars::new(tokenizer, vec![end])
}

fn unit(draws: &mut ChaCha8Rng) -> f32 {
    (draws.next_u32() >> 8) as f32 / (1 << 24) as f32
}

/// The text that a model of random logits gives at temperature 1; `None` when it has no end within `limit` tokens.
fn drawn(constraint: &Constraint, seed: u64, limit: usize) -> Option<String> {
    let (tokenizer, end) = tokenizer();
    let mut sampler = Sampler::new(SamplingParams {
        sampling: Sampling::Random {
            temperature: 1.0,
            top_k: None,
            top_p: 1.0,
            min_p: 0.0,
        },
        seed,
        constraint: Some(constraint.clone()),
        ..SamplingParams::default()
    });
    let mut noise = ChaCha8Rng::seed_from_u64(seed);
    let mut text = Detokenizer::new(&tokenizer);
    let mut out = String::new();
    // What closes is more probable the longer it takes, as it is in a real model.
    let closing = ["\"", "}", "]", "\"}", "}}", ">"].map(|piece| {
        let ids = tokenizer.encode(piece, crate::text::Specials::Literal);
        ids.unwrap()[0]
    });
    for step in 0..limit {
        let mut logits: Vec<f32> = (0..tokenizer.vocab_size())
            .map(|_| unit(&mut noise) * 4.0)
            .collect();
        let push = 2.0 + step as f32 / 40.0;
        closing
            .iter()
            .chain([&end])
            .for_each(|&id| logits[id as usize] += push);
        let token = sampler.choose(&mut logits).unwrap().token;
        if token == end {
            return Some(out + &text.flush());
        }
        out += &text.push(token);
    }
    None
}

#[test]
fn answers_to_two_hundred_schemas_validate() {
    let grammars = grammars();
    let mut finished = 0;
    for seed in 0..200 {
        let schema = whole_schema(seed);
        let constraint = grammars
            .compile(&Shape::JsonSchema(schema.clone()), Thinking::Never)
            .unwrap_or_else(|bad| panic!("{}: {bad}: {schema}", bad.pointer));
        let Some(text) = drawn(&constraint, seed, 2000) else {
            continue;
        };
        finished += 1;
        let value: Value =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert!(jsonschema::is_valid(&schema, &value), "{schema}\n{text}");
        constraint.check(&text).unwrap();
    }
    assert!(finished >= 190, "{finished} of 200 were finished");
}

#[test]
fn texts_keep_to_every_kind_of_shape() {
    let grammars = grammars();
    let pattern = regex::Regex::new("^[a-f]{3}(-[0-9]+)?$").unwrap();
    let choices = vec![
        "yes".to_owned(),
        "yes, but".to_owned(),
        "日 [no]".to_owned(),
    ];
    let list = "start: item (\",\" item)*\nitem: /[0-9]{1,3}/ | \"(\" start \")\"";
    for seed in 0..30 {
        let text = |shape: Shape| {
            let constraint = grammars.compile(&shape, Thinking::Never).unwrap();
            let text = drawn(&constraint, seed, 2000);
            if let Some(text) = &text {
                constraint.check(text).unwrap();
            }
            text
        };
        if let Some(text) = text(Shape::JsonObject) {
            assert!(
                serde_json::from_str::<Value>(&text).unwrap().is_object(),
                "{text}"
            );
        }
        if let Some(text) = text(Shape::Regex("^[a-f]{3}(-[0-9]+)?$".to_owned())) {
            assert!(pattern.is_match(&text), "{text}");
        }
        let chosen = text(Shape::Choice(choices.clone())).unwrap();
        assert!(choices.contains(&chosen), "{chosen}");
        if let Some(text) = text(Shape::Grammar(list.to_owned())) {
            let depth = text.chars().fold(0i32, |depth, c| match c {
                '(' => depth + 1,
                ')' => depth - 1,
                _ => depth,
            });
            assert_eq!(depth, 0, "{text}");
            assert!(
                text.chars()
                    .all(|c| c.is_ascii_digit() || "(),".contains(c)),
                "{text}"
            );
        }
    }
}

fn functions() -> Vec<Callable> {
    let place = json!({"type": "object", "properties": {"city": {"type": "string", "maxLength": 12},
        "days": {"type": "integer", "minimum": 1, "maximum": 9}}, "required": ["city"], "additionalProperties": false});
    vec![
        Callable {
            name: "weather".to_owned(),
            parameters: Some(place),
        },
        Callable {
            name: "now".to_owned(),
            parameters: None,
        },
    ]
}

#[test]
fn calls_name_functions_that_there_are_with_arguments_that_they_take() {
    let grammars = grammars();
    let (mut calls_made, mut words_said) = (0, 0);
    for seed in 0..40 {
        for syntax in [CallSyntax::Hermes, CallSyntax::Llama] {
            for (required, several) in [(true, false), (true, true), (false, false), (false, true)]
            {
                let format = CallFormat {
                    functions: functions(),
                    syntax,
                    required,
                    several,
                };
                let constraint = grammars
                    .compile(&Shape::Calls(format), Thinking::Never)
                    .unwrap();
                let Some(text) = drawn(&constraint, seed, 600) else {
                    continue;
                };
                let names = functions().into_iter().map(|f| f.name).collect();
                let mut speech = Speech::new(Thinking::Never).calling(syntax, names);
                let mut parts = speech.push(&text);
                parts.extend(speech.finish());
                let mut calls: Vec<(String, String)> = Vec::new();
                let mut words = String::new();
                for part in parts {
                    match part {
                        Part::Call { name, .. } => calls.push((name, String::new())),
                        Part::Arguments { text, .. } => calls.last_mut().unwrap().1 += &text,
                        Part::Words(text) => words += &text,
                        Part::Thought(text) => panic!("{text}"),
                    }
                }
                for (name, arguments) in &calls {
                    constraint
                        .check_call(name, arguments)
                        .unwrap_or_else(|bad| panic!("{bad}: {text}"));
                }
                if required {
                    assert!(!calls.is_empty() && words.is_empty(), "{text}");
                }
                if !several {
                    assert!(calls.len() <= 1, "{text}");
                }
                calls_made += calls.len();
                words_said += usize::from(!words.is_empty());
            }
        }
    }
    assert!(
        calls_made > 100 && words_said > 20,
        "{calls_made} {words_said}"
    );
}

/// Whether `text` may be an answer; `Err` with the number of bytes up to the first that may not be.
fn takes(constraint: &Constraint, text: &str) -> Result<bool, usize> {
    let mut matcher = constraint.matcher();
    for (at, &byte) in text.as_bytes().iter().enumerate() {
        let mut logits = vec![0.0; tokenizer().0.vocab_size()];
        matcher.restrict(&mut logits).map_err(|_| at)?;
        let end = tokenizer().1 as usize;
        if logits
            .iter()
            .enumerate()
            .all(|(id, logit)| (*logit == 0.0) == (id == end))
        {
            return Err(at);
        }
        // Forced text is spelled with whole tokens only: byte by byte is for free text.
        matcher.advance(TokenId::from(byte)).map_err(|_| at)?;
    }
    matcher.may_end().map_err(|_| text.len())
}

#[test]
fn text_may_turn_into_a_call_and_a_call_must_be_right() {
    let grammars = grammars();
    let constraint = |syntax, required, several| {
        let format = CallFormat {
            functions: functions(),
            syntax,
            required,
            several,
        };
        grammars
            .compile(&Shape::Calls(format), Thinking::Never)
            .unwrap()
    };
    let call = "<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>";
    let auto = constraint(CallSyntax::Hermes, false, true);
    assert_eq!(takes(&auto, "just words < and <tool"), Ok(true));
    assert_eq!(takes(&auto, call), Ok(true));
    assert_eq!(takes(&auto, &format!("first\n{call}\n{call}")), Ok(true));
    assert!(takes(&auto, "<tool_call>\n{\"name\": \"never\"").is_err());
    assert!(
        takes(
            &auto,
            "<tool_call>\n{\"name\": \"now\", \"arguments\": {\"x\""
        )
        .is_err()
    );
    assert_eq!(takes(&auto, "<tool_call>\n{\"name\""), Ok(false));
    let one = constraint(CallSyntax::Hermes, true, false);
    assert_eq!(takes(&one, call), Ok(true));
    assert!(takes(&one, &format!("{call}\n")).is_err());
    assert!(takes(&one, "words").is_err());
    let llama = constraint(CallSyntax::Llama, false, false);
    assert_eq!(takes(&llama, "words {\"a\""), Ok(true));
    assert_eq!(
        takes(&llama, "{\"name\": \"now\", \"parameters\": {}}"),
        Ok(true)
    );
    assert!(takes(&llama, "{\"a\"").is_err());
}

#[test]
fn thoughts_are_free_and_what_follows_is_not() {
    let grammars = grammars();
    let shape = Shape::JsonSchema(
        json!({"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"],
        "additionalProperties": false}),
    );
    let begun = grammars.compile(&shape, Thinking::Begun).unwrap();
    assert_eq!(takes(&begun, "{hm} </think>\n\n{\"a\": true}"), Ok(true));
    assert_eq!(takes(&begun, "{\"a\": true}"), Ok(false));
    assert!(takes(&begun, "x</think>y").is_err());
    let maybe = grammars.compile(&shape, Thinking::Maybe).unwrap();
    assert_eq!(takes(&maybe, "<think>so</think>{\"a\": true}"), Ok(true));
    assert_eq!(takes(&maybe, "{\"a\": true}"), Ok(true));
    assert!(takes(&maybe, "so").is_err());
}
