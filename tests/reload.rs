//! SIGHUP: the daemon reads its settings anew, and says what changed and what waits for a restart.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use support::{Call, PROGRAM, Served, certify, in_home, listening, pty, trusting};

mod support;

const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until something is so.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn write(home: &Path, text: &str) {
    std::fs::create_dir_all(home.join("config")).unwrap();
    std::fs::write(home.join("config/llamahome.toml"), text).unwrap();
}

/// All that the daemon has logged.
fn log(home: &Path) -> String {
    let files = std::fs::read_dir(home.join("logs")).unwrap();
    let files = files.map(|entry| entry.unwrap().path());
    let own = files.filter(|path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with("llamahome.")
    });
    own.map(|path| std::fs::read_to_string(path).unwrap())
        .collect()
}

struct Daemon<'a> {
    served: Served,
    home: &'a Path,
    reloads: usize,
}

impl<'a> Daemon<'a> {
    fn start(home: &'a Path) -> Self {
        Daemon {
            served: Served::start(home, &[]),
            home,
            reloads: 0,
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.served.process);
        kill_process(pid, signal).unwrap();
    }

    /// Sends SIGHUP and waits until the log has said what came of it.
    fn reload(&mut self) {
        self.signal(Signal::HUP);
        self.reloads += 1;
        until("the end of a reload", || {
            let said = |what| log(self.home).matches(what).count();
            said("\"reloaded: ") + said("\"nothing was reloaded: ") == self.reloads
        });
    }

    fn get(&self, path: &str, key: &str) -> support::Reply {
        Call::new(self.served.address, "GET", path)
            .header("authorization", &format!("Bearer {key}"))
            .send()
    }

    fn status(&self, key: &str) -> u16 {
        self.get("/v1/ps", key).status
    }
}

#[test]
fn what_can_change_changes_and_the_rest_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path();
    write(home, "[http]\napi_key = 'one'\n");
    let mut daemon = Daemon::start(home);
    assert_eq!((daemon.status("one"), daemon.status("two")), (200, 401));
    let config = daemon.get("/v1/config", "one").json();
    assert_eq!(config["settings"]["sampling.top_k"]["value"], 40);
    assert_eq!(config["waiting_for_restart"], json!([]));

    write(
        home,
        "[http]\napi_key = 'two'\nbody_limit = '1KiB'\n[sampling]\ntop_k = 7\n[kv]\npolicy = 'h2o'\nbudget = 512\n[telemetry]\nlevel = 'debug'\n",
    );
    daemon.reload();
    assert_eq!((daemon.status("one"), daemon.status("two")), (401, 200));
    let config = daemon.get("/v1/config", "two").json();
    let top_k = &config["settings"]["sampling.top_k"];
    assert_eq!((&top_k["value"], &top_k["live"]), (&json!(7), &json!(true)));
    let file = top_k["origin"]["place"].as_str().unwrap();
    assert!(file.ends_with("llamahome.toml"), "{top_k}");
    let policy = &config["settings"]["kv.policy"];
    assert_ne!(policy["value"], "h2o");
    let waiting: Vec<&Value> = config["waiting_for_restart"]
        .as_array()
        .unwrap()
        .iter()
        .map(|change| &change["key"])
        .collect();
    assert_eq!(waiting, ["kv.policy", "kv.budget"]);
    let long = json!({ "model": "none", "content": "a".repeat(2000) });
    let refused = Call::json(daemon.served.address, "/tokenize", &long)
        .header("authorization", "Bearer two")
        .send();
    assert_eq!(refused.status, 413, "{}", refused.body);
    let log = log(home);
    assert!(
        log.contains("a setting changes at a restart only") && log.contains("\"DEBUG\""),
        "{log}"
    );
    for key in ["\"one\"", "\"two\""] {
        assert!(!log.contains(key), "{log}");
    }
}

#[test]
fn what_is_wrong_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path();
    write(home, "[http]\napi_key = 'one'\n");
    let mut daemon = Daemon::start(home);
    for wrong in [
        "[http]\napi_key = 'two'\nbody_limits = 1\n",
        "[http]\napi_key = 'two'\n[sampling]\ntop_p = 7.0\n",
        "[http]\napi_key = 'two'\nkeys_file = 'none.toml'\n",
        "[http]\napi_key = 'two'\ntls_cert = 'none.pem'\n",
    ] {
        write(home, wrong);
        daemon.reload();
        assert_eq!(
            (daemon.status("one"), daemon.status("two")),
            (200, 401),
            "{wrong}"
        );
    }
    let said = log(home);
    for part in ["body_limits", "top_p", "none.toml", "belong together"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    // It still ends as it did.
    daemon.signal(Signal::TERM);
    let ended = daemon.served.process.wait().unwrap();
    assert!(ended.success(), "{ended}");
}

#[test]
fn a_key_that_is_revoked_is_refused_and_the_others_keep_what_they_have_used() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path();
    let keys = home.join("keys.toml");
    let write_keys = |names: &[&str]| {
        let text: String = names
            .iter()
            .map(|name| {
                format!("[[keys]]\nname = '{name}'\nkey = 'key-{name}'\nrequests_per_minute = 6\n")
            })
            .collect();
        std::fs::write(&keys, text).unwrap();
        std::fs::set_permissions(&keys, std::fs::Permissions::from_mode(0o600)).unwrap();
    };
    write_keys(&["ann", "bob"]);
    write(home, &format!("[http]\nkeys_file = '{}'\n", keys.display()));
    let mut daemon = Daemon::start(home);
    let left = |daemon: &Daemon<'_>, key: &str| {
        let text = json!({ "content": "a" });
        let reply = Call::json(daemon.served.address, "/tokenize", &text)
            .header("authorization", &format!("Bearer {key}"))
            .send();
        let left = reply.header("x-ratelimit-remaining-requests");
        left.map(|left| left.parse::<u64>().unwrap())
    };
    assert_eq!(left(&daemon, "key-ann"), Some(5));
    assert_eq!(left(&daemon, "key-ann"), Some(4));
    write_keys(&["ann", "eve"]);
    daemon.reload();
    assert_eq!(
        (daemon.status("key-bob"), daemon.status("key-eve")),
        (401, 200)
    );
    let after = left(&daemon, "key-ann").unwrap();
    assert!(after <= 4, "the account began anew: {after}");
}

#[test]
fn a_new_certificate_is_answered_with() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path();
    let (cert, key, first) = certify(home);
    write(
        home,
        &format!(
            "[http]\ntls_cert = '{}'\ntls_key = '{}'\n",
            cert.display(),
            key.display()
        ),
    );
    let mut daemon = Daemon::start(home);
    let url = format!("https://localhost:{}/health", daemon.served.address.port());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let answers = |pem: &str| {
        let answer = trusting(Some(pem)).get(&url).send();
        runtime.block_on(answer).is_ok()
    };
    assert!(answers(&first));
    let (.., second) = certify(home);
    assert!(!answers(&second), "before the reload");
    daemon.reload();
    assert_eq!((answers(&first), answers(&second)), (false, true));
}

#[test]
fn a_terminal_that_goes_away_ends_it_and_one_that_is_there_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path();
    let (master, side) = pty();
    // Without `--wait` it becomes the program: the process that is started leads no group yet, so it need not fork.
    let mut process = in_home("setsid", home)
        .args(["--ctty", PROGRAM, "serve", "--port", "0"])
        .stdin(Stdio::from(side()))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    listening(&mut process, home);
    kill_process(Pid::from_child(&process), Signal::HUP).unwrap();
    until("a reload", || log(home).contains("\"reloaded: "));
    assert!(process.try_wait().unwrap().is_none());
    drop(master);
    until("its end", || process.try_wait().unwrap().is_some());
    assert!(log(home).contains("draining"));
}
