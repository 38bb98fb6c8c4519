//! The program itself, in a home of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(180);

/// The binary.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_llamahome");

/// A command in a home, without the settings of whoever runs the tests.
pub fn in_home(program: &str, home: &Path) -> Command {
    let mut command = Command::new(program);
    let ours = std::env::vars_os().filter(|(name, _)| {
        let name = name.to_string_lossy();
        name.starts_with("LLAMAHOME_") || name.starts_with("XDG_")
    });
    for (name, _) in ours {
        command.env_remove(name);
    }
    command.current_dir(home).env("LLAMAHOME_HOME", home);
    command
}

/// The file of the tests' model.
pub fn test_model() -> PathBuf {
    let path = std::env::var("LLAMAHOME_TEST_MODEL").expect(
        "LLAMAHOME_TEST_MODEL is not set: run `make test`, which fetches the model and sets it",
    );
    std::fs::canonicalize(path).unwrap()
}

/// Installs the tests' model in a home, by link.
pub fn install(home: &Path, name: &str) {
    let mut pull = in_home(PROGRAM, home);
    pull.arg("pull").arg(test_model());
    let pulled = pull.args(["--as", name, "--link"]).output().unwrap();
    assert!(pulled.status.success(), "{pulled:?}");
}

/// `llamahome serve`, until it is dropped.
pub struct Served {
    pub process: Child,
    pub address: SocketAddr,
}

impl Served {
    /// Starts it on a free port, and waits until it listens.
    pub fn start(home: &Path, args: &[&str]) -> Self {
        let mut serve = in_home(PROGRAM, home);
        serve.args(["serve", "--port", "0"]).args(args);
        let serve = serve.stdout(Stdio::null()).stderr(Stdio::null());
        let mut process = serve.spawn().unwrap();
        let address = listening(&mut process, home);
        Served { process, address }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Where a daemon of a home listens, once it has noted it there.
pub fn listening(daemon: &mut Child, home: &Path) -> SocketAddr {
    let note = home.join("run/daemon.json");
    let began = Instant::now();
    loop {
        if let Ok(text) = std::fs::read_to_string(&note) {
            let note: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(note["pid"], daemon.id());
            return note["address"].as_str().unwrap().parse().unwrap();
        }
        assert_eq!(daemon.try_wait().unwrap(), None, "it ended by itself");
        assert!(began.elapsed() < PATIENCE, "it never listens");
        std::thread::sleep(Duration::from_millis(50));
    }
}
