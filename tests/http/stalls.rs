//! A step that hangs: it is seen, told, and costs its requests and no more.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use llamahome::units;
use serde_json::json;

use crate::support::{Daemon, FakeSource, LETTER_A, Setup};

const TEXT: &str = "/v1/completions";

fn wait_for(what: &str, is: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(30);
    while !is() {
        assert!(Instant::now() < until, "never {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_step_that_hangs_turns_readiness_red_and_a_fresh_worker_takes_over() {
    let hangs = Arc::new(AtomicBool::new(true));
    let mut setup = Setup::fake(FakeSource {
        stall: Some((LETTER_A + 16, Arc::clone(&hangs))),
        ..FakeSource::default()
    });
    setup.sections.runtime.stall_timeout = units::Duration(Duration::from_secs(2));
    let daemon = Daemon::start(setup);
    std::thread::scope(|scope| {
        let lost = scope.spawn(|| daemon.post(TEXT, &json!({"prompt": "m", "max_tokens": 20})));
        let ready = || daemon.get("/ready");
        wait_for("unhealthy", || {
            let reply = ready();
            reply.status == 503 && reply.json()["status"] == "unhealthy"
        });
        assert_eq!(daemon.get("/health").status, 503);
        let metrics = daemon.get("/metrics").body;
        let age = metrics
            .lines()
            .find_map(|line| line.strip_prefix("llamahome_engine_heartbeat_age_seconds "));
        assert!(age.unwrap().parse::<f64>().unwrap() > 1.0, "{metrics}");
        let reply = lost.join().unwrap();
        assert_eq!(
            (reply.error().0, reply.error().1.as_str()),
            (500, "worker_lost")
        );
        assert!(
            reply.body.contains("runtime.stall_timeout"),
            "{}",
            reply.body
        );
    });
    // The old thread still hangs.
    assert!(hangs.load(Ordering::Acquire));
    wait_for("ready again", || daemon.get("/ready").status == 200);
    let reply = daemon.post(TEXT, &json!({"prompt": "a", "max_tokens": 3}));
    assert_eq!(reply.json()["choices"][0]["text"], "bcd", "{}", reply.body);
    assert_eq!(daemon.get("/health").status, 200);
    daemon.wait_metric("llamahome_worker_restarts_total{reason=\"stalled\"} 1");
    hangs.store(false, Ordering::Release);
}
