//! What a key may use, and what it is told when it has used it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use llamahome::http::{self, HttpError};
use serde_json::{Value, json};

use crate::support::{Call, Daemon, FakeSource, Reply, Setup};

const TEXT: &str = "/v1/completions";

fn with_keys(text: &str, delay: u64) -> (Daemon, tempfile::NamedTempFile) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let mut setup = Setup::fake(FakeSource {
        delay: Duration::from_millis(delay),
        ..FakeSource::default()
    });
    setup.http.keys_file = Some(file.path().to_owned());
    (Daemon::start(setup), file)
}

fn ask(daemon: &Daemon, key: &str, tokens: usize) -> Reply {
    let body = json!({"prompt": "a", "max_tokens": tokens, "ignore_eos": true});
    Call::json(daemon.address, TEXT, &body)
        .header("Authorization", &format!("Bearer {key}"))
        .send()
}

#[test]
fn too_many_requests_are_refused_before_their_body_is_read() {
    let mut setup = Setup::fake(FakeSource::default());
    setup.http.requests_per_minute = 2;
    let daemon = Daemon::start(setup);
    let body = json!({"prompt": "a", "max_tokens": 2});
    for left in ["1", "0"] {
        let reply = daemon.post(TEXT, &body);
        assert_eq!(reply.status, 200, "{}", reply.body);
        assert_eq!(reply.header("x-ratelimit-limit-requests"), Some("2"));
        assert_eq!(reply.header("x-ratelimit-remaining-requests"), Some(left));
        assert_eq!(reply.header("x-ratelimit-limit-tokens"), None);
    }
    let reply = daemon.post(TEXT, &body);
    assert_eq!(reply.error(), (429, "rate_limit_exceeded".to_owned(), None));
    assert_eq!(reply.json()["error"]["type"], "rate_limit_error");
    let wait: u64 = reply.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=30).contains(&wait), "{wait}");
    let reset = reply.header("x-ratelimit-reset-requests").unwrap();
    assert!(reset.ends_with('s'), "{reset}");
    // Not a byte of this body is ever sent.
    let mut socket = TcpStream::connect(daemon.address).unwrap();
    let head = format!(
        "POST {TEXT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut start = [0; 12];
    socket.read_exact(&mut start).unwrap();
    assert_eq!(&start, b"HTTP/1.1 429");
    // Looking is free.
    assert_eq!(daemon.get("/v1/models").status, 200);
    let metrics = daemon.get("/metrics").body;
    assert!(
        metrics.contains("llamahome_rejected_total{reason=\"rate_limited\"} 2"),
        "{metrics}"
    );
}

#[test]
fn tokens_are_charged_and_a_debt_is_paid_first() {
    let text = "[[keys]]\nname = 'a'\nkey = 'one'\ntokens_per_minute = 60\n\
        [[keys]]\nname = 'b'\nkey = 'two'\n";
    let (daemon, _file) = with_keys(text, 0);
    let first = ask(&daemon, "one", 100);
    assert_eq!(first.status, 200, "{}", first.body);
    assert_eq!(first.header("x-ratelimit-limit-tokens"), Some("60"));
    // The end is charged when the server has sent it, a moment after it is read here.
    let until = Instant::now() + Duration::from_secs(5);
    let refused = loop {
        let reply = ask(&daemon, "one", 1);
        if reply.status != 200 {
            break reply;
        }
        assert!(Instant::now() < until, "it is never refused");
    };
    assert_eq!(refused.error().1, "rate_limit_exceeded");
    assert_eq!(refused.header("x-ratelimit-remaining-tokens"), Some("0"));
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((30..=60).contains(&wait), "101 of 60 were used: {wait}");
    assert_eq!(ask(&daemon, "two", 100).status, 200, "another key's tokens");
}

#[test]
fn each_key_has_so_many_requests_at_a_time() {
    let text = "[[keys]]\nname = 'a'\nkey = 'one'\nconcurrent_requests = 1\n\
        [[keys]]\nname = 'b'\nkey = 'two'\n";
    let (daemon, _file) = with_keys(text, 10);
    let body = json!({"prompt": "a", "max_tokens": 250, "ignore_eos": true, "stream": true});
    let mut open = Call::json(daemon.address, TEXT, &body)
        .header("Authorization", "Bearer one")
        .open();
    open.event().unwrap();
    let reply = ask(&daemon, "one", 1);
    let code = "concurrency_limit_exceeded".to_owned();
    assert_eq!(reply.error(), (429, code, None));
    assert_eq!(reply.header("retry-after"), Some("1"));
    assert_eq!(ask(&daemon, "two", 1).status, 200);
    drop(open);
    let until = Instant::now() + Duration::from_secs(5);
    while ask(&daemon, "one", 1).status != 200 {
        assert!(Instant::now() < until, "the one that left still counts");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn looking_into_the_engine_and_telling_it_what_to_hold_take_a_scope() {
    let text = "[[keys]]\nname = 'a'\nkey = 'one'\n\
        [[keys]]\nname = 'b'\nkey = 'two'\nscopes = ['manage']\n";
    let (daemon, _file) = with_keys(text, 0);
    let call = |method: &str, path: &str, key: &str| {
        Call::new(daemon.address, method, path)
            .header("Authorization", &format!("Bearer {key}"))
            .send()
    };
    for path in [
        "/v1/debug/trace?seconds=1",
        "/v1/models/fake/sleep",
        "/v1/models/fake/wake",
        "/v1/models/fake/unload",
        "/v1/models/fake/load",
        // The router resolves escapes.
        "/v1/models/fake/s%6ceep",
        "/v1/%64ebug/trace?seconds=1",
    ] {
        let refused = call("POST", path, "one").error();
        assert_eq!(refused, (403, "scope_missing".to_owned(), None), "{path}");
        assert_eq!(call("POST", path, "three").error().1, "invalid_api_key");
        assert_eq!(call("POST", path, "two").status, 200, "{path}");
    }
    for (method, path) in [
        ("GET", "/v1/runs"),
        ("POST", "/v1/runs"),
        ("GET", "/v1/monitor"),
        ("GET", "/v1/evaluations"),
        ("PUT", "/v1/runs"),
    ] {
        let refused = call(method, path, "one").error();
        assert_eq!(refused, (403, "scope_missing".to_owned(), None), "{path}");
        assert_ne!(call(method, path, "two").status, 403, "{path}");
    }
    // Using a model and looking at it take none, and whoever asks a model that sleeps has it woken.
    assert_eq!(call("GET", "/v1/models/fake", "one").status, 200);
    assert_eq!(call("GET", "/v1/ps", "one").status, 200);
    assert_eq!(ask(&daemon, "one", 1).status, 200);
}

#[test]
fn sessions_and_responses_belong_to_their_key() {
    let text = "[[keys]]\nname = 'a'\nkey = 'one'\n[[keys]]\nname = 'b'\nkey = 'two'\n\
        [[keys]]\nname = 'boss'\nkey = 'three'\nscopes = ['manage']\n";
    let (daemon, _file) = with_keys(text, 0);
    let send = |method: &str, path: &str, key: &str, body: &Value| {
        Call::new(daemon.address, method, path)
            .header("Authorization", &format!("Bearer {key}"))
            .header("Content-Type", "application/json")
            .body(body.to_string())
            .send()
    };
    let get = |path: &str, key: &str| send("GET", path, key, &json!({}));
    let say = |key: &str, prompt: &str| {
        let ask = json!({"prompt": prompt, "max_tokens": 2, "session": "notes"});
        send("POST", "/v1/completions", key, &ask).json()["choices"][0]["text"].clone()
    };
    assert_eq!(say("one", "a"), "bc");
    // The same name is another session for another key.
    assert_eq!(say("two", "m"), "no");
    let names = |key: &str| -> Vec<String> {
        let all = get("/v1/sessions", key).json();
        let all = all["data"].as_array().unwrap().clone();
        let mut names: Vec<String> = all
            .iter()
            .map(|line| line["name"].as_str().unwrap().to_owned())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names("one"), ["notes"]);
    assert_eq!(names("two"), ["notes"]);
    assert_eq!(names("three"), ["a.notes", "b.notes"]);
    let seen = |path: &str, key: &str| get(path, key).json()["tokens_seen"].clone();
    assert_eq!(
        seen("/v1/sessions/a.notes", "three"),
        seen("/v1/sessions/notes", "one")
    );
    for (method, path, body) in [
        ("GET", "/v1/sessions/a.notes", json!({})),
        ("DELETE", "/v1/sessions/a.notes", json!({})),
        ("GET", "/v1/sessions/a.notes/kv", json!({})),
        ("POST", "/v1/sessions/a.notes/fork", json!({"to": "x"})),
        ("POST", "/v1/sessions/notes/fork", json!({"to": "a.x"})),
        ("POST", "/v1/sessions/a.notes/save", json!({})),
        (
            "POST",
            "/v1/completions",
            json!({"prompt": "a", "session": "a.notes"}),
        ),
    ] {
        assert_eq!(
            send(method, path, "two", &body).status,
            400,
            "{method} {path}"
        );
    }
    // A session of nobody's for the one that manages.
    assert_eq!(get("/v1/sessions/notes", "three").status, 404);
    assert_eq!(
        send("DELETE", "/v1/sessions/notes", "two", &json!({})).status,
        200
    );
    assert_eq!((names("one").len(), names("two").len()), (1, 0));

    let ask = json!({"input": "a", "max_output_tokens": 2});
    let id = send("POST", "/v1/responses", "one", &ask).json()["id"].clone();
    let path = format!("/v1/responses/{}", id.as_str().unwrap());
    assert_eq!(
        (get(&path, "one").status, get(&path, "two").status),
        (200, 404)
    );
    let more = json!({"input": "b", "previous_response_id": id, "max_output_tokens": 2});
    assert_eq!(send("POST", "/v1/responses", "two", &more).status, 404);
    assert_eq!(send("POST", "/v1/responses", "one", &more).status, 200);
    assert_eq!(send("DELETE", &path, "two", &json!({})).status, 404);
}

#[test]
fn a_bad_key_file_keeps_the_server_from_starting() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
    let config = http::Config {
        keys_file: Some(file.path().to_owned()),
        port: 0,
        ..http::Config::default()
    };
    actix_web::rt::System::new().block_on(async {
        let runtime = llamahome::runtime::boot(
            llamahome::runtime::Sections::default(),
            std::sync::Arc::new(FakeSource::default()),
            None,
            llamahome::telemetry::Metrics::new(),
        );
        let served = http::serve(
            config,
            runtime,
            llamahome::sample::Defaults::default(),
            http::Readiness::default(),
        );
        let Err(error @ HttpError::Keys(_)) = served else {
            panic!("it must be refused");
        };
        assert!(error.to_string().contains("chmod 600"), "{error}");
    });
}
