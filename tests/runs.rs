//! The trainer actor beside the others of a process: restarts, shutdowns, and memory that models and a run share.

#[path = "support/mod.rs"]
mod support;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use llamahome::runtime::{
    LoadState, ModelError, RecipeSource, RunsError, Runtime, Sections, Training, boot,
};
use llamahome::telemetry::Metrics;
use llamahome::train::recipe;
use llamahome::train::runs::{Request, RunFolder, Status};
use llamahome::train::trainer::footprint;
use llamahome::units::ByteSize;
use support::{FakeSource, Place};

impl Place {
    fn source(&self) -> RecipeSource {
        RecipeSource::Text(self.recipe())
    }

    fn sections(&self) -> Sections {
        let mut sections = Sections {
            training: Some(Training {
                library: self.library.clone(),
                recipes: Vec::new(),
            }),
            ..Sections::default()
        };
        sections.runtime.default_model = "fake".to_owned();
        sections
    }

    fn runs(&self) -> PathBuf {
        self.library.home().runs()
    }

    fn run(&self, id: &str) -> RunFolder {
        RunFolder::open(&self.runs(), id).unwrap()
    }

    /// Begins a run, and returns its name.
    async fn begin(&self, runtime: &Runtime) -> String {
        let run = runtime.runs().start(self.source(), Vec::new()).await;
        run.unwrap().id.to_string()
    }

    /// Waits until a run has this state and more steps than `after`; the actors run on this thread meanwhile.
    async fn wait(&self, id: &str, wanted: Status, after: u64) {
        let is =
            |state: &llamahome::train::runs::RunState| state.status == wanted && state.step > after;
        wait(&format!("{wanted} after {after}"), async || {
            is(&self.run(id).state().unwrap())
        })
        .await;
    }
}

async fn wait(what: &str, holds: impl AsyncFn() -> bool) {
    for _ in 0..12_000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what} never was");
}

fn start(sections: Sections) -> Runtime {
    boot(
        sections,
        Arc::new(FakeSource::default()),
        None,
        Metrics::new(),
    )
}

#[actix_web::test]
async fn a_run_goes_on_through_restarts_of_its_actor() {
    let place = Place::new();
    let runtime = start(place.sections());
    let id = place.begin(&runtime).await;
    place.wait(&id, Status::Running, 2).await;
    runtime.restart_all().await;
    let then = place.run(&id).state().unwrap().step;
    place.wait(&id, Status::Running, then + 4).await;
    assert_eq!(runtime.runs().own().await.unwrap().as_str(), id);
    // Requests of another process are seen while it waits, after a restart too.
    place.run(&id).post(Request::Pause).unwrap();
    place.wait(&id, Status::Paused, 0).await;
    runtime.restart_all().await;
    place.run(&id).post(Request::Resume).unwrap();
    place.wait(&id, Status::Running, then + 6).await;
    // Models are served meanwhile.
    assert!(runtime.model(None).await.is_ok());
    runtime.runs().steer(&id, Request::Stop).await.unwrap();
    place.wait(&id, Status::Stopped, 0).await;
    wait("a free place", async || {
        runtime.runs().own().await.is_none()
    })
    .await;
    assert!(runtime.shutdown(Duration::from_secs(60)).await);
}

#[actix_web::test]
async fn a_shutdown_saves_a_paused_run_and_says_when_one_was_not_saved_in_time() {
    let place = Place::new();
    let runtime = start(place.sections());
    let id = place.begin(&runtime).await;
    place.wait(&id, Status::Running, 1).await;
    runtime.runs().steer(&id, Request::Pause).await.unwrap();
    place.wait(&id, Status::Paused, 1).await;
    assert!(runtime.shutdown(Duration::from_secs(60)).await);
    let state = place.run(&id).state().unwrap();
    assert_eq!(state.status, Status::Stopped);
    let saved = place.run(&id).checkpoints().last().unwrap().unwrap();
    assert_eq!(saved.step, state.step);
    let refused = runtime.runs().start(place.source(), Vec::new()).await;
    assert!(
        matches!(refused, Err(RunsError::ShuttingDown)),
        "{refused:?}"
    );

    let runtime = start(place.sections());
    assert!(runtime.runs().steer(&id, Request::Resume).await.is_ok());
    assert!(!runtime.shutdown(Duration::ZERO).await);
}

#[actix_web::test]
async fn a_run_and_models_share_the_memory() {
    let place = Place::new();
    let path = std::path::Path::new("recipe.toml");
    let loaded = recipe::parse(path, &place.recipe(), &[]).unwrap();
    let needed = footprint(&place.library, &loaded.recipe).unwrap().bytes();
    let mut sections = place.sections();
    // Room for the run, or for the model of a mebibyte and little else.
    sections.runtime.memory = Some(ByteSize(needed));
    let runtime = start(sections);
    let id = "fake".parse().unwrap();

    let held = runtime.model(None).await.unwrap();
    let refused = runtime.runs().start(place.source(), Vec::new()).await;
    assert!(
        matches!(refused, Err(RunsError::NoMemory { .. })),
        "{refused:?}"
    );
    assert!(!place.runs().exists(), "nothing is left of it");
    drop(held);

    // Now the model is idle, so it goes.
    let run = place.begin(&runtime).await;
    assert_eq!(runtime.state(&id).await.state, LoadState::Unloaded);
    let refused = runtime.model(None).await.err();
    assert!(
        matches!(refused, Some(ModelError::NoMemory { .. })),
        "{refused:?}"
    );
    place.wait(&run, Status::Running, 0).await;
    runtime.runs().steer(&run, Request::Stop).await.unwrap();
    place.wait(&run, Status::Stopped, 0).await;
    wait("memory for the model", async || {
        runtime.model(None).await.is_ok()
    })
    .await;
    assert!(runtime.shutdown(Duration::from_secs(60)).await);
}
