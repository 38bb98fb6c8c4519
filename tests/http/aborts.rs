//! Clients that leave at any point: nothing of them may stay.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use llamahome::units;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;

use crate::support::{Daemon, FakeSource, Setup};

const TEXT: &str = "/v1/completions";
const CLIENTS: u64 = 8;
const EACH: u64 = 25;

/// One client that leaves after sending some of its request, or after a while, or after some bytes of the answer.
fn leave(address: SocketAddr, draw: &mut StdRng) {
    let prompt = "a".repeat(draw.random_range(1..200));
    let body = json!({"prompt": prompt, "max_tokens": draw.random_range(1..50), "ignore_eos": true,
        "stream": draw.random_bool(0.7), "n": draw.random_range(1..3)})
    .to_string();
    let text = format!(
        "POST {TEXT} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let Ok(mut socket) = TcpStream::connect(address) else {
        return;
    };
    let sent = match draw.random_range(0..10) {
        0 => draw.random_range(0..text.len()),
        _ => text.len(),
    };
    if socket.write_all(&text.as_bytes()[..sent]).is_err() {
        return;
    }
    let patience = Duration::from_millis(draw.random_range(1..120));
    if draw.random_bool(0.5) {
        std::thread::sleep(patience);
    } else {
        let _ = socket.set_read_timeout(Some(patience));
        let mut some = vec![0; draw.random_range(1..2000)];
        let _ = socket.read(&mut some);
    }
}

#[test]
fn two_hundred_aborts_leave_nothing_behind() {
    let mut setup = Setup::fake(FakeSource {
        delay: Duration::from_millis(3),
        ..FakeSource::default()
    });
    setup.sections.scheduler.max_batch = 3;
    setup.sections.scheduler.prefill_tokens = 16;
    setup.sections.runtime.monitor_interval = units::Duration(Duration::from_millis(100));
    let daemon = Daemon::start(setup);
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let address = daemon.address;
            scope.spawn(move || {
                let mut draw = StdRng::seed_from_u64(client);
                for _ in 0..EACH {
                    leave(address, &mut draw);
                }
            });
        }
    });
    // This request is the one in flight.
    for line in [
        "llamahome_requests_in_flight 1",
        "llamahome_requests_running 0",
        "llamahome_queue_depth 0",
        "llamahome_kv_cache_bytes 0",
        "llamahome_open_sequences 0",
        "llamahome_open_sequence_bytes 0",
    ] {
        daemon.wait_metric(line);
    }
    assert_eq!(daemon.busy(), (0, 0));
    let metrics = daemon.get("/metrics").body;
    let left: u64 = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("llamahome_cancelled_total{"))
        .filter_map(|line| line.split(' ').nth(1)?.parse::<u64>().ok())
        .sum();
    assert!(
        left > 50,
        "only {left} were cancelled: the test shows nothing"
    );
    let reply = daemon.post(TEXT, &json!({"prompt": "a", "max_tokens": 3}));
    assert_eq!(reply.json()["choices"][0]["text"], "bcd", "{}", reply.body);
}
