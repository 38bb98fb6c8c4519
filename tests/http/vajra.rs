//! What Vajra's HTTP tests ask for, row V14 of the table: each by name, and where this server is stricter it says so.

use std::time::Duration;

use llamahome::http::UnknownFields;
use serde_json::{Value, json};

use crate::support::{Call, Daemon, FakeSource, Setup};

const CHAT: &str = "/v1/chat/completions";
const TEXT: &str = "/v1/completions";

fn daemon() -> Daemon {
    Daemon::start(Setup::fake(FakeSource::default()))
}

fn chat(change: Value) -> Value {
    let mut body = json!({"messages": [{"role": "user", "content": "a"}], "max_tokens": 4});
    let change = change.as_object().unwrap().clone();
    body.as_object_mut().unwrap().extend(change);
    body
}

#[test]
fn v14_no_or_a_bad_bearer_is_401_and_health_is_open() {
    let daemon = Daemon::start(Setup::fake(FakeSource::default()).key("right"));
    for path in ["/v1/models", CHAT, TEXT] {
        let method = if path == "/v1/models" { "GET" } else { "POST" };
        for key in ["", "Bearer wrong", "Basic right"] {
            let call = Call::new(daemon.address, method, path).header("Authorization", key);
            assert_eq!(call.send().status, 401, "{path} {key}");
        }
        let call = Call::new(daemon.address, method, path).header("Authorization", "Bearer right");
        assert_ne!(call.send().status, 401, "{path}");
    }
    // Vajra opens every other path. Here only those are open that say nothing but whether the process lives.
    for path in ["/health", "/ready"] {
        assert_eq!(daemon.get(path).status, 200, "{path}");
    }
    assert_eq!(daemon.get("/metrics").status, 401);
}

#[test]
fn v14_an_unknown_field_is_400_where_that_is_asked_for() {
    let mut setup = Setup::fake(FakeSource::default());
    setup.http.unknown_fields = UnknownFields::Refuse;
    let strict = Daemon::start(setup);
    let body = json!({"prompt": "a", "max_tokens": 2, "no_such_field": 1});
    let reply = strict.post(TEXT, &body);
    let (code, param) = ("unknown_parameter".to_owned(), "no_such_field".to_owned());
    assert_eq!(reply.error(), (400, code, Some(param)));
    assert_eq!(strict.post(CHAT, &chat(json!({"x": 1}))).status, 400);
    assert_eq!(strict.post(CHAT, &chat(json!({"x": null}))).status, 200);
    // Clients send what newer servers know, so it is passed over otherwise.
    assert_eq!(daemon().post(TEXT, &body).status, 200);
}

#[test]
fn v14_stream_options_without_stream_are_400() {
    let daemon = daemon();
    let options = json!({"include_usage": true});
    for body in [
        json!({"prompt": "a", "stream_options": options}),
        json!({"prompt": "a", "stream": false, "stream_options": options}),
    ] {
        let (status, _, param) = daemon.post(TEXT, &body).error();
        assert_eq!((status, param.as_deref()), (400, Some("stream_options")));
    }
    let reply = daemon.post(CHAT, &chat(json!({"stream_options": options})));
    assert_eq!(reply.status, 400);
}

#[test]
fn v14_tool_choice_without_tools_is_400() {
    let daemon = daemon();
    for choice in [json!("auto"), json!("none"), json!("required")] {
        let reply = daemon.post(CHAT, &chat(json!({"tool_choice": choice})));
        let (status, _, param) = reply.error();
        assert_eq!((status, param.as_deref()), (400, Some("tool_choice")));
    }
}

#[test]
fn v14_a_stream_says_the_role_first_its_counts_in_an_empty_chunk_and_ends_with_done() {
    let daemon = daemon();
    let body = chat(json!({"stream_options": {"include_usage": true}}));
    // `events` fails when the last event is not [DONE], or something follows it.
    let chunks = daemon.stream(CHAT, &body).events();
    let first = &chunks[0]["choices"][0]["delta"];
    assert_eq!(
        (&first["role"], first["content"].as_str()),
        (&json!("assistant"), Some(""))
    );
    let (counts, before) = chunks.split_last().unwrap();
    assert_eq!(counts["choices"], json!([]));
    assert_eq!(counts["usage"]["completion_tokens"], 4);
    for chunk in before.iter().skip(1) {
        assert!(
            chunk["choices"][0]["delta"].get("role").is_none(),
            "{chunk}"
        );
        assert!(chunk["usage"].is_null(), "{chunk}");
    }
}

#[test]
fn v14_a_completion_that_is_no_stream_works() {
    let reply = daemon().post(
        TEXT,
        &json!({"prompt": "a", "max_tokens": 3, "stream": false}),
    );
    assert_eq!(reply.status, 200, "{}", reply.body);
    let body = reply.json();
    assert_eq!(body["choices"][0]["text"], "bcd");
    assert_eq!(body["usage"]["total_tokens"], 4);
}

#[test]
fn v14_stop_ends_an_answer() {
    let daemon = daemon();
    let body = json!({"prompt": "a", "max_tokens": 10, "stop": ["de"]});
    let answer = daemon.post(TEXT, &body).json();
    assert_eq!(answer["choices"][0]["text"], "bc");
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
}

#[test]
fn v14_a_client_that_leaves_frees_its_blocks() {
    let mut setup = Setup::fake(FakeSource {
        delay: Duration::from_millis(10),
        ..FakeSource::default()
    });
    setup.sections.runtime.monitor_interval = llamahome::units::Duration(Duration::from_millis(50));
    let daemon = Daemon::start(setup);
    let body = json!({"prompt": "a", "max_tokens": 250, "ignore_eos": true});
    let mut open = daemon.stream(TEXT, &body);
    open.event().unwrap();
    daemon.wait_metric("llamahome_open_sequences 1");
    drop(open);
    for line in [
        "llamahome_open_sequences 0",
        "llamahome_open_sequence_bytes 0",
        "llamahome_kv_cache_bytes 0",
    ] {
        daemon.wait_metric(line);
    }
}
