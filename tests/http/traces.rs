//! Traces: of requests, to a collector, and of steps, on demand.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use llamahome::telemetry::Traces;
use serde_json::{Value, json};

use crate::support::{Call, Daemon, FakeSource, Setup};

const CHAT: &str = "/v1/chat/completions";
const TEXT: &str = "/v1/completions";

/// Reads one post and answers that all is well.
fn take(socket: TcpStream) -> Option<Vec<u8>> {
    let mut socket = BufReader::new(socket);
    let mut length = 0;
    loop {
        let mut line = String::new();
        socket.read_line(&mut line).ok()?;
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(bytes) = line.strip_prefix("content-length: ") {
            length = bytes.parse().ok()?;
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    socket.read_exact(&mut body).ok()?;
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    socket.get_mut().write_all(answer.as_bytes()).ok()?;
    Some(body)
}

#[test]
fn a_request_is_a_span_with_its_stages_below_the_callers() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (send, posts) = mpsc::channel();
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            if let Some(body) = take(socket)
                && send.send(body).is_err()
            {
                break;
            }
        }
    });
    let mut setup = Setup::fake(FakeSource::default());
    setup.sections.traces = Traces::to(&endpoint).unwrap();
    let daemon = Daemon::start(setup);
    let body = json!({"messages": [{"role": "user", "content": "azure secret"}], "max_tokens": 3});
    let reply = Call::json(daemon.address, CHAT, &body)
        .header(
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        )
        .header("x-request-id", "my-own-id")
        .send();
    assert_eq!(reply.status, 200, "{}", reply.body);
    // The span ends when the answer was sent, which a client may notice a moment before the server does.
    let mut all = Vec::new();
    let until = Instant::now() + Duration::from_secs(30);
    let has = |all: &[u8], text: &[u8]| all.windows(text.len()).any(|part| part == text);
    while !has(&all, b"chat fake") {
        assert!(Instant::now() < until, "no span came");
        daemon.runtime.traces().flush();
        while let Ok(post) = posts.recv_timeout(Duration::from_millis(50)) {
            all.extend(post);
        }
    }
    for text in [
        "queue",
        "prefill",
        "decode",
        "gen_ai.request.model",
        "gen_ai.usage.output_tokens",
        "gen_ai.response.finish_reasons",
        "my-own-id",
        CHAT,
    ] {
        assert!(has(&all, text.as_bytes()), "{text}");
    }
    let id = [
        0x0a, 0xf7, 0x65, 0x19, 0x16, 0xcd, 0x43, 0xdd, 0x84, 0x48, 0xeb, 0x21, 0x1c, 0x80, 0x31,
        0x9c,
    ];
    assert!(has(&all, &id), "the caller's trace");
    assert!(!has(&all, b"azure"), "no word of a prompt");
}

#[test]
fn steps_are_traced_on_demand() {
    let mut setup = Setup::fake(FakeSource {
        delay: Duration::from_millis(2),
        ..FakeSource::default()
    });
    setup.sections.scheduler.prefill_tokens = 16;
    let daemon = Daemon::start(setup);
    for (query, code) in [
        ("seconds=0", "invalid_value"),
        ("seconds=61", "invalid_value"),
        ("seconds=x", "invalid_value"),
    ] {
        let path = format!("/v1/debug/trace?{query}");
        let reply = Call::new(daemon.address, "POST", &path).send();
        assert_eq!(
            (reply.error().0, reply.error().1.as_str()),
            (400, code),
            "{query}"
        );
    }
    let trace = std::thread::scope(|scope| {
        let traced =
            scope.spawn(|| Call::new(daemon.address, "POST", "/v1/debug/trace?seconds=2").send());
        let until = Instant::now() + Duration::from_secs(20);
        while !daemon.runtime.steps().on() {
            assert!(Instant::now() < until, "no recording began");
            std::thread::sleep(Duration::from_millis(1));
        }
        let second = Call::new(daemon.address, "POST", "/v1/debug/trace").send();
        assert_eq!(second.error(), (409, "trace_running".to_owned(), None));
        let reply = daemon.post(TEXT, &json!({"prompt": "a".repeat(40), "max_tokens": 3}));
        assert_eq!(reply.status, 200, "{}", reply.body);
        traced.join().unwrap().json()
    });
    let events = trace["traceEvents"].as_array().unwrap();
    let steps: Vec<&Value> = events.iter().filter(|event| event["ph"] == "X").collect();
    // Three chunks of the prompt, two more tokens, and the end.
    let names: Vec<&str> = steps
        .iter()
        .map(|step| step["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        ["prefill", "prefill", "prefill", "decode", "decode", "free"]
    );
    assert_eq!(steps[0]["args"]["tokens"], 16);
    assert_eq!(steps[2]["args"]["sequences"][0]["start"], 32);
    assert_eq!(steps[3]["args"]["sequences"][0]["phase"], "decode");
    for pair in steps.windows(2) {
        let at = |step: &Value, field: &str| step[field].as_f64().unwrap();
        assert!(
            at(pair[0], "ts") + at(pair[0], "dur") <= at(pair[1], "ts") + 1.0,
            "{pair:?}"
        );
        assert!(at(pair[0], "dur") >= 2000.0, "{pair:?}");
    }
    assert_eq!(trace["otherData"]["dropped"], 0);
    assert!(!daemon.runtime.steps().on());
}
