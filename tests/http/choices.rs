//! Several choices, ids and log-probabilities.

use serde_json::{Value, json};

use crate::support::{Daemon, FakeSource, LETTER_A, Setup};

const CHAT: &str = "/v1/chat/completions";
const TEXT: &str = "/v1/completions";

fn daemon() -> Daemon {
    Daemon::start(Setup::fake(FakeSource::default()))
}

fn texts(answer: &Value) -> Vec<&str> {
    let choices = answer["choices"].as_array().unwrap();
    for (place, choice) in choices.iter().enumerate() {
        assert_eq!(choice["index"], place);
    }
    choices
        .iter()
        .map(|choice| choice["text"].as_str().unwrap())
        .collect()
}

#[test]
fn prompts_of_text_and_of_ids_mean_the_same() {
    let daemon = daemon();
    for (prompt, expected) in [
        (json!("a"), vec!["bc"]),
        (json!(["a"]), vec!["bc"]),
        (json!([LETTER_A]), vec!["bc"]),
        (json!([[LETTER_A]]), vec!["bc"]),
        (json!(["a", "m"]), vec!["bc", "no"]),
        (json!([[LETTER_A], [LETTER_A + 12]]), vec!["bc", "no"]),
    ] {
        let reply = daemon.post(TEXT, &json!({"prompt": prompt, "max_tokens": 2}));
        assert_eq!(reply.status, 200, "{}", reply.body);
        assert_eq!(texts(&reply.json()), expected, "{prompt}");
    }
}

#[test]
fn several_choices_are_told_apart_and_their_prompt_is_counted_once() {
    let daemon = daemon();
    let ask = json!({"prompt": ["a", "m"], "max_tokens": 20, "n": 2, "temperature": 2, "top_k": 0, "top_p": 1,
        "min_p": 0, "seed": 3, "ignore_eos": true, "stream_options": {"include_usage": true}});
    let mut plain = ask.clone();
    plain.as_object_mut().unwrap().remove("stream_options");
    let answer = daemon.post(TEXT, &plain).json();
    let told = texts(&answer);
    assert_eq!(told.len(), 4);
    assert_ne!(told[0], told[1], "each choice has a seed of its own");
    assert_eq!(answer["usage"]["prompt_tokens"], 2);
    assert_eq!(answer["usage"]["completion_tokens"], 80);
    for choice in answer["choices"].as_array().unwrap() {
        assert_eq!(choice["kv"]["tokens_seen"], 20, "{choice}");
    }
    let chunks = daemon.stream(TEXT, &ask).events();
    let mut streamed = vec![String::new(); 4];
    for choice in chunks
        .iter()
        .flat_map(|chunk| chunk["choices"].as_array().unwrap())
    {
        let index = choice["index"].as_u64().unwrap() as usize;
        streamed[index] += choice["text"].as_str().unwrap();
    }
    assert_eq!(streamed, told);
    assert_eq!(chunks.last().unwrap()["usage"], answer["usage"]);
    let ends = chunks
        .iter()
        .filter(|chunk| chunk["choices"][0]["finish_reason"] == "length");
    assert_eq!(ends.count(), 4);
}

#[test]
fn completions_tell_log_probabilities_in_the_legacy_shape() {
    let daemon = daemon();
    let ask = json!({"prompt": "a", "max_tokens": 3, "logprobs": 2});
    let answer = daemon.post(TEXT, &ask).json();
    let told = &answer["choices"][0]["logprobs"];
    assert_eq!(told["tokens"], json!(["b", "c", "d"]));
    assert_eq!(
        told["token_ids"],
        json!([LETTER_A + 1, LETTER_A + 2, LETTER_A + 3])
    );
    assert_eq!(told["text_offset"], json!([0, 1, 2]));
    for place in 0..3 {
        let own = told["token_logprobs"][place].as_f64().unwrap();
        // e^10 among 399 times e^0.
        let expected = 10.0 - (10f64.exp() + 399.0).ln();
        assert!((own - expected).abs() < 1e-4, "{own} is not {expected}");
        let best = &told["top_logprob_ids"][place];
        assert_eq!(best.as_array().unwrap().len(), 2);
        assert_eq!(best[0][0], LETTER_A + 1 + place as u32);
        assert_eq!(best[0][1], told["token_logprobs"][place]);
        let token = told["tokens"][place].as_str().unwrap();
        assert_eq!(
            told["top_logprobs"][place][token],
            told["token_logprobs"][place]
        );
    }
    // The pieces of a stream joined are the same lists.
    let chunks = daemon.stream(TEXT, &ask).events();
    for field in [
        "tokens",
        "token_ids",
        "text_offset",
        "token_logprobs",
        "top_logprob_ids",
    ] {
        let lists = chunks
            .iter()
            .filter_map(|chunk| chunk["choices"][0]["logprobs"][field].as_array());
        let joined: Vec<Value> = lists.flatten().cloned().collect();
        assert_eq!(Value::from(joined), told[field], "{field}");
    }
}

#[test]
fn chats_tell_log_probabilities_with_bytes() {
    let daemon = daemon();
    let ask = json!({"messages": [{"role": "user", "content": "a"}], "max_tokens": 2, "logprobs": true, "top_logprobs": 3});
    let answer = daemon.post(CHAT, &ask).json();
    let told = answer["choices"][0]["logprobs"]["content"]
        .as_array()
        .unwrap();
    assert_eq!(told.len(), 2);
    assert_eq!(told[0]["token"], "b");
    assert_eq!(told[0]["bytes"], json!([0x62]));
    assert_eq!(told[0]["top_logprobs"].as_array().unwrap().len(), 3);
    assert_eq!(told[0]["top_logprobs"][0]["token_id"], LETTER_A + 1);
    let plain = json!({"messages": [{"role": "user", "content": "a"}], "max_tokens": 2});
    assert!(daemon.post(CHAT, &plain).json()["choices"][0]["logprobs"].is_null());
}

#[test]
fn a_bias_bans_and_forces_tokens() {
    let daemon = daemon();
    let biased = |bias: Value| {
        let ask = json!({"prompt": "a", "max_tokens": 1, "logit_bias": bias});
        daemon.post(TEXT, &ask).json()["choices"][0]["text"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(biased(json!({(LETTER_A + 9).to_string(): 100})), "j");
    assert_ne!(biased(json!({(LETTER_A + 1).to_string(): -100})), "b");
}

#[test]
fn ids_are_told_when_asked_for() {
    let daemon = daemon();
    let ask = json!({"prompt": "a", "max_tokens": 3, "return_token_ids": true});
    let choice = daemon.post(TEXT, &ask).json()["choices"][0].clone();
    assert_eq!(choice["prompt_token_ids"], json!([LETTER_A]));
    assert_eq!(
        choice["token_ids"],
        json!([LETTER_A + 1, LETTER_A + 2, LETTER_A + 3])
    );
    let chunks = daemon.stream(TEXT, &ask).events();
    assert_eq!(
        chunks[0]["choices"][0]["prompt_token_ids"],
        json!([LETTER_A])
    );
    let ids = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["token_ids"].as_array());
    assert_eq!(
        Value::from(ids.flatten().cloned().collect::<Vec<_>>()),
        choice["token_ids"]
    );
}
