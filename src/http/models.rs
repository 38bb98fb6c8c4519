//! Which models there are, and what they are doing.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::{Data, Path};
use serde::Serialize;
use serde_json::json;

use super::respond;
use super::serve::State;
use super::wire::ApiError;
use crate::runtime::{LoadState, Runtime};

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
    /// `installed`, `loading`, `loaded` or `failed`.
    state: &'static str,
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

/// What loaded, loading and failed models are doing.
pub(super) async fn states(state: Data<State>) -> HttpResponse {
    let models = state.runtime.states().await;
    respond::json(StatusCode::OK, &json!({ "object": "list", "data": models }))
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
        all.insert(id.to_string(), entry(id.to_string(), started, "installed"));
    }
    for model in state.runtime.states().await {
        let told = match model.state {
            LoadState::Loading => "loading",
            LoadState::Loaded => "loaded",
            LoadState::Failed => "failed",
        };
        let name = model.name.clone();
        all.entry(model.name)
            .or_insert_with(|| entry(name, started, told))
            .state = told;
    }
    add_loaded(&state.runtime, &mut all);
    all
}

fn add_loaded(runtime: &Runtime, all: &mut BTreeMap<String, Listed>) {
    for model in runtime.loaded() {
        let name = model.id.to_string();
        let created = unix_seconds(model.loaded_at);
        let listed = Listed {
            created,
            max_model_len: Some(model.context),
            about: Some(model.about.clone()),
            ..entry(name.clone(), created, "loaded")
        };
        all.insert(name, listed);
    }
}

fn entry(name: String, created: u64, state: &'static str) -> Listed {
    Listed {
        id: name.clone(),
        object: "model",
        created,
        owned_by: "llamahome",
        root: name,
        max_model_len: None,
        state,
        about: None,
    }
}
