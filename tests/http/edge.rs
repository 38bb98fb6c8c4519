//! Who may ask, what is counted, and what is recorded.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use llamahome::http::{self, HttpError, Needs, ROUTES, Readiness};
use llamahome::runtime::{Sections, boot};
use llamahome::sample::Defaults;
use llamahome::telemetry::Metrics;
use serde_json::{Value, json};

use crate::support::{Call, Daemon, FakeSource, Reply, Setup};

const TEXT: &str = "/v1/completions";

#[test]
fn every_route_asks_for_the_key() {
    let daemon = Daemon::start(Setup::fake(FakeSource::default()).key("right"));
    let unknown = [
        ("GET", "/page"),
        ("POST", "/nowhere"),
        ("OPTIONS", "/v1/models"),
        ("DELETE", TEXT),
    ];
    let known = ROUTES.into_iter().map(|(method, path, _)| (method, path));
    for (method, path) in known.chain(unknown) {
        let path = path.replace("{id}", "fake").replace("{name}", "s");
        let path = path.replace("{file}", "main.js");
        let call = |key: Option<&str>| {
            let call = Call::new(daemon.address, method, &path);
            key.into_iter().fold(call, |call, key| {
                call.header("Authorization", &format!("Bearer {key}"))
            })
        };
        let open = matches!(
            path.as_str(),
            "/health" | "/ready" | "/" | "/page/main.js" | "/docs" | "/openapi.json"
        );
        for key in [None, Some("wrong"), Some("righ"), Some("")] {
            let reply = call(key).send();
            assert_eq!(
                reply.status == 401,
                !open,
                "{method} {path} {key:?}: {}",
                reply.body
            );
            assert_eq!(reply.header("www-authenticate").is_some(), !open);
        }
        // The answer may be a stream without an end: its head says enough.
        let status = call(Some("right")).open().status;
        assert!(
            !matches!(status, 401 | 403 | 500..),
            "{method} {path}: {status}"
        );
    }
}

#[test]
fn foreign_hosts_and_pages_are_refused() {
    let mut setup = Setup::fake(FakeSource::default());
    setup.http.cors_origins = vec!["https://app.example".to_owned()];
    let daemon = Daemon::start(setup);
    let get = |pairs: &[(&str, &str)]| -> Reply {
        let call = Call::new(daemon.address, "GET", "/v1/models");
        pairs
            .iter()
            .fold(call, |call, (name, value)| call.header(name, value))
            .send()
    };
    assert_eq!(get(&[]).status, 200);
    assert_eq!(
        get(&[("Host", "evil.example")]).error().1,
        "host_not_allowed"
    );
    assert_eq!(
        get(&[("Origin", "https://evil.example")]).error().1,
        "origin_not_allowed"
    );
    assert_eq!(get(&[("Origin", "null")]).status, 403);
    let ours = format!("http://{}", daemon.address);
    assert_eq!(get(&[("Origin", &ours)]).status, 200);
    let listed = get(&[("Origin", "https://app.example")]);
    assert_eq!(listed.status, 200);
    assert_eq!(
        listed.header("access-control-allow-origin"),
        Some("https://app.example")
    );
    let ask = |origin| {
        let call = Call::new(daemon.address, "OPTIONS", TEXT).header("Origin", origin);
        call.header("Access-Control-Request-Method", "POST").send()
    };
    let preflight = ask("https://app.example");
    assert_eq!(preflight.status, 204);
    assert!(
        preflight
            .header("access-control-allow-headers")
            .unwrap()
            .contains("authorization")
    );
    assert_eq!(ask("https://evil.example").status, 403);
}

#[test]
fn requests_have_ids_and_are_counted() {
    let daemon = Daemon::start(Setup::fake(FakeSource::default()));
    let ask = json!({"prompt": "a", "max_tokens": 2});
    let id_of = |sent: &str| {
        let reply = Call::json(daemon.address, TEXT, &ask)
            .header("X-Request-Id", sent)
            .send();
        let id = reply.header("x-request-id").unwrap().to_owned();
        assert_eq!(reply.json()["id"], format!("cmpl-{id}"));
        id
    };
    assert_eq!(id_of("my-request_1"), "my-request_1");
    assert_ne!(id_of("not one"), "not one");
    assert!(daemon.get("/health").header("x-request-id").is_some());
    assert_eq!(daemon.stream(TEXT, &ask).events().len(), 3);
    daemon.get("/no/such/label");
    // A body is counted when it was sent, which a client may notice a moment before the server does.
    let until = Instant::now() + Duration::from_secs(2);
    loop {
        let text = daemon.get("/metrics").body;
        let all = [
            "llamahome_requests_total{route=\"/v1/completions\",status=\"200\"} 3",
            "llamahome_requests_total{route=\"/health\",status=\"200\"} 1",
            "llamahome_requests_total{route=\"other\",status=\"404\"} 1",
            "llamahome_requests_in_flight 1",
            "llamahome_generated_tokens_total 6",
        ];
        match all
            .iter()
            .find(|line| !text.lines().any(|known| known == **line))
        {
            None => break,
            Some(line) => assert!(Instant::now() < until, "{line} is not in\n{text}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn changes_and_refusals_are_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let mut setup = Setup::fake(FakeSource::default()).key("right");
    setup.audit = Some(path.clone());
    let daemon = Daemon::start(setup);
    let call = |method: &str, path: &str, key: &str| {
        Call::new(daemon.address, method, path)
            .header("Authorization", &format!("Bearer {key}"))
            .send()
    };
    call("GET", "/v1/models", "wrong");
    call("POST", "/v1/models/fake/sleep", "right");
    call("DELETE", "/v1/sessions/none", "right");
    // Looking changes nothing.
    call("GET", "/v1/models", "right");
    call("POST", "/tokenize", "right");
    let until = Instant::now() + Duration::from_secs(3);
    let records: Vec<Value> = loop {
        let text = std::fs::read_to_string(&path).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        let lines: Vec<Value> = lines.collect();
        if lines.len() >= 3 {
            break lines;
        }
        assert!(Instant::now() < until, "{text}");
        std::thread::sleep(Duration::from_millis(20));
    };
    let told: Vec<_> = records
        .iter()
        .map(|record| {
            let text = |field: &str| record[field].as_str().unwrap();
            (text("who"), text("action"), text("result"))
        })
        .collect();
    assert_eq!(
        told,
        [
            ("unknown", "GET /v1/models", "refused"),
            ("key", "POST /v1/models/fake/sleep", "ok"),
            ("key", "DELETE /v1/sessions/none", "refused"),
        ]
    );
}

#[test]
fn the_documentation_says_what_each_route_needs() {
    let text = include_str!("../../docs/security.md");
    let table: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("| `"))
        .collect();
    let expected: Vec<String> = ROUTES
        .iter()
        .map(|(method, path, needs)| {
            let needs = match needs {
                Needs::Open => "nothing",
                Needs::Use => "a key",
                Needs::Manage => "`manage`",
            };
            format!("| `{method} {path}` | {needs} |")
        })
        .collect();
    assert_eq!(table, expected);
}

#[test]
fn a_body_that_stands_still_is_given_up() {
    use std::io::{Read, Write};
    let daemon = Daemon::start(Setup::fake(FakeSource::default()));
    let mut socket = std::net::TcpStream::connect(daemon.address).unwrap();
    let head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
        Content-Length: 100\r\nConnection: close\r\n\r\n{\"prompt\":";
    socket.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains("body_timeout"), "{answer}");
}

#[test]
fn generations_are_recorded_without_their_words() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let mut setup = Setup::fake(FakeSource {
        delay: Duration::from_millis(10),
        ..FakeSource::default()
    });
    setup.audit = Some(path.clone());
    let daemon = Daemon::start(setup);
    daemon.post(TEXT, &json!({"prompt": "abc", "max_tokens": 2}));
    daemon
        .stream(TEXT, &json!({"prompt": "abc", "max_tokens": 3}))
        .events();
    daemon.post(TEXT, &json!({"prompt": "abc", "model": "none"}));
    let mut open = daemon.stream(
        TEXT,
        &json!({"prompt": "abc", "max_tokens": 200, "ignore_eos": true}),
    );
    open.event().unwrap();
    drop(open);
    let until = Instant::now() + Duration::from_secs(3);
    let records: Vec<Value> = loop {
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        if lines.len() == 4 {
            break lines;
        }
        assert!(Instant::now() < until, "{text}");
        std::thread::sleep(Duration::from_millis(20));
    };
    let told = |place: usize| {
        let record = &records[place];
        (
            record["result"].as_str().unwrap(),
            record["model"].as_str().unwrap(),
            record["output_tokens"].as_u64().unwrap(),
        )
    };
    assert_eq!(told(0), ("ok", "fake", 2));
    assert_eq!(told(1), ("ok", "fake", 3));
    assert_eq!(told(2), ("refused", "none", 0));
    assert_eq!((told(3).0, told(3).1), ("cancelled", "fake"));
    assert!(
        records
            .iter()
            .all(|record| record["who"] == "local" && record["route"] == TEXT)
    );
    assert_eq!(records[0]["prompt_tokens"], 3);
}

#[test]
fn readiness_is_what_its_owner_says() {
    let daemon = Daemon::start(Setup::fake(FakeSource::default()));
    assert_eq!(daemon.get("/ready").status, 200);
    daemon.readiness.set(false);
    let reply = daemon.get("/ready");
    assert_eq!(
        (reply.status, reply.json()["status"].as_str().unwrap()),
        (503, "loading")
    );
    assert_eq!(daemon.get("/health").status, 200);
}

#[test]
fn a_server_that_cannot_be_says_why() {
    actix_web::rt::System::new().block_on(async {
        let runtime = boot(
            Sections::default(),
            std::sync::Arc::new(FakeSource::default()),
            None,
            Metrics::new(),
        );
        let serve = |host: &str, port| {
            let config = http::Config {
                host: host.parse::<IpAddr>().unwrap(),
                port,
                ..http::Config::default()
            };
            http::serve(
                config,
                runtime.clone(),
                Defaults::default(),
                Readiness::default(),
            )
        };
        let error = serve("0.0.0.0", 0).err().unwrap();
        assert!(matches!(error, HttpError::NoKey(_)), "{error}");
        let first = serve("127.0.0.1", 0).unwrap();
        let error = serve("127.0.0.1", first.address().port()).err().unwrap();
        assert!(matches!(error, HttpError::PortTaken(_)), "{error}");
        assert!(error.to_string().contains("http.port"), "{error}");
        let error = serve("192.0.2.1", 0).err().unwrap();
        assert!(matches!(error, HttpError::NoKey(_)), "{error}");
    });
}
