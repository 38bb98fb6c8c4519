//! Training runs, as clients start, watch and steer them.

use std::path::Path;
use std::time::{Duration, Instant};

use llamahome::runtime::Training;
use llamahome::train::recipe;
use llamahome::train::runs::{Request, RunFolder};
use llamahome::train::trainer::Trainer;
use llamahome::units::ByteSize;
use serde_json::{Value, json};

use crate::support::{Call, Daemon, FakeSource, Open, Place, Setup};

impl Place {
    fn setup(&self) -> Setup {
        let mut setup = Setup::fake(FakeSource::default());
        setup.sections.training = Some(Training {
            library: self.library.clone(),
            recipes: vec![self.path("nowhere"), self.path("recipes")],
        });
        setup
    }

    fn run(&self, id: &str) -> RunFolder {
        RunFolder::open(&self.library.home().runs(), id).unwrap()
    }
}

fn start(daemon: &Daemon, body: &Value) -> String {
    let reply = daemon.post("/v1/runs", body);
    assert_eq!(reply.status, 201, "{}", reply.body);
    reply.json()["id"].as_str().unwrap().to_owned()
}

fn steer(daemon: &Daemon, id: &str, what: &str) -> (u16, Value) {
    let reply = Call::new(daemon.address, "POST", &format!("/v1/runs/{id}/{what}")).send();
    (reply.status, reply.json())
}

fn show(daemon: &Daemon, id: &str) -> Value {
    let reply = daemon.get(&format!("/v1/runs/{id}"));
    assert_eq!(reply.status, 200, "{}", reply.body);
    reply.json()
}

fn wait_for(daemon: &Daemon, id: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let run = show(daemon, id);
        if holds(&run) {
            return run;
        }
        assert!(Instant::now() < until, "{what} never was: {run}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn wait_status(daemon: &Daemon, id: &str, status: &str) -> Value {
    wait_for(daemon, id, status, |run| run["status"] == status)
}

fn events(daemon: &Daemon, id: &str, query: &str) -> Open {
    let path = format!("/v1/runs/{id}/events{query}");
    let open = Call::new(daemon.address, "GET", &path).open();
    assert_eq!(open.status, 200);
    open
}

fn next(open: &mut Open, holds: impl Fn(&Value) -> bool) -> Value {
    loop {
        let event = open.event().expect("the stream goes on");
        let event: Value = serde_json::from_str(&event).unwrap();
        if holds(&event) {
            return event;
        }
    }
}

#[test]
fn a_run_is_started_watched_paused_resumed_and_stopped() {
    let place = Place::new();
    let daemon = Daemon::start(place.setup());
    assert_eq!(daemon.get("/v1/runs").json()["data"], json!([]));
    let body = json!({"recipe": "tiny", "set": {"name": "one", "optim.lr": 0.002}});
    let id = start(&daemon, &body);
    assert_eq!(id, "one-1");

    let mut all = events(&daemon, &id, "?after_step=0");
    let first = next(&mut all, |_| true);
    assert_eq!(
        (&first["kind"], &first["id"]),
        (&json!("state"), &json!(id))
    );
    let step = next(&mut all, |event| event["kind"] == "step");
    assert_eq!(step["step"], 1);
    assert!(step["loss"].as_f64().unwrap() > 0.0);
    next(&mut all, |event| {
        event["kind"] == "evaluation" && event["step"] == 20
    });

    // One run at a time.
    let (status, code) = {
        let reply = daemon.post("/v1/runs", &body);
        (reply.status, reply.error().1)
    };
    assert_eq!((status, code.as_str()), (409, "run_busy"));

    // Who chats is answered meanwhile.
    let chat = json!({"messages": [{"role": "user", "content": "a"}], "max_tokens": 3});
    assert_eq!(daemon.post("/v1/chat/completions", &chat).status, 200);

    assert_eq!(steer(&daemon, &id, "pause").0, 202);
    let paused = wait_status(&daemon, &id, "paused");
    assert_eq!(
        (&paused["here"], &paused["stage"]),
        (&json!(true), &json!("pretrain"))
    );
    assert_eq!(paused["recipe"]["optim"]["lr"], 0.002);
    assert!(paused["best"].is_number(), "{paused}");
    assert_eq!(steer(&daemon, &id, "save").0, 202);
    let saved = wait_for(&daemon, &id, "a checkpoint", |run| {
        run["checkpoints"] != json!([])
    });
    assert_eq!(saved["step"], paused["step"], "no step is taken");
    next(&mut all, |event| event["status"] == "paused");

    // A watcher that comes later sees what is from now on.
    let mut late = events(&daemon, &id, "");
    assert_eq!(next(&mut late, |_| true)["status"], "paused");
    assert_eq!(steer(&daemon, &id, "resume").0, 202);
    let step = next(&mut late, |event| event["kind"] == "step");
    assert_eq!(
        step["step"].as_u64(),
        Some(paused["step"].as_u64().unwrap() + 1)
    );

    // The actors may come and go.
    daemon.block_on(daemon.runtime.restart_all());
    let now = show(&daemon, &id)["step"].as_u64().unwrap();
    wait_for(&daemon, &id, "a step", |run| {
        run["step"].as_u64().unwrap() > now + 5
    });

    assert_eq!(steer(&daemon, &id, "stop").0, 202);
    let last = next(&mut all, |event| event["status"] == "stopped");
    assert_eq!(last["reason"], "stopped on request");
    assert_eq!(all.event(), None);
    let stopped = show(&daemon, &id);
    assert!(
        stopped["checkpoints"]
            .as_array()
            .unwrap()
            .contains(&stopped["step"])
    );
    let log = daemon
        .get(&format!("/v1/runs/{id}/log?after_step=3&limit=2"))
        .json();
    assert_eq!(log["has_more"], true);
    let steps: Vec<&Value> = log["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| &e["step"])
        .collect();
    assert_eq!(steps, [&json!(4), &json!(5)]);

    // What has stopped can only be resumed, and goes on where it was.
    for what in ["pause", "stop", "save"] {
        let (status, told) = steer(&daemon, &id, what);
        assert_eq!(status, 409, "{told}");
        assert_eq!(told["error"]["code"], "wrong_run_state");
    }
    let until = Instant::now() + Duration::from_secs(30);
    // Its thread may still be on its way out.
    while steer(&daemon, &id, "resume").0 != 202 {
        assert!(Instant::now() < until);
        std::thread::sleep(Duration::from_millis(20));
    }
    let from = stopped["step"].as_u64().unwrap();
    wait_for(&daemon, &id, "a step", |run| {
        run["step"].as_u64().unwrap() > from
    });
    // Another process steers it by its folder.
    place.run(&id).post(Request::Stop).unwrap();
    wait_status(&daemon, &id, "stopped");
    let list = daemon.get("/v1/runs").json();
    assert_eq!(list["data"][0]["id"], json!(id));
    assert_eq!(list["data"][0]["name"], "one");
}

#[test]
fn a_run_that_is_done_leaves_a_model() {
    let place = Place::new();
    let daemon = Daemon::start(place.setup());
    // The recipe itself instead of its name.
    let body = json!({"recipe": place.recipe(), "set": {"horizon.steps": 4}});
    let id = start(&daemon, &body);
    assert_eq!(id, "pretrain-1");
    let run = wait_status(&daemon, &id, "finished");
    assert_eq!(
        (&run["step"], &run["exported"]),
        (&json!(4), &json!("tiny"))
    );
    assert_eq!(run["last_step"]["step"], 4);
    assert!(place.library.find("tiny").is_ok());
    let (status, told) = steer(&daemon, &id, "resume");
    assert_eq!(
        (status, &told["error"]["code"]),
        (409, &json!("wrong_run_state"))
    );
    let mut events = events(&daemon, &id, "?after_step=2");
    assert_eq!(next(&mut events, |_| true)["status"], "finished");
    assert_eq!(next(&mut events, |_| true)["step"], 3);
}

#[test]
fn a_shutdown_saves_the_run() {
    let place = Place::new();
    let daemon = Daemon::start(place.setup());
    let id = start(&daemon, &json!({"recipe": "tiny"}));
    wait_for(&daemon, &id, "a step", |run| run["step"].as_u64() > Some(2));
    assert_eq!(
        daemon
            .block_on(daemon.runtime.runs().own())
            .unwrap()
            .as_str(),
        id
    );
    assert!(daemon.block_on(daemon.runtime.shutdown(Duration::from_secs(60))));
    let folder = place.run(&id);
    let state = folder.state().unwrap();
    assert_eq!(state.reason.as_deref(), Some("stopped with its process"));
    assert_eq!(
        folder.checkpoints().last().unwrap().unwrap().step,
        state.step
    );
    assert_eq!(
        daemon
            .post("/v1/runs", &json!({"recipe": "tiny"}))
            .error()
            .1,
        "shutting_down"
    );
}

#[test]
fn what_cannot_be_done_is_told() {
    let place = Place::new();
    let daemon = Daemon::start(place.setup());
    for (body, param, part) in [
        (json!({}), "recipe", "is missing"),
        (json!({"recipe": 1}), "recipe", "use a string"),
        (json!({"recipe": "none"}), "recipe", "there are tiny"),
        (json!({"recipe": "../text"}), "recipe", "there is no recipe"),
        (json!({"recipe": "stage = \"sgd\""}), "recipe", "stage"),
        (
            json!({"recipe": "tiny", "set": {"optim.rl": 1}}),
            "recipe",
            "did you mean `optim.lr`",
        ),
        (
            json!({"recipe": "tiny", "set": {"optim": {}}}),
            "set.optim",
            "is an object",
        ),
        (json!({"recipe": "tiny", "sets": {}}), "sets", "no field"),
        (
            json!({"recipe": "tiny", "set": {"stage": "sft", "model.depth": null, "model.base": "nobody"}}),
            "recipe",
            "",
        ),
    ] {
        let reply = daemon.post("/v1/runs", &body);
        let error = reply.json()["error"].clone();
        assert_eq!(
            (reply.status, &error["param"]),
            (400, &json!(param)),
            "{body}: {error}"
        );
        assert!(
            error["message"].as_str().unwrap().contains(part),
            "{body}: {error}"
        );
    }
    for path in [
        "/v1/runs/x-1",
        "/v1/runs/x-1/log",
        "/v1/runs/x-1/events",
        "/v1/runs/a%2Fb",
    ] {
        assert_eq!(daemon.get(path).error().1, "run_not_found", "{path}");
    }
    assert_eq!(steer(&daemon, "x-1", "stop").0, 404);
    // Nothing was left behind.
    assert_eq!(daemon.get("/v1/runs").json()["data"], json!([]));
    // What is found out when the data is read fails the run.
    let id = start(
        &daemon,
        &json!({"recipe": "tiny", "set": {"data.path": "/nowhere/at/all"}}),
    );
    let failed = wait_status(&daemon, &id, "failed");
    assert!(
        failed["reason"]
            .as_str()
            .unwrap()
            .contains("/nowhere/at/all"),
        "{failed}"
    );
}

#[test]
fn memory_is_shared_with_models() {
    let place = Place::new();
    let mut setup = place.setup();
    setup.sections.runtime.memory = Some(ByteSize(1 << 20));
    let daemon = Daemon::start(setup);
    let reply = daemon.post("/v1/runs", &json!({"recipe": "tiny"}));
    assert_eq!(
        (reply.status, reply.error().1.as_str()),
        (503, "no_memory"),
        "{}",
        reply.body
    );
    assert!(reply.body.contains("activations"), "{}", reply.body);
    assert_eq!(daemon.get("/v1/runs").json()["data"], json!([]));
    // The model that was loaded is there still.
    assert_eq!(daemon.get("/v1/models/fake").json()["state"], "loaded");

    let mut setup = place.setup();
    setup.sections.runtime.memory = Some(ByteSize(128 << 20));
    let daemon = Daemon::start(setup);
    let id = start(&daemon, &json!({"recipe": "tiny", "set": {"name": "fits"}}));
    wait_status(&daemon, &id, "running");
    steer(&daemon, &id, "stop");
    wait_status(&daemon, &id, "stopped");
}

#[test]
fn a_run_of_another_owner_is_seen_and_steered_by_its_folder() {
    let place = Place::new();
    let daemon = Daemon::start(place.setup());
    let text = place.recipe();
    let loaded = recipe::parse(Path::new("r.toml"), &text, &["name=other".to_owned()]).unwrap();
    let mut trainer = Trainer::begin(&place.library, &loaded, 1, &mut |_| {}).unwrap();
    let mut events = events(&daemon, "other-1", "");
    trainer.step().unwrap();
    assert_eq!(
        next(&mut events, |event| event["kind"] == "step")["step"],
        1
    );
    assert_eq!(steer(&daemon, "other-1", "pause").0, 202);
    assert_eq!(trainer.folder().requests().unwrap(), [Request::Pause]);
    assert_eq!(show(&daemon, "other-1")["status"], "running");
    drop(trainer);
    next(&mut events, |event| event["status"] == "interrupted");
    assert_eq!(events.event(), None);
}

#[test]
fn without_a_home_nothing_is_trained() {
    let daemon = Daemon::start(Setup::fake(FakeSource::default()).key("right"));
    let call = |method, path| {
        Call::new(daemon.address, method, path).header("Authorization", "Bearer right")
    };
    assert_eq!(call("GET", "/v1/runs").send().json()["data"], json!([]));
    assert_eq!(call("GET", "/v1/runs/a-1").send().error().1, "no_training");
    let body = json!({"recipe": "tiny"});
    let denied = Call::json(daemon.address, "/v1/runs", &body).send();
    assert_eq!(denied.status, 401);
}

#[test]
fn posting_needs_a_key_that_may_manage() {
    let place = Place::new();
    let keys = place.path("keys.toml");
    let text = "[[keys]]\nname = \"a\"\nkey = \"use-only\"\nscopes = [\"use\"]\n";
    std::fs::write(&keys, text).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&keys, mode).unwrap();
    let mut setup = place.setup().key("all");
    setup.http.keys_file = Some(keys);
    let daemon = Daemon::start(setup);
    let call = |method, path: &str, key| {
        let call = Call::new(daemon.address, method, path);
        call.header("Authorization", &format!("Bearer {key}"))
            .send()
    };
    assert_eq!(
        call("GET", "/v1/runs", "use-only").error().1,
        "scope_missing"
    );
    assert_eq!(call("GET", "/v1/runs", "all").status, 200);
    for path in ["", "/a-1/pause", "/a-1/resume", "/a-1/stop", "/a-1/save"] {
        let path = format!("/v1/runs{path}");
        let denied = call("POST", &path, "use-only");
        assert_eq!(denied.error().1, "scope_missing", "{path}");
        assert_ne!(call("POST", &path, "all").status, 403, "{path}");
    }
}
