//! Replicas in other processes: here, other daemons of this one.

use std::time::{Duration, Instant};

use llamahome::runtime::RouterKind;
use llamahome::units;
use serde_json::{Value, json};

use crate::support::{Call, Daemon, FakeSource, Setup};

const CHAT: &str = "/v1/chat/completions";
const TEXT: &str = "/v1/completions";

fn fake(delay: u64) -> Setup {
    Setup::fake(FakeSource {
        delay: Duration::from_millis(delay),
        ..FakeSource::default()
    })
}

fn base(daemon: &Daemon) -> String {
    format!("http://{}/v1", daemon.address)
}

/// A daemon whose `model` is served by these.
fn front(model: &str, remotes: &[String], router: RouterKind) -> Daemon {
    let mut setup = fake(0);
    let rule = |remote: &String| format!("{model} {remote}").parse().unwrap();
    setup.sections.runtime.remotes = remotes.iter().map(rule).collect();
    setup.sections.runtime.remote_interval = units::Duration(Duration::from_millis(100));
    setup.sections.runtime.router = router;
    Daemon::start(setup)
}

fn text(model: &str) -> Value {
    json!({"model": model, "prompt": "a", "max_tokens": 3})
}

fn requests(daemon: &Daemon) -> u64 {
    let body = daemon.get("/metrics").body;
    let line = body
        .lines()
        .find(|l| l.starts_with("llamahome_generated_tokens_total "));
    line.unwrap()
        .split(' ')
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        / 3
}

fn wait_until(what: &str, done: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_request_is_sent_on_whole_and_in_pieces() {
    let back = Daemon::start(fake(0).key("far key"));
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, "far key\n").unwrap();
    let remote = format!("{} model=fake key_file={}", base(&back), key.display());
    let front = front("far", &[remote], RouterKind::LeastLoad);
    let reply = front.post(TEXT, &text("far"));
    assert_eq!(reply.status, 200, "{}", reply.body);
    assert_eq!(reply.json()["choices"][0]["text"], "bcd");
    assert_eq!(reply.json()["usage"]["completion_tokens"], 3);
    let ask = json!({"model": "far", "messages": [{"role": "user", "content": "a"}], "max_tokens": 3,
        "stream_options": {"include_usage": true}});
    let chunks = front.stream(CHAT, &ask).events();
    let piece = |chunk: &Value| {
        let text = chunk["choices"][0]["delta"]["content"].as_str();
        text.unwrap_or_default().to_owned()
    };
    assert_eq!(chunks.iter().map(piece).collect::<String>(), "bcd");
    assert_eq!(chunks.last().unwrap()["usage"]["completion_tokens"], 3);
    // What the other one refuses is refused.
    let refused = front.post(TEXT, &json!({"model": "far", "prompt": "a", "top_p": 7}));
    assert_eq!(
        (refused.status, refused.error().2.as_deref()),
        (400, Some("top_p"))
    );
    // It is listed, and so is how it is.
    let far = front.get("/v1/models/far").json();
    assert_eq!(
        (&far["remotes"], &far["remotes_up"]),
        (&json!(1), &json!(1))
    );
    let line = front.get("/v1/ps").json()["remotes"][0].clone();
    assert_eq!(
        (&line["model"], &line["up"], &line["running"]),
        (&json!("far"), &json!(true), &json!(0))
    );
    assert!(!line.to_string().contains("far key"), "{line}");
}

#[test]
fn a_client_that_leaves_ends_the_work_there() {
    let back = Daemon::start(fake(20));
    let front = front(
        "far",
        &[format!("{} model=fake", base(&back))],
        RouterKind::Prefix,
    );
    let ask = json!({"model": "far", "prompt": "a", "max_tokens": 200, "ignore_eos": true});
    let mut open = front.stream(TEXT, &ask);
    open.event().unwrap();
    back.wait_busy((1, 0), Duration::from_secs(5));
    assert_eq!(front.get("/v1/ps").json()["remotes"][0]["running"], 1);
    drop(open);
    back.wait_busy((0, 0), Duration::from_secs(5));
    wait_until("the request is still counted", || {
        front.get("/v1/ps").json()["remotes"][0]["running"] == 0
    });
}

#[test]
fn replicas_here_and_there_take_turns() {
    let backs = [Daemon::start(fake(0)), Daemon::start(fake(0))];
    let remotes: Vec<String> = backs.iter().map(base).collect();
    let front = front("fake", &remotes, RouterKind::RoundRobin);
    wait_until("the model here does not take part", || {
        front.post(TEXT, &text("fake"));
        requests(&front) > 0
    });
    let before = [requests(&front), requests(&backs[0]), requests(&backs[1])];
    for _ in 0..9 {
        assert_eq!(front.post(TEXT, &text("fake")).status, 200);
    }
    let after = [requests(&front), requests(&backs[0]), requests(&backs[1])];
    for (before, after) in before.iter().zip(after) {
        assert_eq!(after - before, 3);
    }
    let metrics = front.get("/metrics").body;
    for place in ["local", "remote"] {
        let line =
            format!("llamahome_routed_requests_total{{place=\"{place}\",policy=\"round_robin\"}}");
        assert!(metrics.contains(&line), "{line}");
    }
    // Sessions stay where they began.
    for turn in ["a", "k"] {
        for name in ["one", "two", "three", "four"] {
            let ask = json!({"session": name, "messages": [{"role": "user", "content": turn}], "max_tokens": 3});
            let reply = front.post(CHAT, &ask);
            assert_eq!(reply.status, 200, "{}", reply.body);
            let prompt = &reply.json()["usage"]["prompt_tokens"];
            assert_eq!(prompt, if turn == "a" { 1 } else { 5 }, "{name}");
        }
    }
}

#[test]
fn one_that_is_down_is_passed_over_and_none_is_said() {
    let backs = [Daemon::start(fake(0)), Daemon::start(fake(0))];
    let remotes: Vec<String> = backs
        .iter()
        .map(|back| format!("{} model=fake", base(back)))
        .collect();
    let front = front("far", &remotes, RouterKind::RoundRobin);
    let [first, second] = backs;
    drop(first);
    for _ in 0..4 {
        let reply = front.post(TEXT, &text("far"));
        assert_eq!(reply.status, 200, "{}", reply.body);
    }
    assert_eq!(requests(&second), 4);
    drop(second);
    let reply = front.post(TEXT, &text("far"));
    assert_eq!(
        (reply.error().0, reply.error().1.as_str()),
        (503, "no_replica")
    );
    assert_eq!(reply.header("retry-after"), Some("5"));
    wait_until("both are told to be down", || {
        front.get("/v1/models/far").json()["remotes_up"] == 0
    });
    let down = || {
        let metrics = front.get("/metrics").body;
        let down = metrics.lines().filter(|line| {
            line.starts_with("llamahome_remote_replica_up{") && line.ends_with(" 0")
        });
        down.count()
    };
    wait_until("both are counted as down", || down() == 2);
    // What this process does itself is not touched.
    assert_eq!(front.post(TEXT, &text("fake")).status, 200);
    assert_eq!(front.get("/health").status, 200);
}

#[test]
fn one_that_breaks_off_is_said_in_the_stream() {
    let back = Daemon::start(fake(20));
    let front = front(
        "far",
        &[format!("{} model=fake", base(&back))],
        RouterKind::Prefix,
    );
    let ask = json!({"model": "far", "prompt": "a", "max_tokens": 200, "ignore_eos": true});
    let mut open = front.stream(TEXT, &ask);
    open.event().unwrap();
    drop(back);
    let chunks = open.events();
    let code = chunks.last().unwrap()["error"]["code"]
        .as_str()
        .unwrap()
        .to_owned();
    // It may have had the time to say so itself.
    assert!(
        ["replica_broke_off", "shutting_down"].contains(&code.as_str()),
        "{code}"
    );
}

#[test]
fn a_request_whose_time_is_over_says_nothing_against_the_replica() {
    let back = Daemon::start(fake(20));
    let mut setup = fake(0);
    let rule = format!("far {} model=fake", base(&back));
    setup.sections.runtime.remotes = vec![rule.parse().unwrap()];
    // Nobody asks how the replica is in between.
    setup.sections.runtime.remote_interval = units::Duration(Duration::from_secs(600));
    setup.http.request_timeout = units::Duration(Duration::from_millis(500));
    let front = Daemon::start(setup);
    let long = json!({"model": "far", "prompt": "a", "max_tokens": 200, "ignore_eos": true});
    let late = front.post(TEXT, &long);
    assert_eq!(late.status, 504, "{}", late.body);
    assert_eq!(front.post(TEXT, &text("far")).status, 200);
    assert_eq!(front.get("/v1/models/far").json()["remotes_up"], 1);
}

#[test]
fn a_key_that_is_refused_is_this_servers_fault() {
    let back = Daemon::start(fake(0).key("right"));
    let front = front(
        "far",
        &[format!("{} model=fake", base(&back))],
        RouterKind::Prefix,
    );
    let reply = front.post(TEXT, &text("far"));
    // Sent before the first check, or after it has found the replica closed to it.
    assert!(
        matches!(
            (reply.error().0, reply.error().1.as_str()),
            (502, "replica_refused") | (503, "no_replica")
        ),
        "{}",
        reply.body
    );
    wait_until("the reason is told", || {
        let error = front.get("/v1/ps").json()["remotes"][0]["error"].clone();
        error
            .as_str()
            .is_some_and(|error| error.contains("refuses the key"))
    });
}

#[test]
fn what_was_sent_on_is_not_sent_on_again() {
    let back = Daemon::start(fake(0));
    let front = front("fake", &[base(&back)], RouterKind::RoundRobin);
    let before = requests(&back);
    for _ in 0..4 {
        let reply = Call::json(front.address, TEXT, &text("fake"))
            .header("x-llamahome-sent-on", "1")
            .send();
        assert_eq!(reply.status, 200, "{}", reply.body);
    }
    assert_eq!((requests(&front), requests(&back)), (4, before));
}
