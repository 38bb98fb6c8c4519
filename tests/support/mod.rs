//! A real daemon inside of the test's process: its own thread, its own actix system, a free port.
#![allow(dead_code, reason = "each test binary uses a part")]

mod certificate;
mod client;
mod fake;
mod program;
mod terminal;
mod training;

#[allow(unused_imports, reason = "each test binary uses a part")]
pub use certificate::{certify, trusting};
#[allow(unused_imports, reason = "each test binary uses a part")]
pub use client::{Call, Open, Reply};
#[allow(unused_imports, reason = "each test binary uses a part")]
pub use fake::{CONTEXT, FakeSource, LETTER_A, VOCAB};
#[allow(unused_imports, reason = "each test binary uses a part")]
pub use program::{PROGRAM, Served, in_home, install, listening, test_model};
#[allow(unused_imports, reason = "each test binary uses a part")]
pub use terminal::pty;
#[allow(unused_imports, reason = "each test binary uses a part")]
pub use training::Place;

use std::future::IntoFuture;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use llamahome::http::{self, Readiness};
use llamahome::ids::ModelId;
use llamahome::llama;
use llamahome::runtime::{DiskModels, ModelSource, Opened, Runtime, Sections, SourceError, boot};
use llamahome::sample::Defaults;
use llamahome::store::{Catalog, Fetch, Home, Library, PullRequest, Silent, Source};
use llamahome::telemetry::{AuditLog, Metrics};
use llamahome::units::Secret;
use serde_json::Value;
use tokio::sync::oneshot;

/// How to start one.
pub struct Setup {
    pub source: Arc<dyn ModelSource>,
    pub sections: Sections,
    pub http: http::Config,
    pub audit: Option<PathBuf>,
    /// Loaded before `start` returns.
    pub preload: bool,
}

impl Setup {
    /// With a model that only counts.
    pub fn fake(source: FakeSource) -> Self {
        let mut sections = Sections::default();
        sections.runtime.default_model = "fake".to_owned();
        Setup {
            source: Arc::new(source),
            sections,
            http: http::Config {
                port: 0,
                workers: 1,
                ..http::Config::default()
            },
            audit: None,
            preload: true,
        }
    }

    /// With the real model of the tests, under its usual name.
    pub fn real() -> Self {
        let mut setup = Setup::fake(FakeSource::default());
        setup.source = Arc::new(RealModels::default());
        setup.sections.runtime.default_model = "smollm2".to_owned();
        setup
    }

    /// With a key.
    pub fn key(mut self, key: &str) -> Self {
        self.http.api_key = Secret::new(key);
        self
    }
}

/// The real model of the tests, linked into a home of its own as `smollm2`.
pub struct RealModels {
    models: DiskModels,
    _home: tempfile::TempDir,
}

impl Default for RealModels {
    fn default() -> Self {
        let file = std::env::var("LLAMAHOME_TEST_MODEL").expect("cargo sets LLAMAHOME_TEST_MODEL");
        let path = std::fs::canonicalize(&file)
            .unwrap_or_else(|error| panic!("{file}: {error}; `make setup` puts the model there"));
        let home = tempfile::tempdir().unwrap();
        let library = Library::new(Home::at(home.path()), Catalog::built_in().unwrap());
        let request = PullRequest {
            source: Source::Path(path),
            id: Some("smollm2".parse().unwrap()),
            link: true,
            pulled_at: "2026-01-01T00:00:00Z".to_owned(),
        };
        let fetch = Fetch::from_env(|_| None);
        library.pull(&fetch, &request, &mut Silent).unwrap();
        let config = llama::Config {
            // In bfloat16 a row of a batch is rounded otherwise than alone, which may turn a draw.
            dtype: llama::Dtype::Float32,
            ..llama::Config::default()
        };
        RealModels {
            models: DiskModels::new(library, config),
            _home: home,
        }
    }
}

impl ModelSource for RealModels {
    fn names(&self) -> Vec<ModelId> {
        self.models.names()
    }

    fn open(&self, name: &str) -> Result<Opened, SourceError> {
        self.models.open(name)
    }

    fn library(&self) -> Option<&Library> {
        Some(self.models.library())
    }
}

/// A running daemon. Dropping it stops it.
pub struct Daemon {
    pub address: SocketAddr,
    pub runtime: Runtime,
    pub readiness: Readiness,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Daemon {
    /// Starts one and waits until it answers.
    pub fn start(setup: Setup) -> Self {
        let readiness = Readiness::default();
        let flag = readiness.clone();
        let (up, started) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let system = actix_web::rt::System::new();
            system.block_on(async move {
                let audit = setup.audit.map(|path| AuditLog::open(&path).unwrap());
                let runtime = boot(setup.sections, setup.source, audit, Metrics::new());
                if setup.preload {
                    runtime.model(None).await.unwrap();
                    flag.set(true);
                }
                let server = http::serve(setup.http, runtime.clone(), greedy(), flag).unwrap();
                let (address, handle) = (server.address(), server.handle());
                let serving = actix_web::rt::spawn(server.into_future());
                up.send((address, runtime.clone())).unwrap();
                let _ = stopped.await;
                runtime.shutdown(Duration::ZERO).await;
                handle.stop(false).await;
                serving.await.unwrap().unwrap();
            });
        });
        let (address, runtime) = started.recv().expect("the daemon starts");
        Daemon {
            address,
            runtime,
            readiness,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// A `GET`.
    pub fn get(&self, path: &str) -> Reply {
        Call::new(self.address, "GET", path).send()
    }

    /// A `POST` of JSON.
    pub fn post(&self, path: &str, body: &Value) -> Reply {
        Call::json(self.address, path, body).send()
    }

    /// A stream that is still coming.
    pub fn stream(&self, path: &str, body: &Value) -> Open {
        let mut body = body.clone();
        body["stream"] = Value::Bool(true);
        Call::json(self.address, path, &body).open()
    }

    /// Sequences that run and wait.
    pub fn busy(&self) -> (u64, u64) {
        let body = self.get("/v1/ps").json();
        let model = &body["data"][0];
        (
            model["running"].as_u64().unwrap(),
            model["waiting"].as_u64().unwrap(),
        )
    }

    /// Waits until `(running, waiting)` is this.
    pub fn wait_busy(&self, wanted: (u64, u64), at_most: Duration) {
        let until = Instant::now() + at_most;
        loop {
            let busy = self.busy();
            if busy == wanted {
                return;
            }
            assert!(
                Instant::now() < until,
                "(running, waiting) is {busy:?} and not {wanted:?}"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until the counters have this line.
    pub fn wait_metric(&self, line: &str) {
        let until = Instant::now() + Duration::from_secs(5);
        loop {
            let text = self.get("/metrics").body;
            if text.lines().any(|known| known == line) {
                return;
            }
            assert!(Instant::now() < until, "{line} is not in\n{text}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Runs something of the runtime from outside of its system.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        let outside = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        outside.unwrap().block_on(future)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !std::thread::panicking()
        {
            panic!("the daemon's thread panicked");
        }
    }
}

/// Greedy unless a request says otherwise, so that texts can be foretold.
fn greedy() -> Defaults {
    Defaults {
        temperature: 0.0,
        ..Defaults::default()
    }
}
