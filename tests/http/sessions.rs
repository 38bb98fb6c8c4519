//! Conversations whose caches outlive their requests.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Call, Daemon, FakeSource, LETTER_A, Reply, Setup};

const CHAT: &str = "/v1/chat/completions";
const TEXT: &str = "/v1/completions";

fn daemon(delay: u64) -> Daemon {
    Daemon::start(Setup::fake(FakeSource {
        delay: Duration::from_millis(delay),
        ..FakeSource::default()
    }))
}

fn said(text: &str) -> Value {
    json!([{"role": "user", "content": text}])
}

/// A turn of three tokens at most.
fn turn(session: &str, text: &str) -> Value {
    json!({"session": session, "messages": said(text), "max_tokens": 3})
}

fn answered(reply: &Reply) -> (String, u64, u64) {
    assert_eq!(reply.status, 200, "{}", reply.body);
    let answer = reply.json();
    let text = answer["choices"][0]["message"]["content"]
        .as_str()
        .or(answer["choices"][0]["text"].as_str());
    let usage = &answer["usage"];
    (
        text.unwrap().to_owned(),
        usage["prompt_tokens"].as_u64().unwrap(),
        usage["prompt_tokens_details"]["cached_tokens"]
            .as_u64()
            .unwrap(),
    )
}

fn told(text: &str, prompt: u64, cached: u64) -> (String, u64, u64) {
    (text.to_owned(), prompt, cached)
}

fn delete(daemon: &Daemon, name: &str) -> Reply {
    Call::new(daemon.address, "DELETE", &format!("/v1/sessions/{name}")).send()
}

#[test]
fn a_turn_feeds_only_what_is_new() {
    let daemon = daemon(0);
    // The last token of the first answer, d, was drawn and not fed: the second turn feeds it with what is new.
    assert_eq!(
        answered(&daemon.post(CHAT, &turn("s", "a"))),
        told("bcd", 1, 0)
    );
    assert_eq!(
        answered(&daemon.post(CHAT, &turn("s", "m"))),
        told("nop", 3 + 2, 3)
    );
    // All that was said and one message more is that message.
    let all = json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "bcd"},
        {"role": "user", "content": "m"}, {"role": "assistant", "content": "nop"}, {"role": "user", "content": "f"}]);
    let ask = json!({"session": "s", "messages": all, "max_tokens": 3});
    let reply = daemon.post(CHAT, &ask);
    assert_eq!(answered(&reply), told("ghi", 7 + 2, 7));
    let kv = &reply.json()["kv"];
    assert_eq!(kv["tokens_seen"], 7 + 2 + 2, "{kv}");
    // Nothing new is nothing to answer.
    let mut again = all.as_array().unwrap().clone();
    again.push(json!({"role": "assistant", "content": "ghi"}));
    let reply = daemon.post(CHAT, &json!({"session": "s", "messages": again}));
    assert_eq!(
        reply.error().2.as_deref(),
        Some("messages"),
        "{}",
        reply.body
    );
    // Streams are turns too.
    let chunks = daemon.stream(CHAT, &turn("s", "t")).events();
    assert_eq!(chunks.last().unwrap()["kv"]["tokens_seen"], 11 + 2 + 2);
    let shown = daemon.get("/v1/sessions/s").json();
    assert_eq!(shown["messages"].as_array().unwrap().len(), 8, "{shown}");
    assert_eq!(
        shown["messages"][7],
        json!({"role": "assistant", "content": "uvw"})
    );
    assert_eq!(
        (&shown["turns"], &shown["tokens_seen"]),
        (&json!(4), &json!(15))
    );
    assert_eq!(
        (&shown["place"], &shown["saved"]),
        (&json!("memory"), &json!(false))
    );
    assert!(shown["bytes"].as_u64().unwrap() > 0 && shown["updated"].as_u64().unwrap() > 0);
}

#[test]
fn texts_go_on_raw() {
    let daemon = daemon(0);
    let ask = |prompt: Value| json!({"session": "s", "prompt": prompt, "max_tokens": 2});
    assert_eq!(
        answered(&daemon.post(TEXT, &ask(json!("a")))),
        told("bc", 1, 0)
    );
    assert_eq!(
        answered(&daemon.post(TEXT, &ask(json!([LETTER_A + 12])))),
        told("no", 4, 2)
    );
    assert_eq!(daemon.get("/v1/sessions/s").json()["messages"], json!([]));
    // What it is, it stays.
    let reply = daemon.post(CHAT, &turn("s", "a"));
    assert_eq!(
        (reply.status, reply.error().2.as_deref()),
        (400, Some("session"))
    );
    daemon.post(CHAT, &turn("chat", "a"));
    for prompt in [json!("a"), json!([LETTER_A])] {
        let reply = daemon.post(TEXT, &json!({"session": "chat", "prompt": prompt}));
        assert_eq!(
            (reply.status, reply.error().2.as_deref()),
            (400, Some("session"))
        );
    }
}

#[test]
fn an_end_of_text_and_a_stop_string_leave_a_session_that_goes_on() {
    let daemon = daemon(1);
    let ask = |session: &str, stop: &str| json!({"session": session, "messages": said("a"), "max_tokens": 20, "stop": stop});
    let first = daemon.post(CHAT, &ask("s", "efg"));
    assert_eq!(answered(&first).0, "bcd");
    assert_eq!(first.json()["choices"][0]["finish_reason"], "stop");
    let made = first.json()["usage"]["completion_tokens"].as_u64().unwrap();
    // The engine may have been further than the stop string, and a step may have been under way.
    let second = daemon.post(CHAT, &turn("s", "m"));
    let (text, prompt, cached) = answered(&second);
    assert_eq!((text.as_str(), prompt), ("nop", made + 2));
    assert!((made..=made + 1).contains(&cached), "{cached} of {made}");
    assert_eq!(second.json()["kv"]["tokens_seen"], made + 2 + 2);
    let shown = daemon.get("/v1/sessions/s").json();
    assert_eq!(shown["messages"][1]["content"], "bcd", "{shown}");
    // One that ends with the end of text has nothing left to feed.
    let ask = json!({"session": "t", "prompt": [end_of_text() - 2], "max_tokens": 5});
    let reply = daemon.post(TEXT, &ask);
    assert_eq!(reply.json()["choices"][0]["finish_reason"], "stop");
    let ask = json!({"session": "t", "prompt": [LETTER_A], "max_tokens": 1});
    assert_eq!(answered(&daemon.post(TEXT, &ask)), told("b", 2 + 1, 2));
}

/// The token that ends a text.
fn end_of_text() -> usize {
    crate::support::VOCAB - 1
}

#[test]
fn a_session_serves_one_request_and_one_choice_at_a_time() {
    let daemon = daemon(20);
    let mut ask = turn("s", "a");
    ask["max_tokens"] = json!(100);
    ask["ignore_eos"] = json!(true);
    let mut open = daemon.stream(CHAT, &ask);
    open.event().unwrap();
    let reply = daemon.post(CHAT, &turn("s", "m"));
    let busy = (409, "session_busy".to_owned(), Some("session".to_owned()));
    assert_eq!(reply.error(), busy, "{}", reply.body);
    assert_eq!(delete(&daemon, "s").error(), busy);
    drop(open);
    ask["n"] = json!(2);
    let reply = daemon.post(CHAT, &ask);
    assert_eq!(
        reply.error(),
        (400, "invalid_value".to_owned(), Some("n".to_owned()))
    );
    for name in ["", "a b", "../a", &"x".repeat(65)] {
        let reply = daemon.post(CHAT, &turn(name, "a"));
        assert_eq!(
            (reply.status, reply.error().2.as_deref()),
            (400, Some("session"))
        );
    }
}

/// Asks until the session is no longer at work on a request that was left.
fn when_free(daemon: &Daemon, ask: &Value) -> Reply {
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        let reply = daemon.post(CHAT, ask);
        if reply.status != 409 {
            return reply;
        }
        assert!(Instant::now() < until, "{}", reply.body);
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_turn_that_is_left_or_refused_changes_nothing() {
    let daemon = daemon(10);
    assert_eq!(answered(&daemon.post(CHAT, &turn("s", "a"))).0, "bcd");
    let mut long = turn("s", "m");
    long["max_tokens"] = json!(200);
    long["ignore_eos"] = json!(true);
    let mut open = daemon.stream(CHAT, &long);
    open.event().unwrap();
    open.event().unwrap();
    drop(open);
    long["temperature"] = json!(9);
    assert_eq!(
        when_free(&daemon, &long).error().2.as_deref(),
        Some("temperature")
    );
    assert_eq!(
        answered(&daemon.post(CHAT, &turn("s", "m"))),
        told("nop", 3 + 2, 3)
    );
    let shown = daemon.get("/v1/sessions/s").json();
    assert_eq!(shown["messages"].as_array().unwrap().len(), 4, "{shown}");
}

#[test]
fn a_fork_goes_its_own_way() {
    let daemon = daemon(0);
    daemon.post(CHAT, &turn("s", "a"));
    let fork = |from: &str, to: Value| {
        daemon.post(&format!("/v1/sessions/{from}/fork"), &json!({"to": to}))
    };
    let copy = fork("s", json!("t"));
    assert_eq!(
        (copy.status, &copy.json()["name"]),
        (200, &json!("t")),
        "{}",
        copy.body
    );
    assert_eq!(
        answered(&daemon.post(CHAT, &turn("t", "m"))),
        told("nop", 3 + 2, 3)
    );
    assert_eq!(
        answered(&daemon.post(CHAT, &turn("s", "f"))),
        told("ghi", 3 + 2, 3)
    );
    let words = |name: &str| {
        let shown = daemon.get(&format!("/v1/sessions/{name}")).json();
        shown["messages"][3]["content"].as_str().unwrap().to_owned()
    };
    assert_eq!((words("s").as_str(), words("t").as_str()), ("ghi", "nop"));
    let list = daemon.get("/v1/sessions?model=fake").json();
    let names: Vec<&Value> = list["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| &s["name"])
        .collect();
    assert_eq!(names, ["s", "t"], "{list}");
    assert_eq!(fork("s", json!("t")).error().1, "session_exists");
    assert_eq!(fork("s", json!("s")).error().1, "session_exists");
    assert_eq!(fork("none", json!("u")).error().1, "session_not_found");
    assert_eq!(fork("s", json!(null)).error().2.as_deref(), Some("to"));
    assert_eq!(fork("s", json!("a b")).error().2.as_deref(), Some("to"));
    assert_eq!(
        daemon.get("/v1/sessions?model=none").error().1,
        "model_not_found"
    );
}

#[test]
fn what_was_deleted_is_not_found_and_begins_anew() {
    let daemon = daemon(0);
    daemon.post(CHAT, &turn("s", "a"));
    let gone = delete(&daemon, "s");
    assert_eq!((gone.status, &gone.json()["deleted"]), (200, &json!(true)));
    let unknown = (
        404,
        "session_not_found".to_owned(),
        Some("session".to_owned()),
    );
    assert_eq!(daemon.get("/v1/sessions/s").error(), unknown);
    assert_eq!(delete(&daemon, "s").error(), unknown);
    for what in ["save", "restore"] {
        let path = format!("/v1/sessions/s/{what}");
        assert_eq!(daemon.post(&path, &json!({})).error(), unknown, "{what}");
    }
    assert_eq!(daemon.get("/v1/sessions").json()["data"], json!([]));
    assert_eq!(
        answered(&daemon.post(CHAT, &turn("s", "a"))),
        told("bcd", 1, 0)
    );
    let reply = Call::new(daemon.address, "PUT", "/v1/sessions/s").send();
    assert_eq!(
        (reply.status, reply.header("allow")),
        (405, Some("GET, DELETE"))
    );
}

#[test]
fn a_saved_session_comes_back_as_it_was() {
    let daemon = daemon(0);
    daemon.post(CHAT, &turn("s", "a"));
    let saved = daemon.post("/v1/sessions/s/save", &json!({}));
    assert_eq!(saved.json()["saved"], true, "{}", saved.body);
    assert_eq!(answered(&daemon.post(CHAT, &turn("s", "m"))).2, 3);
    let back = daemon.post("/v1/sessions/s/restore", &json!({})).json();
    assert_eq!(
        (&back["tokens_seen"], &back["turns"]),
        (&json!(3), &json!(1)),
        "{back}"
    );
    assert_eq!(back["messages"].as_array().unwrap().len(), 2);
    assert_eq!(
        answered(&daemon.post(CHAT, &turn("s", "f"))),
        told("ghi", 3 + 2, 3)
    );
}

#[test]
fn the_policy_is_that_of_the_first_turn() {
    let daemon = daemon(0);
    let with = |session: &str, budget: usize| {
        let mut ask = turn(session, "a");
        ask["kv"] = json!({"policy": "h2o", "budget": budget});
        ask
    };
    assert_eq!(daemon.post(CHAT, &with("s", 16)).json()["kv"]["budget"], 16);
    assert_eq!(
        daemon.post(CHAT, &turn("s", "m")).json()["kv"]["budget"],
        16
    );
    assert_eq!(daemon.post(CHAT, &with("s", 16)).status, 200);
    let reply = daemon.post(CHAT, &with("s", 24));
    assert_eq!(
        (reply.status, reply.error().2.as_deref()),
        (400, Some("kv"))
    );
}

#[test]
fn sessions_go_with_their_device_and_their_owners_are_told_once() {
    let daemon = daemon(0);
    daemon.post(CHAT, &turn("s", "a"));
    daemon.block_on(daemon.runtime.restart_all());
    let gone = daemon.post(CHAT, &turn("s", "m"));
    let unknown = (
        404,
        "session_not_found".to_owned(),
        Some("session".to_owned()),
    );
    assert_eq!(gone.error(), unknown, "{}", gone.body);
    assert!(gone.body.contains("is not parked here"), "{}", gone.body);
    assert_eq!(
        answered(&daemon.post(CHAT, &turn("s", "m"))),
        told("nop", 1, 0)
    );
    assert_eq!(daemon.get("/v1/sessions/s").json()["turns"], 1);
}

#[test]
fn labels_are_patterns() {
    let daemon = daemon(0);
    daemon.get("/v1/sessions/one");
    daemon.get("/v1/sessions/two");
    let until = Instant::now() + Duration::from_secs(2);
    let line = "llamahome_requests_total{route=\"/v1/sessions/{name}\",status=\"404\"} 2";
    while !daemon.get("/metrics").body.contains(line) {
        assert!(Instant::now() < until, "{}", daemon.get("/metrics").body);
        std::thread::sleep(Duration::from_millis(20));
    }
}
