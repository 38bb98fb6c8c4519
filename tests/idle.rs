//! What an idle daemon costs. One test a run: others would be measured with it.
#![cfg(target_os = "linux")]

#[path = "support/mod.rs"]
mod support;

use std::time::Duration;

use serde_json::json;
use support::{Daemon, Setup};

/// Clock ticks in which this process has run, on all cores and in the kernel; a hundred are a second of one core.
fn ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    // The name of the program, in brackets, may hold blanks: fields are counted after it.
    let fields: Vec<&str> = stat[stat.rfind(')').unwrap()..]
        .split_whitespace()
        .collect();
    let [user, system] = [12, 13].map(|place| fields[place].parse::<u64>().unwrap());
    user + system
}

/// Threads of the kernels wait for work by spinning while a step runs: after the last one they sleep.
#[test]
fn nothing_runs_when_there_is_nothing_to_do() {
    let daemon = Daemon::start(Setup::real());
    let before = ticks();
    let body = json!({"prompt": "Once upon a time", "max_tokens": 32, "temperature": 0.0});
    assert_eq!(daemon.post("/v1/completions", &body).status, 200);
    assert!(ticks() > before, "the clock of this process stands still");
    std::thread::sleep(Duration::from_secs(1));

    let before = ticks();
    std::thread::sleep(Duration::from_secs(5));
    let idle = ticks() - before;
    // One thread that spins would be 500.
    assert!(idle <= 15, "{idle} hundredths of a second in 5 seconds");
}
