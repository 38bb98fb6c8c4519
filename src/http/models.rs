//! Which models there are, what they are doing, and telling them to load, unload, sleep and wake.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{Bytes, Data, Path};
use futures_util::stream;
use serde::Serialize;
use serde_json::json;
use tokio::sync::broadcast::{self, error::RecvError};

use super::generate::by_name;
use super::respond;
use super::serve::State;
use super::wire::ApiError;
use crate::ids::ModelId;
use crate::runtime::{LoadState, ModelError, ModelEvent, ModelState, Runtime};

/// How long the stream of events may be silent: proxies close one that is.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// One model in OpenAI's shape, with our state.
#[derive(Debug, Clone, Serialize)]
struct Listed {
    id: String,
    object: &'static str,
    /// When it was loaded, or else when the server started: seconds since 1970.
    created: u64,
    owned_by: &'static str,
    root: String,
    /// Its context, once it is loaded.
    max_model_len: Option<usize>,
    /// `unloaded`, `loading`, `loaded`, `sleeping` or `failed`.
    state: &'static str,
    /// How much of it was read, from 0 to 1, while it is loading and that is known.
    fraction: Option<f64>,
    /// Its engines, while it is loaded or asleep.
    replicas: usize,
    /// Its replicas in other processes, and how many of them answer.
    remotes: usize,
    remotes_up: usize,
    /// What it is, once it is loaded.
    about: Option<String>,
}

/// All that could answer.
pub(super) async fn list(state: Data<State>) -> HttpResponse {
    let models: Vec<Listed> = listed(&state).await.into_values().collect();
    respond::json(StatusCode::OK, &json!({ "object": "list", "data": models }))
}

/// One of them.
pub(super) async fn one(state: Data<State>, id: Path<String>) -> HttpResponse {
    let id = id.into_inner();
    match listed(&state).await.remove(&id) {
        Some(model) => respond::json(StatusCode::OK, &model),
        None => respond::error(&unknown(&id)),
    }
}

/// What loaded, loading, sleeping and failed models are doing, and replicas elsewhere.
pub(super) async fn states(state: Data<State>) -> HttpResponse {
    let models = state.runtime.states().await;
    let remotes = state.remotes.lines();
    let body = json!({ "object": "list", "data": models, "remotes": remotes });
    respond::json(StatusCode::OK, &body)
}

/// The answer for a name that no model has.
pub(super) fn unknown(name: &str) -> ApiError {
    let shown: String = name.chars().take(96).collect();
    let text = format!("there is no model {shown:?}: GET /v1/models lists those that there are");
    ApiError::new(404, "model_not_found", text).about("model")
}

pub(super) fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

async fn listed(state: &State) -> BTreeMap<String, Listed> {
    let started = unix_seconds(state.started);
    let mut all = BTreeMap::new();
    for id in state.runtime.installed().await {
        let unloaded = ModelState::new(id.as_str(), LoadState::Unloaded);
        all.insert(id.to_string(), entry(&unloaded, started));
    }
    for model in state.runtime.states().await {
        all.insert(model.name.clone(), entry(&model, started));
    }
    for remote in state.remotes.lines() {
        // One that is only elsewhere is unloaded here.
        let unloaded = ModelState::new(remote.model.as_str(), LoadState::Unloaded);
        let listed = all
            .entry(remote.model.to_string())
            .or_insert_with(|| entry(&unloaded, started));
        listed.remotes += 1;
        listed.remotes_up += usize::from(remote.up);
    }
    for model in state.runtime.loaded() {
        if let Some(listed) = all.get_mut(model.id.as_str()) {
            listed.created = unix_seconds(model.loaded_at);
            listed.max_model_len = Some(model.context);
            listed.about = Some(model.about.clone());
        }
    }
    all
}

fn entry(model: &ModelState, created: u64) -> Listed {
    Listed {
        id: model.name.clone(),
        object: "model",
        created,
        owned_by: "llamahome",
        root: model.name.clone(),
        max_model_len: None,
        state: model.state.name(),
        fraction: model.fraction,
        replicas: model.replicas.len(),
        remotes: 0,
        remotes_up: 0,
        about: None,
    }
}

/// Has a model loaded, or woken, before anybody asks it something.
pub(super) async fn load(state: Data<State>, id: Path<String>) -> HttpResponse {
    match by_name(&state, Some(id.as_str())).await {
        Ok(model) => changed(Ok(state.runtime.state(&model.id).await)),
        Err(error) => respond::error(&error),
    }
}

/// Frees a model's memory; its sessions end.
pub(super) async fn unload(state: Data<State>, id: Path<String>) -> HttpResponse {
    match named(&id) {
        Ok(id) => changed(state.runtime.unload(id).await),
        Err(error) => respond::error(&error),
    }
}

/// Frees the memory of a model's weights, and keeps its sessions.
pub(super) async fn sleep(state: Data<State>, id: Path<String>) -> HttpResponse {
    match named(&id) {
        Ok(id) => changed(state.runtime.sleep(id).await),
        Err(error) => respond::error(&error),
    }
}

/// Wakes a model that sleeps.
pub(super) async fn wake(state: Data<State>, id: Path<String>) -> HttpResponse {
    match named(&id) {
        Ok(id) => changed(state.runtime.wake(id).await),
        Err(error) => respond::error(&error),
    }
}

fn changed(outcome: Result<ModelState, ModelError>) -> HttpResponse {
    match outcome {
        Ok(model) => respond::json(StatusCode::OK, &model),
        Err(error) => respond::error(&error.into()),
    }
}

fn named(id: &str) -> Result<ModelId, ApiError> {
    id.parse().map_err(|_| unknown(id))
}

/// Every change of a model's state as a server-sent event; first those that are not just on disk.
pub(super) async fn events(state: Data<State>) -> HttpResponse {
    // Before the states are asked for: a change between the two is told twice rather than not at all.
    let changes = state.runtime.watch();
    let watching = Watching {
        ready: state
            .runtime
            .states()
            .await
            .iter()
            .map(respond::event)
            .collect(),
        over: state.runtime.draining(),
        runtime: state.runtime.clone(),
        changes,
    };
    let frames = stream::unfold(watching, |mut watching| async move {
        let frame = watching.next().await?;
        Some((frame, watching))
    });
    respond::events(frames)
}

/// One who watches the models.
struct Watching {
    runtime: Runtime,
    changes: broadcast::Receiver<ModelEvent>,
    /// Frames that wait to be sent.
    ready: VecDeque<Bytes>,
    over: bool,
}

impl Watching {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(frame) = self.ready.pop_front() {
                return Some(frame);
            }
            if self.over {
                return None;
            }
            match tokio::time::timeout(KEEP_ALIVE, self.changes.recv()).await {
                Err(_) => return Some(Bytes::from_static(b": waiting\n\n")),
                Ok(Ok(ModelEvent::State(state))) => self.ready.push_back(respond::event(&state)),
                Ok(Err(RecvError::Lagged(_))) => {
                    // Too slow to have seen every change: what is now is told instead.
                    let now = self.runtime.states().await;
                    self.ready.extend(now.iter().map(respond::event));
                }
                Ok(Ok(ModelEvent::Closing) | Err(RecvError::Closed)) => self.over = true,
            }
        }
    }
}
