//! What is answered, streamed and not.

use serde_json::{Value, json};

use crate::support::{Daemon, FakeSource, LETTER_A, Setup, VOCAB};

const CHAT: &str = "/v1/chat/completions";
const TEXT: &str = "/v1/completions";

fn daemon() -> Daemon {
    Daemon::start(Setup::fake(FakeSource::default()))
}

/// The text of a stream's chunks.
fn joined(chunks: &[Value]) -> String {
    let choices = chunks.iter().filter_map(|chunk| chunk["choices"].get(0));
    let piece = |choice: &Value| {
        let text = choice["delta"]["content"]
            .as_str()
            .or(choice["text"].as_str());
        text.unwrap_or_default().to_owned()
    };
    choices.map(piece).collect()
}

#[test]
fn a_seed_gives_one_text_streamed_or_not() {
    let daemon = daemon();
    let ask = |seed| {
        json!({"messages": [{"role": "user", "content": "a"}], "max_tokens": 40, "seed": seed,
            "temperature": 2, "top_k": 0, "top_p": 1, "min_p": 0})
    };
    let whole = |seed| {
        let reply = daemon.post(CHAT, &ask(seed));
        assert_eq!(reply.status, 200, "{}", reply.body);
        reply.json()["choices"][0]["message"]["content"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let text = whole(7);
    assert_eq!(whole(7), text);
    assert_ne!(whole(8), text);
    let chunks = daemon.stream(CHAT, &ask(7)).events();
    assert_eq!(joined(&chunks), text);
}

#[test]
fn a_whole_answer_has_counts_cache_and_times() {
    let daemon = daemon();
    let answer = daemon
        .post(
            TEXT,
            &json!({"prompt": "a", "max_tokens": 3, "temperature": 0}),
        )
        .json();
    assert_eq!(answer["object"], "text_completion");
    assert_eq!(answer["model"], "fake");
    assert_eq!(answer["choices"][0]["text"], "bcd");
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    let usage = json!({"prompt_tokens": 1, "completion_tokens": 3, "total_tokens": 4,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0}});
    assert_eq!(answer["usage"], usage);
    assert_eq!(answer["kv"]["policy"], "hybrid");
    assert_eq!(answer["kv"]["evicted"], 0);
    assert!(
        answer["timings"]["total_ms"].as_f64().unwrap() > 0.0,
        "{answer}"
    );
    let chat = json!({"messages": [{"role": "developer", "content": "x"},
        {"role": "user", "content": [{"type": "text", "text": "a"}]}], "max_completion_tokens": 2, "metadata": {"x": 1}});
    let answer = daemon.post(CHAT, &chat).json();
    assert_eq!(answer["object"], "chat.completion");
    assert_eq!(
        answer["choices"][0]["message"],
        json!({"role": "assistant", "content": "bc"})
    );
}

#[test]
fn a_stream_has_one_role_one_reason_and_counts_at_the_end() {
    let daemon = daemon();
    let ask = json!({"messages": [{"role": "user", "content": "a"}], "max_tokens": 3,
        "stream_options": {"include_usage": true}});
    let mut open = daemon.stream(CHAT, &ask);
    let kind = open
        .headers
        .iter()
        .find(|(name, _)| name == "content-type")
        .unwrap();
    assert!(kind.1.starts_with("text/event-stream"), "{kind:?}");
    let chunks = open.events();
    assert_eq!(joined(&chunks), "bcd");
    let (counts, told) = chunks.split_last().unwrap();
    assert_eq!(counts["choices"], json!([]));
    assert_eq!(counts["usage"]["completion_tokens"], 3);
    assert_eq!(counts["kv"]["tokens_seen"], 3);
    let roles = told
        .iter()
        .filter(|chunk| chunk["choices"][0]["delta"].get("role").is_some());
    assert_eq!(roles.count(), 1);
    assert_eq!(told[0]["choices"][0]["delta"]["role"], "assistant");
    let (last, before) = told.split_last().unwrap();
    for chunk in before {
        assert!(
            chunk["choices"][0]["finish_reason"].is_null() && chunk.get("kv").is_none(),
            "{chunk}"
        );
        assert!(
            chunk["usage"].is_null() && chunk.as_object().unwrap().contains_key("usage"),
            "{chunk}"
        );
    }
    assert_eq!(last["choices"][0]["finish_reason"], "length");
    assert_eq!(last["kv"], counts["kv"]);
    assert!(last["timings"]["first_token_ms"].is_number(), "{last}");
    assert!(chunks.iter().all(|chunk| chunk["id"] == chunks[0]["id"]));
}

#[test]
fn a_cache_at_its_budget_takes_the_same_bytes_however_long_the_answer() {
    let daemon = daemon();
    let kv = |tokens| {
        let ask = json!({"prompt": "a", "max_tokens": tokens, "ignore_eos": true, "kv": {"policy": "h2o", "budget": 16}});
        let reply = daemon.post(TEXT, &ask);
        assert_eq!(reply.status, 200, "{}", reply.body);
        reply.json()["kv"].clone()
    };
    let (short, long) = (kv(30), kv(200));
    assert_eq!(short["budget"], 16);
    assert_eq!(short["tokens_kept"], 16);
    assert_eq!(short["bytes"], long["bytes"]);
    let count = |report: &Value, field: &str| report[field].as_u64().unwrap();
    for report in [&short, &long] {
        let seen = count(report, "tokens_kept") + count(report, "evicted");
        assert_eq!(count(report, "tokens_seen"), seen, "{report}");
    }
    assert!(count(&long, "evicted") > count(&short, "evicted") + 100);
    let full = daemon.post(
        TEXT,
        &json!({"prompt": "a", "max_tokens": 50, "kv": {"policy": "full"}}),
    );
    assert_eq!(full.json()["kv"]["budget"], Value::Null);
}

#[test]
fn stop_strings_are_never_shown_in_part() {
    let daemon = daemon();
    for stop in [json!("efg"), json!(["xyz", "efg"])] {
        let ask = json!({"prompt": "a", "max_tokens": 20, "stop": stop});
        let answer = daemon.post(TEXT, &ask).json();
        assert_eq!(answer["choices"][0]["text"], "bcd", "{stop}");
        assert_eq!(answer["choices"][0]["finish_reason"], "stop");
        let chunks = daemon.stream(TEXT, &ask).events();
        assert_eq!(joined(&chunks), "bcd");
        assert_eq!(
            chunks.last().unwrap()["choices"][0]["finish_reason"],
            "stop"
        );
        assert_eq!(chunks.last().unwrap()["kv"]["policy"], "hybrid");
    }
    // What only looked like the beginning of one is shown after all.
    let answer = daemon
        .post(TEXT, &json!({"prompt": "a", "max_tokens": 5, "stop": "fx"}))
        .json();
    assert_eq!(answer["choices"][0]["text"], "bcdef");
}

#[test]
fn the_end_of_text_ends_an_answer_unless_it_is_to_be_ignored() {
    let daemon = daemon();
    let ask = |ignore| json!({"prompt": [VOCAB - 3], "max_tokens": 5, "ignore_eos": ignore});
    let answer = daemon.post(TEXT, &ask(false)).json();
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    assert_eq!(answer["usage"]["completion_tokens"], 2);
    let answer = daemon.post(TEXT, &ask(true)).json();
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    assert_eq!(answer["usage"]["completion_tokens"], 5);
}

#[test]
fn text_becomes_ids_and_back() {
    let daemon = daemon();
    for field in ["prompt", "content"] {
        let reply = daemon.post("/tokenize", &json!({field: "abé"})).json();
        assert_eq!(reply["count"], 4, "{reply}");
        assert_eq!(reply["tokens"], json!([LETTER_A, LETTER_A + 1, 0xC3, 0xA9]));
        let text = daemon
            .post("/detokenize", &json!({"tokens": reply["tokens"]}))
            .json();
        assert_eq!(text[field], "abé");
    }
}

#[test]
fn models_are_listed_with_what_they_are_doing() {
    let daemon = daemon();
    let list = daemon.get("/v1/models").json();
    let names: Vec<&str> = list["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m["id"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["broken", "fake"]);
    let fake = daemon.get("/v1/models/fake").json();
    assert_eq!(fake, list["data"][1]);
    assert_eq!(fake["state"], "loaded");
    assert_eq!(fake["max_model_len"], 256);
    assert_eq!(fake["root"], "fake");
    assert_eq!(list["data"][0]["state"], "unloaded");
    assert_eq!(daemon.get("/v1/models/none").error().1, "model_not_found");
    assert_eq!(daemon.get("/v1/ps").json()["data"][0]["state"], "loaded");
}
