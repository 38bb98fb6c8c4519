//! Models that load, sleep, wake and go, as clients see them.

use std::time::{Duration, Instant};

use llamahome::runtime::{KeepAlive, RouterKind};
use llamahome::units::ByteSize;
use serde_json::{Value, json};

use crate::support::{Call, Daemon, FakeSource, Setup};

const CHAT: &str = "/v1/chat/completions";
const TEXT: &str = "/v1/completions";

fn setup() -> Setup {
    Setup::fake(FakeSource::default())
}

fn turn(session: &str, text: &str) -> Value {
    json!({"session": session, "messages": [{"role": "user", "content": text}], "max_tokens": 3})
}

fn command(daemon: &Daemon, what: &str) -> (u16, Value) {
    let path = format!("/v1/models/{what}");
    let reply = Call::new(daemon.address, "POST", &path).send();
    (reply.status, reply.json())
}

fn state(daemon: &Daemon, name: &str) -> String {
    let model = daemon.get(&format!("/v1/models/{name}")).json();
    model["state"].as_str().unwrap().to_owned()
}

fn wait_for(daemon: &Daemon, name: &str, wanted: &str) {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let now = state(daemon, name);
        if now == wanted {
            return;
        }
        assert!(Instant::now() < until, "{name} is {now} and not {wanted}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn metric(daemon: &Daemon, line: &str) -> bool {
    let body = daemon.get("/metrics").body;
    body.lines().any(|known| known == line)
}

#[test]
fn a_model_sleeps_with_its_sessions_and_the_next_request_wakes_it() {
    let daemon = Daemon::start(setup());
    assert_eq!(daemon.post(CHAT, &turn("s", "a")).status, 200);
    let (status, told) = command(&daemon, "fake/sleep");
    assert_eq!(
        (status, &told["state"]),
        (200, &json!("sleeping")),
        "{told}"
    );
    assert_eq!(told["weight_bytes"], 0);
    assert!(metric(
        &daemon,
        "llamahome_model_resident_bytes{model=\"fake\"} 0"
    ));
    // Asking how it is does not wake it.
    for path in ["/health", "/ready", "/metrics", "/v1/models", "/v1/ps"] {
        assert_eq!(daemon.get(path).status, 200, "{path}");
    }
    assert_eq!(state(&daemon, "fake"), "sleeping");
    let reply = daemon.post(CHAT, &turn("s", "k"));
    assert_eq!(reply.status, 200, "{}", reply.body);
    let usage = &reply.json()["usage"];
    // The first turn fed a, b and c; d was drawn and is fed with what is new.
    assert_eq!(usage["prompt_tokens"], 5, "the session goes on: {usage}");
    assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], 3);
    assert_eq!(state(&daemon, "fake"), "loaded");
    for line in [
        "llamahome_model_sleeps_total{reason=\"asked\"} 1",
        "llamahome_model_wakes_total{result=\"ok\"} 1",
        "llamahome_model_loads_total{result=\"ok\"} 1",
    ] {
        assert!(metric(&daemon, line), "{line}");
    }
}

#[test]
fn a_model_is_told_to_load_unload_sleep_and_wake() {
    let mut setup = setup();
    setup.preload = false;
    let daemon = Daemon::start(setup);
    assert_eq!(state(&daemon, "fake"), "unloaded");
    for (what, status, expected) in [
        ("fake/wake", 409, "wrong_model_state"),
        ("fake/sleep", 409, "wrong_model_state"),
        ("fake/unload", 200, "unloaded"),
        ("fake/load", 200, "loaded"),
        ("fake/wake", 200, "loaded"),
        ("fake/sleep", 200, "sleeping"),
        ("fake/sleep", 200, "sleeping"),
        ("fake/wake", 200, "loaded"),
        ("fake/sleep", 200, "sleeping"),
        ("fake/unload", 200, "unloaded"),
        ("none/load", 404, "model_not_found"),
        ("none/unload", 404, "model_not_found"),
        ("broken/load", 500, "model_load_failed"),
        ("a%20b/sleep", 404, "model_not_found"),
    ] {
        let (code, told) = command(&daemon, what);
        let said = told["state"].as_str().or(told["error"]["code"].as_str());
        assert_eq!((code, said), (status, Some(expected)), "{what}: {told}");
    }
}

#[test]
fn a_busy_model_is_left_as_it_is() {
    let daemon = Daemon::start(Setup::fake(FakeSource {
        delay: Duration::from_millis(20),
        ..FakeSource::default()
    }));
    let mut open = daemon.stream(TEXT, &json!({"prompt": "a", "max_tokens": 200}));
    open.event().unwrap();
    for what in ["fake/sleep", "fake/unload"] {
        let (status, told) = command(&daemon, what);
        assert_eq!(status, 409, "{told}");
        assert_eq!(told["error"]["code"], "model_busy");
    }
    drop(open);
}

#[test]
fn a_request_says_how_long_its_model_is_kept() {
    let daemon = Daemon::start(setup());
    let ask = |keep: Value| {
        let body = json!({"prompt": "a", "max_tokens": 2, "keep_alive": keep});
        let reply = daemon.post(TEXT, &body);
        assert_eq!(reply.status, 200, "{}", reply.body);
    };
    ask(json!("1h"));
    assert_eq!(daemon.get("/v1/ps").json()["data"][0]["keep_alive"], "1h");
    ask(json!(-1));
    assert_eq!(
        daemon.get("/v1/ps").json()["data"][0]["keep_alive"],
        "forever"
    );
    ask(json!(0));
    wait_for(&daemon, "fake", "unloaded");
    assert!(metric(
        &daemon,
        "llamahome_model_unloads_total{reason=\"idle\"} 1"
    ));
    // The next request that does not say has the configured time: for ever.
    ask(Value::Null);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(state(&daemon, "fake"), "loaded");
}

#[test]
fn an_idle_model_sleeps_and_later_goes() {
    let mut setup = setup();
    setup.sections.runtime.sleep_after = KeepAlive::For(Duration::from_millis(200));
    setup.sections.runtime.keep_alive = KeepAlive::For(Duration::from_millis(1500));
    let daemon = Daemon::start(setup);
    wait_for(&daemon, "fake", "sleeping");
    assert_eq!(daemon.post(CHAT, &turn("s", "a")).status, 200);
    wait_for(&daemon, "fake", "sleeping");
    wait_for(&daemon, "fake", "unloaded");
    // The session went with it, and that is told.
    let reply = daemon.post(CHAT, &turn("s", "b"));
    assert_eq!(reply.error().1, "session_not_found");
}

#[test]
fn changes_are_streamed() {
    let daemon = Daemon::start(setup().key("right"));
    let call = || Call::new(daemon.address, "GET", "/v1/models/events");
    assert_eq!(call().open().status, 401);
    let with_key = |call: Call| call.header("Authorization", "Bearer right");
    let mut events = with_key(call()).open();
    assert_eq!(events.status, 200);
    let mut next = || -> Value { serde_json::from_str(&events.event().unwrap()).unwrap() };
    let first = next();
    assert_eq!(
        (&first["name"], &first["state"]),
        (&json!("fake"), &json!("loaded"))
    );
    let post = |what: &str| {
        let path = format!("/v1/models/{what}");
        with_key(Call::new(daemon.address, "POST", &path))
            .send()
            .status
    };
    assert_eq!(post("fake/sleep"), 200);
    assert_eq!(next()["state"], "sleeping");
    assert_eq!(post("fake/wake"), 200);
    let waking = next();
    assert_eq!(waking["state"], "loading");
    assert_eq!(next()["state"], "loaded");
    assert_eq!(post("fake/unload"), 200);
    assert_eq!(next()["state"], "unloaded");
    assert_eq!(post("broken/load"), 500);
    // It could not even be opened, so it never was loading; the next change is the next load.
    assert_eq!(post("fake/load"), 200);
    assert_eq!(next()["state"], "loading");
    assert_eq!(next()["state"], "loaded");
    // A shutdown ends the stream.
    daemon.block_on(daemon.runtime.shutdown(Duration::ZERO));
    assert_eq!(events.event(), None);
}

#[test]
fn replicas_share_the_requests_and_a_session_stays_where_it_is() {
    let mut setup = setup();
    setup.sections.runtime.models = vec!["fake replicas=3 router=round_robin".parse().unwrap()];
    let daemon = Daemon::start(setup);
    let line = daemon.get("/v1/ps").json()["data"][0].clone();
    let names: Vec<&str> = line["replicas"]
        .as_array()
        .unwrap()
        .iter()
        .map(|replica| replica["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["fake", "fake#1", "fake#2"]);
    // The weights are there once.
    assert_eq!(line["weight_bytes"], 1 << 20);
    assert!(metric(
        &daemon,
        "llamahome_model_replicas{model=\"fake\"} 3"
    ));
    // Sessions are spread, and each goes on where it began whatever the policy says.
    for turn_of in ["a", "k", "s"] {
        for name in ["one", "two", "three", "four"] {
            let reply = daemon.post(CHAT, &turn(name, turn_of));
            assert_eq!(reply.status, 200, "{}", reply.body);
            let cached = &reply.json()["usage"]["prompt_tokens_details"]["cached_tokens"];
            assert_eq!(
                cached == &json!(0),
                turn_of == "a",
                "{name} {turn_of}: {cached}"
            );
        }
    }
    let list = daemon.get("/v1/sessions").json();
    assert_eq!(list["data"].as_array().unwrap().len(), 4, "{list}");
    // A copy is where its original is, and both go on.
    let copy = daemon.post("/v1/sessions/two/fork", &json!({"to": "copy"}));
    assert_eq!(copy.status, 200, "{}", copy.body);
    for name in ["two", "copy"] {
        assert_eq!(daemon.post(CHAT, &turn(name, "b")).status, 200, "{name}");
    }
    let body = daemon.get("/metrics").body;
    let routed = body
        .lines()
        .find(|line| line.contains("routed_requests_total{"));
    assert!(
        routed.is_some_and(|line| line.ends_with("policy=\"round_robin\"} 14")),
        "{routed:?}"
    );
}

#[test]
fn replicas_survive_a_lost_worker_and_keep_one_set_of_weights() {
    let mut setup = Setup::fake(FakeSource {
        poison: Some(crate::support::LETTER_A + 16),
        ..FakeSource::default()
    });
    setup.sections.runtime.replicas = 2;
    setup.sections.runtime.router = RouterKind::RoundRobin;
    let daemon = Daemon::start(setup);
    let lost = daemon.post(TEXT, &json!({"prompt": "m", "max_tokens": 20}));
    assert_eq!(lost.error().1, "worker_lost");
    // The other replica was on the lost device, too: it is told at its next step, and comes back.
    let ask = || daemon.post(TEXT, &json!({"prompt": "a", "max_tokens": 2}));
    let told: Vec<u16> = (0..6).map(|_| ask().status).collect();
    assert!(
        told.iter().filter(|&&status| status != 200).count() <= 1,
        "{told:?}"
    );
    assert_eq!(told[2..], [200; 4]);
    let line = daemon.get("/v1/ps").json()["data"][0].clone();
    assert_eq!(line["replicas"].as_array().unwrap().len(), 2);
}

#[test]
fn memory_for_another_model_is_taken_from_the_idle_one() {
    let mut setup = setup();
    setup.sections.runtime.memory = Some(ByteSize(1 << 20));
    setup.sections.runtime.models = vec!["fake sleep_after=1h".parse().unwrap()];
    let daemon = Daemon::start(setup);
    assert_eq!(daemon.post(CHAT, &turn("s", "a")).status, 200);
    // One that may sleep sleeps rather than goes, so its sessions are kept.
    let reply = daemon.post(
        TEXT,
        &json!({"model": "other", "prompt": "a", "max_tokens": 2}),
    );
    assert_eq!(reply.status, 200, "{}", reply.body);
    assert_eq!(state(&daemon, "fake"), "sleeping");
    let reply = daemon.post(CHAT, &turn("s", "k"));
    assert_eq!(reply.status, 200, "{}", reply.body);
    let left = daemon.get("/v1/ps").json();
    assert_eq!(left["data"].as_array().unwrap().len(), 1, "{left}");
    assert!(metric(
        &daemon,
        "llamahome_model_unloads_total{reason=\"memory\"} 1"
    ));
}
