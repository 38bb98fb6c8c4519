//! The web page's files, and the routes that it draws from.

use std::time::Duration;

use llamahome::eval::{KeptResults, Results, Row, Task};
use llamahome::store::Home;
use serde_json::{Value, json};

use crate::support::{Call, Daemon, FakeSource, Open, Setup};

const CHAT: &str = "/v1/chat/completions";

fn daemon(delay: u64) -> Daemon {
    Daemon::start(Setup::fake(FakeSource {
        delay: Duration::from_millis(delay),
        ..FakeSource::default()
    }))
}

fn turn(text: &str, tokens: u64, kv: Value) -> Value {
    json!({"session": "s", "messages": [{"role": "user", "content": text}], "max_tokens": tokens, "kv": kv})
}

fn floats(value: &Value) -> Vec<f64> {
    let values = value.as_array().unwrap().iter();
    values.map(|value| value.as_f64().unwrap()).collect()
}

#[test]
fn browsers_get_the_page_without_a_key_and_others_a_word() {
    let daemon = Daemon::start(Setup::fake(FakeSource::default()).key("right"));
    let page = Call::new(daemon.address, "GET", "/")
        .header("Accept", "text/html,application/xhtml+xml,*/*;q=0.8")
        .send();
    assert_eq!(page.status, 200);
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("script-src 'self'") && !policy.contains("unsafe"));
    assert!(page.body.contains("/page/main.js"), "{}", page.body);
    let plain = daemon.get("/");
    assert_eq!(plain.status, 200);
    assert!(!plain.body.contains("<html"), "{}", plain.body);
    let script = daemon.get("/page/main.js");
    assert_eq!(script.status, 200);
    assert_eq!(
        script.header("content-type"),
        Some("text/javascript; charset=utf-8")
    );
    let tag = script.header("etag").unwrap().to_owned();
    let again = Call::new(daemon.address, "GET", "/page/main.js")
        .header("If-None-Match", &tag)
        .send();
    assert_eq!((again.status, again.body.as_str()), (304, ""));
    let none = daemon.get("/page/none.js");
    assert_eq!(
        (none.status, none.error().1.as_str()),
        (404, "unknown_route")
    );
    // What the page asks still needs the key.
    for path in ["/v1/monitor", "/v1/sessions/s/kv", "/v1/evaluations"] {
        assert_eq!(daemon.get(path).status, 401, "{path}");
    }
}

#[test]
fn a_picture_tells_what_is_kept_of_which_token() {
    let daemon = daemon(0);
    let kv = json!({"policy": "h2o", "budget": 4});
    assert_eq!(daemon.post(CHAT, &turn("abc", 6, kv)).status, 200);
    let reply = daemon.get("/v1/sessions/s/kv");
    assert_eq!(reply.status, 200, "{}", reply.body);
    let picture = reply.json();
    // The last token of the answer, i, was drawn and not fed.
    let texts: Vec<&str> = picture["texts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|text| text.as_str().unwrap())
        .collect();
    assert_eq!(texts, ["a", "b", "c", "d", "e", "f", "g", "h"]);
    assert_eq!(picture["ids"].as_array().unwrap().len(), 8);
    assert_eq!(picture["live"], false);
    assert_eq!(
        (&picture["policy"], &picture["budget"]),
        (&json!("h2o"), &json!(4))
    );
    assert_eq!(
        (&picture["layers"], &picture["kv_heads"]),
        (&json!(1), &json!(1))
    );
    let kept = floats(&picture["kept"]);
    assert_eq!(kept.len(), 8);
    assert_eq!(kept.iter().sum::<f64>(), 4.0);
    assert_eq!(kept.last(), Some(&1.0), "the newest is kept");
    assert_eq!(picture["scored_by"], "attention_sum");
    let scores = floats(&picture["scores"]);
    assert!(
        (scores.iter().sum::<f64>() - 1.0).abs() < 1e-5,
        "{scores:?}"
    );
    for (kept, score) in kept.iter().zip(&scores) {
        assert!(*kept > 0.0 || *score == 0.0);
    }
    // The tokens of a second turn follow those of the first.
    let more =
        json!({"session": "s", "messages": [{"role": "user", "content": "m"}], "max_tokens": 2});
    assert_eq!(daemon.post(CHAT, &more).status, 200);
    let texts = daemon.get("/v1/sessions/s/kv?layer=0&head=0").json()["texts"].clone();
    assert_eq!(
        texts,
        json!(["a", "b", "c", "d", "e", "f", "g", "h", "i", "m", "n"])
    );
}

#[test]
fn a_picture_of_a_real_model_is_of_all_its_heads_or_of_one() {
    let daemon = Daemon::start(Setup::real());
    let kv = json!({"policy": "h2o", "budget": 24});
    let ask = turn("Count from one to twenty in words.", 24, kv);
    assert_eq!(daemon.post(CHAT, &ask).status, 200);
    let picture = daemon.get("/v1/sessions/s/kv").json();
    assert_eq!(
        (&picture["layers"], &picture["kv_heads"]),
        (&json!(30), &json!(3))
    );
    let all = floats(&picture["kept"]);
    assert!(all.len() > 48, "{}", all.len());
    assert!((all.iter().sum::<f64>() - 24.0).abs() < 1e-3);
    assert!(
        all.iter().any(|kept| *kept > 0.0 && *kept < 1.0),
        "heads differ"
    );
    let texts = picture["texts"].as_array().unwrap();
    let text: String = texts.iter().filter_map(Value::as_str).collect();
    assert!(
        text.contains("Count from one to twenty in words.<|im_end|>"),
        "{text}"
    );
    // The mean over heads is that of their own pictures.
    let mut sums = vec![0.0; all.len()];
    for head in 0..3 {
        let one = daemon
            .get(&format!("/v1/sessions/s/kv?layer=7&head={head}"))
            .json();
        let kept = floats(&one["kept"]);
        assert_eq!(kept.iter().filter(|kept| **kept == 1.0).count(), 24);
        assert_eq!(
            kept.iter().filter(|kept| **kept == 0.0).count(),
            all.len() - 24
        );
        let scores = floats(&one["scores"]);
        assert!((scores.iter().sum::<f64>() - 1.0).abs() < 1e-4);
        sums.iter_mut()
            .zip(&kept)
            .for_each(|(sum, kept)| *sum += kept);
    }
    let layer = floats(&daemon.get("/v1/sessions/s/kv?layer=7").json()["kept"]);
    for (sum, mean) in sums.iter().zip(&layer) {
        assert!((sum / 3.0 - mean).abs() < 1e-5, "{sum} {mean}");
    }
}

#[test]
fn a_picture_follows_a_turn_that_is_under_way() {
    let daemon = daemon(20);
    let kv = json!({"policy": "window", "budget": 8});
    let mut open: Open = daemon.stream(CHAT, &turn("ab", 100, kv));
    open.event();
    let mut seen = Vec::new();
    while seen.len() < 4 {
        let picture = daemon.get("/v1/sessions/s/kv");
        if picture.status == 404 {
            continue;
        }
        let picture = picture.json();
        assert_eq!(picture["live"], true);
        assert_eq!(picture["scores"], Value::Null, "a window measures nothing");
        let now = picture["tokens_seen"].as_u64().unwrap();
        let texts = picture["texts"].as_array().unwrap();
        assert_eq!(texts.first(), Some(&json!("a")));
        assert!(now as usize - texts.len() <= 1, "{picture}");
        assert!(floats(&picture["kept"]).iter().sum::<f64>() <= 9.0);
        if seen.last() != Some(&now) {
            seen.push(now);
        }
    }
    assert!(seen.is_sorted(), "{seen:?}");
    drop(open);
}

#[test]
fn a_picture_is_refused_where_there_is_none() {
    let daemon = daemon(0);
    let unknown = daemon.get("/v1/sessions/none/kv");
    assert_eq!(
        (unknown.status, unknown.error().1.as_str()),
        (404, "session_not_found")
    );
    daemon.post(CHAT, &turn("a", 2, Value::Null));
    for (query, param) in [
        ("layer=1", "layer"),
        ("head=1", "head"),
        ("layer=x", "layer"),
    ] {
        let reply = daemon.get(&format!("/v1/sessions/s/kv?{query}"));
        assert_eq!(reply.status, 400, "{query}");
        assert_eq!(reply.error().2.as_deref(), Some(param), "{}", reply.body);
    }
}

#[test]
fn the_monitor_tells_of_engines_and_the_machine() {
    let daemon = daemon(5);
    daemon.post(CHAT, &turn("a", 5, Value::Null));
    // The first sample of the machine takes a moment.
    let report = loop {
        let report = daemon.get("/v1/monitor").json();
        if report["machine"].is_object() {
            break report;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let model = &report["models"][0];
    assert_eq!(model["name"], "fake");
    assert_eq!(
        model["tokens"],
        json!({"read": 1, "cached": 0, "generated": 5})
    );
    assert!(report["kv"]["total_bytes"].as_u64().unwrap() > 0);
    assert!(report["machine"]["memory_limit"].as_u64().unwrap() > 0);
    let mut events = Call::new(daemon.address, "GET", "/v1/monitor/events?interval_ms=100").open();
    let mut next = || -> Value { serde_json::from_str(&events.event().unwrap()).unwrap() };
    let (first, second) = (next(), next());
    assert!(second["time"].as_f64() > first["time"].as_f64());
    let reply = daemon.get("/v1/monitor/events?interval_ms=1");
    assert_eq!(
        (reply.status, reply.error().2.as_deref()),
        (400, Some("interval_ms"))
    );
}

#[test]
fn kept_evaluations_are_listed_and_shown() {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::at(folder.path());
    let mut setup = Setup::fake(FakeSource::default());
    setup.sections.folder = home.root().to_owned();
    let daemon = Daemon::start(setup);
    assert_eq!(daemon.get("/v1/evaluations").json()["data"], json!([]));
    let results = Results {
        rows: vec![Row::new(Task::Passkey, "h2o", Some(0.2)).with_scores(&[1.0, 0.0])],
        command: "llamahome eval".to_owned(),
        model: "fake".to_owned(),
        seed: 0,
        samples: 2,
        version: "0.1.0".to_owned(),
    };
    KeptResults::new(home.evaluations()).keep(&results).unwrap();
    let listed = daemon.get("/v1/evaluations").json();
    assert_eq!(listed["data"][0]["id"], "fake-1");
    assert_eq!(listed["data"][0]["tasks"], json!(["passkey"]));
    let shown = daemon.get("/v1/evaluations/fake-1").json();
    assert_eq!(shown["command"], json!(results.command));
    assert_eq!(shown["rows"][0]["accuracy"], 0.5);
    for path in ["/v1/evaluations/fake-2", "/v1/evaluations/..%2ffake-1"] {
        let reply = daemon.get(path);
        assert_eq!(reply.status, 404, "{path}");
    }
}
