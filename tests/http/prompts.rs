//! What is told of prompts: log-probabilities of their tokens, and their hidden states as one vector.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::{CONTEXT, Daemon, FakeSource, LETTER_A, Setup, VOCAB};

const TEXT: &str = "/v1/completions";
const VECTORS: &str = "/v1/embeddings";

fn daemon() -> Daemon {
    Daemon::start(Setup::fake(FakeSource::default()))
}

fn numbers(value: &Value) -> Vec<Option<f64>> {
    value
        .as_array()
        .unwrap_or_else(|| panic!("{value}"))
        .iter()
        .map(Value::as_f64)
        .collect()
}

/// Of the model that continues the alphabet: it is sure of the next letter, and of nothing else.
fn known(next: bool) -> f64 {
    let others = (VOCAB - 1) as f64;
    let sum = (10f64.exp() + others).ln();
    if next { 10.0 - sum } else { -sum }
}

#[test]
fn a_prompt_is_told_before_its_answer() {
    let daemon = daemon();
    for (prompt, logprobs) in [
        (json!("abd"), 2),
        (json!([LETTER_A, LETTER_A + 1, LETTER_A + 3]), 0),
    ] {
        let ask = json!({"prompt": prompt, "max_tokens": 2, "logprobs": logprobs, "echo": true, "return_token_ids": true});
        let answer = daemon.post(TEXT, &ask).json();
        let choice = &answer["choices"][0];
        assert_eq!(choice["text"], "abdef", "{answer}");
        assert_eq!(answer["usage"]["completion_tokens"], 2);
        assert_eq!(choice["token_ids"], json!([LETTER_A + 4, LETTER_A + 5]));
        let told = &choice["logprobs"];
        assert_eq!(told["tokens"], json!(["a", "b", "d", "e", "f"]));
        assert_eq!(told["text_offset"], json!([0, 1, 2, 3, 4]));
        let expected = [
            None,
            Some(known(true)),
            Some(known(false)),
            Some(known(true)),
            Some(known(true)),
        ];
        for (got, expected) in numbers(&told["token_logprobs"]).into_iter().zip(expected) {
            match (got, expected) {
                (Some(got), Some(expected)) => assert!((got - expected).abs() < 1e-4, "{told}"),
                (got, expected) => assert_eq!(got, expected, "{told}"),
            }
        }
        let top = told["top_logprobs"].as_array().unwrap();
        assert_eq!(top.len(), 5);
        assert!(top[0].is_null(), "{told}");
        let best = top[2].as_object().unwrap();
        assert_eq!(best.len(), logprobs, "{told}");
        if logprobs > 0 {
            assert!(
                (best["c"].as_f64().unwrap() - known(true)).abs() < 1e-4,
                "{told}"
            );
        }

        let chunks = daemon.stream(TEXT, &ask).events();
        let text: String = chunks
            .iter()
            .filter_map(|chunk| chunk["choices"][0]["text"].as_str())
            .collect();
        assert_eq!(text, "abdef");
        let mut streamed = Vec::new();
        for chunk in &chunks {
            if let Some(tokens) = chunk["choices"][0]["logprobs"]["tokens"].as_array() {
                streamed.extend(tokens.clone());
            }
        }
        assert_eq!(json!(streamed), told["tokens"]);
    }
    // A prompt alone, read in many pieces.
    let long: String = ('a'..='z').cycle().take(CONTEXT).collect();
    let ask = json!({"prompt": long, "max_tokens": 0, "logprobs": 1, "echo": true});
    let answer = daemon.post(TEXT, &ask).json();
    let choice = &answer["choices"][0];
    assert_eq!(
        (&choice["text"], &choice["finish_reason"]),
        (&json!(long), &json!("length"))
    );
    assert_eq!(answer["usage"]["completion_tokens"], 0);
    let told = numbers(&choice["logprobs"]["token_logprobs"]);
    assert_eq!(told.len(), CONTEXT);
    for (place, told) in told.into_iter().enumerate().skip(1) {
        let expected = known(place % 26 != 0);
        assert!((told.unwrap() - expected).abs() < 1e-4, "{place}");
    }
    // Without numbers it is the text alone.
    let plain = json!({"prompt": "ab", "max_tokens": 1, "echo": true});
    let answer = daemon.post(TEXT, &plain).json();
    assert_eq!(answer["choices"][0]["text"], "abc");
    assert!(answer["choices"][0]["logprobs"].is_null());
    let nothing = daemon.post(TEXT, &json!({"prompt": "ab", "max_tokens": 0}));
    assert_eq!(nothing.status, 400, "{}", nothing.body);
}

#[test]
fn what_a_model_has_said_is_as_probable_when_it_is_read() {
    let daemon = Daemon::start(Setup::real());
    let ask = json!({"prompt": "The capital of France is", "max_tokens": 12, "temperature": 0, "logprobs": 1,
        "return_token_ids": true, "kv": {"policy": "full"}});
    let said = daemon.post(TEXT, &ask).json();
    let choice = &said["choices"][0];
    let drawn = numbers(&choice["logprobs"]["token_logprobs"]);
    let mut ids = choice["prompt_token_ids"].as_array().unwrap().clone();
    let before = ids.len();
    ids.extend(choice["token_ids"].as_array().unwrap().clone());
    let read = json!({"prompt": ids, "max_tokens": 0, "logprobs": 1, "echo": true, "kv": {"policy": "full"}});
    let told = daemon.post(TEXT, &read).json();
    let read = numbers(&told["choices"][0]["logprobs"]["token_logprobs"]);
    assert_eq!(read.len(), before + drawn.len());
    // Prompts are computed with rounder numbers than answers.
    for (read, drawn) in read[before..].iter().zip(&drawn) {
        let apart = (read.unwrap() - drawn.unwrap()).abs();
        assert!(apart < 0.25, "{read:?} {drawn:?}");
    }
}

#[test]
fn texts_become_vectors() {
    let daemon = daemon();
    let a = f64::from(LETTER_A);
    // Of the model in tests, the state of a token is its id and its place.
    for (more, expected) in [
        (json!({"normalize": false}), vec![a + 1.0, 1.0]),
        (
            json!({"normalize": false, "pooling": "last"}),
            vec![a + 2.0, 2.0],
        ),
        (
            json!({"normalize": false, "dimensions": 2}),
            vec![a + 1.0, 1.0],
        ),
    ] {
        let mut ask = json!({"model": "fake", "input": "abc"});
        ask.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let reply = daemon.post(VECTORS, &ask);
        assert_eq!(reply.status, 200, "{}", reply.body);
        let answer = reply.json();
        assert_eq!(answer["data"][0]["embedding"], json!(expected), "{more}");
        assert_eq!(
            answer["usage"],
            json!({"prompt_tokens": 3, "total_tokens": 3})
        );
        assert_eq!(
            (&answer["object"], &answer["model"]),
            (&json!("list"), &json!("fake"))
        );
    }
    let long: String = ('a'..='z').cycle().take(CONTEXT).collect();
    let ask = json!({"input": [long, "b", [LETTER_A]], "normalize": false});
    let answer = daemon.post(VECTORS, &ask).json();
    let place = |index: usize| answer["data"][index]["embedding"][1].as_f64().unwrap();
    assert_eq!(place(0), (CONTEXT - 1) as f64 / 2.0, "in many pieces");
    assert_eq!(answer["data"][2]["index"], 2);
    assert_eq!(answer["data"][1]["embedding"], json!([a + 1.0, 0.0]));

    let ask = json!({"input": "ab", "encoding_format": "base64"});
    let answer = daemon.post(VECTORS, &ask).json();
    let bytes = STANDARD
        .decode(answer["data"][0]["embedding"].as_str().unwrap())
        .unwrap();
    let floats: Vec<f32> = bytes
        .chunks_exact(4)
        .map(|four| f32::from_le_bytes(four.try_into().unwrap()))
        .collect();
    let norm: f32 = floats.iter().map(|x| x * x).sum();
    assert!(floats.len() == 2 && (norm - 1.0).abs() < 1e-5, "{floats:?}");

    let ollama = daemon
        .post(
            "/api/embed",
            &json!({"model": "fake", "input": ["ab", "c"]}),
        )
        .json();
    assert_eq!(ollama["prompt_eval_count"], 3, "{ollama}");
    let first = ollama["embeddings"][0][0].as_f64().unwrap();
    assert!((first - f64::from(floats[0])).abs() < 1e-6, "{ollama}");
    let one = daemon
        .post("/api/embeddings", &json!({"model": "fake", "prompt": "ab"}))
        .json();
    assert_eq!(one, json!({"embedding": [a + 0.5, 0.5]}));
}

#[test]
fn a_real_models_vectors_do_not_depend_on_company_and_say_something() {
    let daemon = Daemon::start(Setup::real());
    let texts = [
        "The cat sleeps on the sofa.",
        "A kitten naps on the couch.",
        "Interest rates rose by two percent.",
    ];
    let vectors = |input: Value| -> Vec<Vec<f64>> {
        let answer = daemon.post(VECTORS, &json!({"input": input})).json();
        let data = answer["data"]
            .as_array()
            .unwrap_or_else(|| panic!("{answer}"));
        data.iter()
            .map(|line| {
                numbers(&line["embedding"])
                    .into_iter()
                    .map(Option::unwrap)
                    .collect()
            })
            .collect()
    };
    let together = vectors(json!(texts));
    assert_eq!(together[0].len(), 576);
    for (text, vector) in texts.iter().zip(&together) {
        assert_eq!(&vectors(json!(text))[0], vector, "{text}");
    }
    let near = |a: usize, b: usize| -> f64 {
        together[a]
            .iter()
            .zip(&together[b])
            .map(|(x, y)| x * y)
            .sum()
    };
    assert!(
        near(0, 1) > near(0, 2) && near(0, 1) > near(1, 2),
        "{} {} {}",
        near(0, 1),
        near(0, 2),
        near(1, 2)
    );
}

#[test]
fn what_cannot_be_embedded_is_refused() {
    let daemon = daemon();
    let long = "a".repeat(CONTEXT + 1);
    for (route, ask, code, param) in [
        (VECTORS, json!({"input": []}), "invalid_value", "input"),
        (VECTORS, json!({"input": ""}), "invalid_value", "input"),
        (VECTORS, json!({"input": [VOCAB]}), "invalid_value", "input"),
        (
            VECTORS,
            json!({"input": ["a", long]}),
            "context_length_exceeded",
            "input",
        ),
        (
            VECTORS,
            json!({"input": "a", "dimensions": 3}),
            "invalid_value",
            "dimensions",
        ),
        (
            "/api/embed",
            json!({"input": "a", "truncate": true}),
            "unsupported_parameter",
            "truncate",
        ),
        (
            "/api/embed",
            json!({"input": "a", "options": {"num_ctx": 5}}),
            "unsupported_parameter",
            "options",
        ),
        ("/api/embeddings", json!({}), "invalid_value", "prompt"),
        (
            "/api/embeddings",
            json!({"prompt": ""}),
            "invalid_value",
            "prompt",
        ),
        (
            TEXT,
            json!({"prompt": "a", "echo": true, "session": "s"}),
            "invalid_value",
            "echo",
        ),
    ] {
        let reply = daemon.post(route, &ask);
        let body = reply.json();
        let error = if route.starts_with("/api") {
            &body
        } else {
            &body["error"]
        };
        assert_eq!(
            (reply.status, &error["code"], &error["param"]),
            (400, &json!(code), &json!(param)),
            "{route} {ask}: {body}"
        );
    }
}
