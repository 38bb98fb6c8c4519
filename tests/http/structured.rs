//! Answers that are asked to be something: over a socket, by the fake model where any text will do and by a real one.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use crate::schemas::whole_schema;
use crate::support::{Daemon, FakeSource, Reply, Setup};

const CHAT: &str = "/v1/chat/completions";
const TEXT: &str = "/v1/completions";

fn fake() -> Daemon {
    Daemon::start(Setup::fake(FakeSource::default()))
}

fn merged(mut ask: Value, more: &Value) -> Value {
    let more = more.as_object().unwrap().clone();
    ask.as_object_mut().unwrap().extend(more);
    ask
}

fn said(more: Value) -> Value {
    merged(
        json!({"messages": [{"role": "user", "content": "a"}]}),
        &more,
    )
}

fn ok(reply: Reply) -> Value {
    assert_eq!(reply.status, 200, "{}", reply.body);
    reply.json()
}

fn content(answer: &Value) -> &str {
    let text = &answer["choices"][0]["message"]["content"];
    text.as_str().unwrap_or_else(|| panic!("{answer}"))
}

/// The words of a stream, and why it ended.
fn streamed(chunks: &[Value]) -> (String, Value) {
    let choice = |chunk: &Value| chunk["choices"][0].clone();
    let word = |chunk: &Value| {
        choice(chunk)["delta"]["content"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    let mut end = chunks
        .iter()
        .map(choice)
        .map(|choice| choice["finish_reason"].clone());
    let end = end.rfind(|reason| !reason.is_null());
    (chunks.iter().map(word).collect(), end.unwrap_or_default())
}

#[test]
fn texts_are_chosen_and_patterns_are_kept_to() {
    let daemon = fake();
    for form in [
        json!({"structured_outputs": {"choice": ["xyz", "bcq"]}}),
        json!({"guided_choice": ["xyz", "bcq"]}),
        json!({"guided_regex": "^(xyz|bcq)$"}),
        json!({"structured_outputs": {"grammar": "start: \"xyz\" | \"bc\" rest\nrest: \"q\""}}),
    ] {
        // The model would go on with "bcdef".
        let whole = ok(daemon.post(
            TEXT,
            &merged(json!({"prompt": "a", "max_tokens": 20}), &form),
        ));
        assert_eq!(whole["choices"][0]["text"], "bcq", "{form}");
        assert_eq!(whole["choices"][0]["finish_reason"], "stop");
        let chat = ok(daemon.post(CHAT, &said(form.clone())));
        assert_eq!(content(&chat), "bcq", "{form}");
        let chunks = daemon.stream(CHAT, &said(form.clone())).events();
        assert_eq!(
            streamed(&chunks),
            ("bcq".to_owned(), json!("stop")),
            "{form}"
        );
    }
}

#[test]
fn every_choice_keeps_to_it_and_seeds_fix_the_draws() {
    let daemon = fake();
    let ask = said(
        json!({"guided_regex": "[a-z]{6}", "n": 4, "temperature": 2, "top_k": 0, "top_p": 1, "min_p": 0,
        "seed": 3, "return_token_ids": true, "logprobs": true}),
    );
    let texts = || -> Vec<String> {
        let answer = ok(daemon.post(CHAT, &ask));
        let choices = answer["choices"].as_array().unwrap().iter();
        choices
            .map(|c| c["message"]["content"].as_str().unwrap().to_owned())
            .collect()
    };
    let first = texts();
    assert!(
        first
            .iter()
            .all(|t| t.len() == 6 && t.bytes().all(|b| b.is_ascii_lowercase())),
        "{first:?}"
    );
    assert!(first[1..].iter().any(|text| *text != first[0]), "{first:?}");
    assert_eq!(texts(), first);
}

#[test]
fn an_answer_that_was_cut_says_so() {
    let daemon = fake();
    let form = json!({"response_format": {"type": "json_object"}, "max_tokens": 3});
    let answer = ok(daemon.post(CHAT, &said(form.clone())));
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    let chunks = daemon.stream(CHAT, &said(form)).events();
    assert_eq!(streamed(&chunks).1, "length");
    // A stop string ends an answer as if it were complete, and it is not.
    let cut = said(json!({"guided_choice": ["bcq"], "stop": "c"}));
    let reply = daemon.post(CHAT, &cut);
    assert_eq!(
        reply.error(),
        (500, "invalid_output".to_owned(), None),
        "{}",
        reply.body
    );
    let chunks = daemon.stream(CHAT, &cut).events();
    assert_eq!(
        chunks.last().unwrap()["error"]["code"],
        "invalid_output",
        "{chunks:?}"
    );
    assert!(
        chunks
            .iter()
            .all(|chunk| chunk["choices"][0]["finish_reason"].is_null()),
        "{chunks:?}"
    );
}

#[test]
fn others_in_the_batch_are_not_kept_to_it() {
    let source = FakeSource {
        delay: std::time::Duration::from_millis(3),
        ..FakeSource::default()
    };
    let daemon = Daemon::start(Setup::fake(source));
    let free = said(json!({"max_tokens": 8}));
    let kept = said(json!({"guided_regex": "(xy){4}"}));
    std::thread::scope(|scope| {
        let free = scope.spawn(|| streamed(&daemon.stream(CHAT, &free).events()).0);
        let kept = scope.spawn(|| streamed(&daemon.stream(CHAT, &kept).events()).0);
        assert_eq!(free.join().unwrap(), "bcdefghi");
        assert_eq!(kept.join().unwrap(), "xyxyxyxy");
    });
}

#[test]
fn a_session_goes_on_behind_such_an_answer() {
    let daemon = fake();
    let turn = |text: &str, more: Value| {
        let ask = json!({"session": "s", "max_tokens": 4, "messages": [{"role": "user", "content": text}]});
        content(&ok(daemon.post(CHAT, &merged(ask, &more)))).to_owned()
    };
    assert_eq!(turn("a", json!({"guided_choice": ["xx"]})), "xx");
    assert_eq!(turn("d", json!({})), "efgh");
    assert_eq!(turn("d", json!({"guided_regex": "[xy]{2}"})).len(), 2);
}

#[test]
fn thoughts_are_told_apart() {
    let source = FakeSource {
        ending: "<think>",
        ..FakeSource::default()
    };
    let daemon = Daemon::start(Setup::fake(source));
    let ask = said(json!({"max_tokens": 4}));
    let message = ok(daemon.post(CHAT, &ask))["choices"][0]["message"].clone();
    assert_eq!(message["reasoning_content"], "?@AB", "{message}");
    assert_eq!(message["content"], "", "{message}");
    let chunks = daemon.stream(CHAT, &ask).events();
    let thought = |chunk: &Value| {
        let text = &chunk["choices"][0]["delta"]["reasoning_content"];
        text.as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(chunks.iter().map(thought).collect::<String>(), "?@AB");
    assert_eq!(streamed(&chunks), (String::new(), json!("length")));
}

#[test]
fn what_cannot_be_honoured_is_refused() {
    let daemon = fake();
    let schema = |schema: Value| json!({"response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}});
    for (path, form, param) in [
        (
            CHAT,
            schema(json!({"type": "object", "not": {}})),
            "response_format.json_schema.schema#/not",
        ),
        (
            CHAT,
            schema(json!({"properties": {"a": {"items": {"uniqueItems": true}}}})),
            "response_format.json_schema.schema#/properties/a/items/uniqueItems",
        ),
        (
            TEXT,
            json!({"guided_json": {"type": "thing"}}),
            "guided_json#/type",
        ),
        (TEXT, json!({"guided_regex": "("}), "guided_regex"),
        (
            TEXT,
            json!({"structured_outputs": {"grammar": "nothing"}}),
            "structured_outputs.grammar",
        ),
        (
            TEXT,
            json!({"structured_outputs": {"choice": ["a", ""]}}),
            "structured_outputs.choice#/1",
        ),
        (
            TEXT,
            json!({"guided_regex": "a", "guided_choice": ["b"]}),
            "guided_choice",
        ),
        (
            TEXT,
            json!({"guided_regex": "a", "ignore_eos": true}),
            "ignore_eos",
        ),
        (
            CHAT,
            json!({"response_format": {"type": "yaml"}}),
            "response_format.type",
        ),
    ] {
        let ask = match path {
            TEXT => merged(json!({"prompt": "a"}), &form),
            _ => said(form),
        };
        let reply = daemon.post(path, &ask);
        assert_eq!(
            reply.error(),
            (400, "invalid_value".to_owned(), Some(param.to_owned())),
            "{ask}: {}",
            reply.body
        );
        assert_eq!(daemon.stream(path, &ask).status, 400, "{ask}");
    }
    assert_eq!(daemon.busy(), (0, 0));
}

/// Fulfils by what it says itself: the tests that come with the grammar ask another library.
fn is_person(value: &Value) -> bool {
    let map = value.as_object().unwrap();
    let name = map["name"].as_str().unwrap();
    let age = map["age"].as_i64().unwrap();
    let tags = map["tags"].as_array().unwrap();
    let known = |tag: &Value| ["red", "green", "blue"].contains(&tag.as_str().unwrap());
    map.len() == 3
        && name.chars().count() <= 12
        && (0..=120).contains(&age)
        && tags.len() <= 2
        && tags.iter().all(known)
}

#[test]
fn a_real_model_fills_in_a_schema_however_it_is_drawn() {
    let daemon = Daemon::start(Setup::real());
    let schema = json!({"type": "object", "properties": {"name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "tags": {"type": "array", "items": {"$ref": "#/$defs/colour"}, "maxItems": 2}},
        "required": ["name", "age", "tags"], "additionalProperties": false,
        "$defs": {"colour": {"enum": ["red", "green", "blue"]}}});
    let ask = |more: Value| {
        let ask = json!({"messages": [{"role": "user", "content": "Describe a person as JSON."}], "max_tokens": 200,
            "response_format": {"type": "json_schema", "json_schema": {"name": "person", "strict": true, "schema": schema}}});
        merged(ask, &more)
    };
    let hot = json!({"temperature": 1, "top_k": 0, "top_p": 1, "min_p": 0});
    for more in [
        json!({"temperature": 0}),
        merged(hot.clone(), &json!({"seed": 1, "n": 2})),
        merged(
            hot.clone(),
            &json!({"seed": 2, "kv": {"policy": "h2o", "budget": 24}}),
        ),
    ] {
        let whole = ok(daemon.post(CHAT, &ask(more.clone())));
        for choice in whole["choices"].as_array().unwrap() {
            assert_eq!(choice["finish_reason"], "stop", "{choice}");
            let text = choice["message"]["content"].as_str().unwrap();
            assert!(is_person(&serde_json::from_str(text).unwrap()), "{text}");
        }
        if more["n"].is_null() {
            let chunks = daemon.stream(CHAT, &ask(more)).events();
            assert_eq!(streamed(&chunks).0, content(&whole));
        }
    }
}

/// Some answers of a small model that is drawn from so freely go on in a list or a text until they are cut off, which is
/// said of each; whatever is said to be finished fulfils its schema by another library's judgement.
#[test]
fn a_real_model_at_temperature_1_fulfils_each_of_two_hundred_schemas_that_it_finishes() {
    let daemon = Daemon::start(Setup::real());
    let next = AtomicU64::new(0);
    let finished = AtomicU64::new(0);
    let ask = |seed: u64| {
        let schema = whole_schema(seed);
        let ask = json!({"messages": [{"role": "user", "content": "Give an example of JSON."}], "max_tokens": 160, "seed": seed,
            "temperature": 1, "top_k": 0, "top_p": 1, "min_p": 0,
            "response_format": {"type": "json_schema", "json_schema": {"name": "made", "strict": true, "schema": schema}}});
        let answer = ok(daemon.post(CHAT, &ask));
        let choice = &answer["choices"][0];
        let text = choice["message"]["content"].as_str().unwrap();
        match choice["finish_reason"].as_str() {
            Some("stop") => {
                let value: Value = serde_json::from_str(text)
                    .unwrap_or_else(|error| panic!("schema {seed}: {error}: {text}"));
                assert!(jsonschema::is_valid(&schema, &value), "{schema}\n{text}");
                finished.fetch_add(1, Ordering::Relaxed);
            }
            reason => assert_eq!(reason, Some("length"), "schema {seed}: {answer}"),
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= 200 {
                        break;
                    }
                    ask(seed);
                }
            });
        }
    });
    let finished = finished.into_inner();
    println!("{finished} of 200 were finished");
    assert!(finished >= 100, "{finished} of 200 were finished");
}
