//! Clients that leave, workers that panic, actors that stop, and the end of the process.

use std::time::Duration;

use llamahome::units;
use serde_json::{Value, json};

use crate::support::{Daemon, FakeSource, LETTER_A, Setup};

const CHAT: &str = "/v1/chat/completions";
const TEXT: &str = "/v1/completions";

fn slow(delay: u64) -> Setup {
    Setup::fake(FakeSource {
        delay: Duration::from_millis(delay),
        ..FakeSource::default()
    })
}

fn long() -> Value {
    json!({"prompt": "a", "max_tokens": 250, "ignore_eos": true})
}

/// The daemon still answers, at the same address.
fn still_answers(daemon: &Daemon) {
    let reply = daemon.post(TEXT, &json!({"prompt": "a", "max_tokens": 3}));
    assert_eq!(reply.json()["choices"][0]["text"], "bcd", "{}", reply.body);
}

#[test]
fn leaving_a_stream_ends_its_work() {
    let daemon = Daemon::start(slow(20));
    let mut open = daemon.stream(TEXT, &long());
    open.event().unwrap();
    daemon.wait_busy((1, 0), Duration::from_secs(1));
    drop(open);
    daemon.wait_busy((0, 0), Duration::from_secs(1));
    assert!(
        daemon
            .get("/metrics")
            .body
            .contains("llamahome_cancelled_total{stage=\"decode\"} 1")
    );
}

#[test]
fn leaving_before_the_answer_ends_its_work_too() {
    let daemon = Daemon::start(slow(20));
    let address = daemon.address;
    let body = long().to_string();
    let mut socket = std::net::TcpStream::connect(address).unwrap();
    let head = format!(
        "POST {TEXT} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    std::io::Write::write_all(&mut socket, head.as_bytes()).unwrap();
    daemon.wait_busy((1, 0), Duration::from_secs(1));
    drop(socket);
    daemon.wait_busy((0, 0), Duration::from_secs(1));
}

#[test]
fn a_panic_in_a_step_costs_its_requests_and_no_more() {
    let daemon = Daemon::start(Setup::fake(FakeSource {
        poison: Some(LETTER_A + 16),
        ..FakeSource::default()
    }));
    let ask = json!({"prompt": "m", "max_tokens": 20});
    let reply = daemon.post(TEXT, &ask);
    assert_eq!(
        (reply.error().0, reply.error().1.as_str()),
        (500, "worker_lost"),
        "{}",
        reply.body
    );
    still_answers(&daemon);
    let chunks = daemon.stream(TEXT, &ask).events();
    let (last, before) = chunks.split_last().unwrap();
    assert_eq!(last["error"]["code"], "worker_lost", "{last}");
    let text: String = before
        .iter()
        .map(|chunk| chunk["choices"][0]["text"].as_str().unwrap())
        .collect();
    assert_eq!(text, "nopq");
    still_answers(&daemon);
    assert!(
        daemon
            .get("/metrics")
            .body
            .contains("llamahome_worker_restarts_total{reason=\"panicked\"} 2")
    );
}

#[test]
fn actors_that_stop_start_again_and_streams_are_told() {
    let daemon = Daemon::start(slow(20));
    let mut open = daemon.stream(
        CHAT,
        &json!({"messages": [{"role": "user", "content": "a"}], "max_tokens": 200}),
    );
    open.event().unwrap();
    daemon.wait_busy((1, 0), Duration::from_secs(1));
    daemon.block_on(daemon.runtime.restart_all());
    let chunks = open.events();
    assert_eq!(chunks.last().unwrap()["error"]["code"], "worker_lost");
    still_answers(&daemon);
    assert_eq!(daemon.get("/health").status, 200);
}

#[test]
fn a_drain_ends_streams_whole_and_refuses_new_requests() {
    let daemon = Daemon::start(slow(20));
    let mut open = daemon.stream(
        TEXT,
        &json!({"prompt": "a", "max_tokens": 60, "ignore_eos": true}),
    );
    open.event().unwrap();
    assert_eq!(daemon.get("/ready").status, 200);
    let drained = std::thread::scope(|scope| {
        let drain =
            scope.spawn(|| daemon.block_on(daemon.runtime.shutdown(Duration::from_secs(20))));
        while !daemon.runtime.draining() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let reply = daemon.post(TEXT, &long());
        assert_eq!(
            (reply.error().0, reply.error().1.as_str()),
            (503, "shutting_down")
        );
        assert!(reply.header("retry-after").is_some());
        assert_eq!(daemon.get("/ready").status, 503);
        assert_eq!(daemon.get("/health").status, 200);
        let chunks = open.events();
        assert_eq!(
            chunks.last().unwrap()["choices"][0]["finish_reason"],
            "length"
        );
        drain.join().unwrap()
    });
    assert!(drained, "everything was finished before the deadline");
}

#[test]
fn a_drain_that_is_late_tells_its_streams() {
    let daemon = Daemon::start(slow(20));
    let mut open = daemon.stream(TEXT, &long());
    open.event().unwrap();
    assert!(!daemon.block_on(daemon.runtime.shutdown(Duration::from_millis(100))));
    let chunks = open.events();
    assert_eq!(chunks.last().unwrap()["error"]["code"], "shutting_down");
}

#[test]
fn a_request_may_not_take_longer_than_the_limit() {
    let mut setup = slow(20);
    setup.http.request_timeout = units::Duration(Duration::from_millis(300));
    let daemon = Daemon::start(setup);
    let reply = daemon.post(TEXT, &long());
    assert_eq!(
        (reply.error().0, reply.error().1.as_str()),
        (504, "request_timeout")
    );
    assert!(reply.header("x-request-id").is_some());
    let chunks = daemon.stream(TEXT, &long()).events();
    assert!(chunks.len() > 3, "{chunks:?}");
    assert_eq!(chunks.last().unwrap()["error"]["code"], "request_timeout");
    daemon.wait_busy((0, 0), Duration::from_secs(1));
}
