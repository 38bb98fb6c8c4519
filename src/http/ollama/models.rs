//! Which models there are, what they are, and changing that: `/api/tags`, `show`, `ps`, `copy` and `delete`.

use std::time::{Duration, SystemTime};

use actix_web::http::{StatusCode, header};
use actix_web::web::{Data, Payload};
use actix_web::{HttpMessage, HttpRequest, HttpResponse};
use serde_json::{Value, json};

use super::answer::rfc3339;
use super::details::{Details, digest, model_info, modified_at};
use super::name;
use crate::http::edge::About;
use crate::http::generate::off_thread;
use crate::http::serve::State;
use crate::http::wire::{ApiError, Dialect, Fields};
use crate::http::{body, respond};
use crate::runtime::{KeepAlive, ModelError, ServedModel};
use crate::sample::Defaults;
use crate::store::{Installed, Library, Model};
use crate::text::ChatTemplate;

/// When a model that is kept for ever is told to go: the last time that Ollama's clients can hold, 292 years away.
const FOR_EVER: Duration = Duration::from_secs(292 * 365 * 24 * 3600);

/// `HEAD /`, by which clients find out whether a server is there.
pub(in crate::http) async fn alive() -> HttpResponse {
    HttpResponse::Ok()
        .insert_header(header::ContentType::plaintext())
        .finish()
}

/// `GET /api/version`.
pub(in crate::http) async fn version() -> HttpResponse {
    respond::json(
        StatusCode::OK,
        &json!({ "version": env!("CARGO_PKG_VERSION") }),
    )
}

/// `GET /api/tags`: the installed models.
pub(in crate::http) async fn tags(state: Data<State>) -> HttpResponse {
    answer(listed(&state).await.map(Some))
}

/// `POST /api/show`: what is known of one.
pub(in crate::http) async fn show(
    state: Data<State>,
    req: HttpRequest,
    payload: Payload,
) -> HttpResponse {
    answer(shown(&state, &req, payload).await.map(Some))
}

/// `GET /api/ps`: the loaded models.
pub(in crate::http) async fn ps(state: Data<State>) -> HttpResponse {
    answer(loaded(&state).await.map(Some))
}

/// `DELETE /api/delete`: removes a model from memory and disk.
pub(in crate::http) async fn delete(
    state: Data<State>,
    req: HttpRequest,
    payload: Payload,
) -> HttpResponse {
    answer(deleted(&state, &req, payload).await.map(|()| None))
}

/// `POST /api/copy`: gives a model a second name.
pub(in crate::http) async fn copy(
    state: Data<State>,
    req: HttpRequest,
    payload: Payload,
) -> HttpResponse {
    answer(copied(&state, &req, payload).await.map(|()| None))
}

/// JSON, or nothing but the status.
fn answer(outcome: Result<Option<Value>, ApiError>) -> HttpResponse {
    match outcome {
        Ok(Some(value)) => respond::json(StatusCode::OK, &value),
        Ok(None) => HttpResponse::Ok().finish(),
        Err(error) => respond::error_in(Dialect::Ollama, &error),
    }
}

/// The models on disk.
pub(super) fn library(state: &State) -> Result<Library, ApiError> {
    state.runtime.library().cloned().ok_or_else(|| {
        let text = "this server has no models on disk: GET /v1/models lists those that there are";
        ApiError::new(404, "no_library", text)
    })
}

async fn read(state: &State, req: &HttpRequest, payload: Payload) -> Result<Fields, ApiError> {
    body::json_of_any_type(req.headers(), payload, state.live().body_limit).await
}

async fn listed(state: &State) -> Result<Value, ApiError> {
    let library = library(state)?;
    let listing = move || -> Result<Value, ApiError> {
        let models = library.list()?;
        Ok(json!({ "models": models.iter().map(entry).collect::<Vec<_>>() }))
    };
    off_thread(listing).await?
}

fn entry(model: &Installed) -> Value {
    json!({
        "name": model.id,
        "model": model.id,
        "modified_at": modified_at(model),
        "size": model.bytes(),
        "digest": digest(model.manifest.as_ref()),
        "details": Details::of(model),
    })
}

async fn shown(state: &State, req: &HttpRequest, payload: Payload) -> Result<Value, ApiError> {
    let mut fields = read(state, req, payload).await?;
    let id = name::id(&name::required(&mut fields)?)?;
    let verbose = fields.flag("verbose")?;
    for name in ["system", "template", "options"] {
        let hint = "only what is installed is shown";
        fields.refuse(name, hint, |value| value.as_str() == Some(""))?;
    }
    let (library, defaults) = (library(state)?, state.live().sampling.clone());
    let looking = move || -> Result<Value, ApiError> {
        let installed = library.find(id.as_str())?;
        let model = Model::open(&installed.path)?;
        let manifest = installed.manifest.as_ref();
        let license = manifest.and_then(|manifest| manifest.license.clone());
        Ok(json!({
            "license": license.or_else(|| model.summary.license.clone()).unwrap_or_default(),
            "modelfile": format!("FROM {}\n", installed.id),
            "parameters": parameters(&defaults),
            "template": model.chat_template().source(),
            "details": Details::new(&model.checkpoint, &model.summary),
            "model_info": model_info(&model.checkpoint, &model.summary, verbose),
            "capabilities": capabilities(&model.chat_template()),
            "modified_at": modified_at(&installed),
        }))
    };
    off_thread(looking).await?
}

/// What may be asked of a model: tools are told to any.
fn capabilities(template: &ChatTemplate) -> Vec<&'static str> {
    let thinking = template.thinks().then_some("thinking");
    ["completion", "tools"]
        .into_iter()
        .chain(thinking)
        .collect()
}

/// What requests get that say nothing, as lines of a Modelfile.
fn parameters(defaults: &Defaults) -> String {
    let mut lines = vec![
        format!("temperature {}", defaults.temperature),
        format!("top_k {}", defaults.top_k),
        format!("top_p {}", defaults.top_p),
        format!("min_p {}", defaults.min_p),
        format!("repeat_penalty {}", defaults.repetition_penalty),
        format!("repeat_last_n {}", defaults.penalty_window),
    ];
    let most = defaults
        .max_tokens
        .map(|most| format!("num_predict {most}"));
    lines.extend(most);
    lines.join("\n")
}

async fn loaded(state: &State) -> Result<Value, ApiError> {
    let library = state.runtime.library().cloned();
    let models = state.runtime.loaded();
    let looking = move || {
        let lines = models.iter().map(|model| {
            let found = library
                .as_ref()
                .map(|library| library.find(model.id.as_str()));
            process(model, found.and_then(Result::ok).as_ref())
        });
        json!({ "models": lines.collect::<Vec<_>>() })
    };
    off_thread(looking).await
}

/// A loaded model. `size_vram` is left out: which memory holds it is not known here.
fn process(model: &ServedModel, installed: Option<&Installed>) -> Value {
    let left = match model.keep_alive() {
        KeepAlive::Forever => FOR_EVER,
        KeepAlive::For(time) => time.saturating_sub(model.idle_for().unwrap_or_default()),
    };
    let expires = SystemTime::now().checked_add(left.min(FOR_EVER));
    json!({
        "name": model.id,
        "model": model.id,
        "size": model.weight_bytes + model.kv_bytes(),
        "digest": digest(installed.and_then(|installed| installed.manifest.as_ref())),
        "details": installed.map_or_else(Details::unknown, Details::of),
        "expires_at": rfc3339(expires.unwrap_or(SystemTime::UNIX_EPOCH)),
        "context_length": model.context,
    })
}

async fn deleted(state: &State, req: &HttpRequest, payload: Payload) -> Result<(), ApiError> {
    let mut fields = read(state, req, payload).await?;
    let name = name::required(&mut fields)?;
    req.extensions_mut().insert(About(name.clone()));
    let id = name::id(&name)?;
    let library = library(state)?;
    let found = {
        let (library, id) = (library.clone(), id.clone());
        off_thread(move || library.find(id.as_str())).await??
    };
    // A name may stand for another, as the default version's does.
    let id = found.id;
    match state.runtime.unload(id.clone()).await {
        // It is on disk only.
        Ok(_) | Err(ModelError::NotFound(_)) => {}
        Err(error) => return Err(error.into()),
    }
    let removed = id.clone();
    off_thread(move || library.remove(&removed)).await??;
    tracing::info!(model = %id, "removed");
    Ok(())
}

async fn copied(state: &State, req: &HttpRequest, payload: Payload) -> Result<(), ApiError> {
    let mut fields = read(state, req, payload).await?;
    let mut name = |field: &'static str| -> Result<String, ApiError> {
        let name = fields.string(field)?;
        let name = name.ok_or_else(|| ApiError::bad(field, "is missing: name a model"))?;
        Ok(name::plain(&name).to_owned())
    };
    let (from, to) = (name("source")?, name("destination")?);
    req.extensions_mut()
        .insert(About(format!("{from} to {to}")));
    let from = name::id(&from)?;
    let to = to.parse().map_err(|_| {
        let reason = "is no name for a model: use letters, digits and . _ - :";
        ApiError::bad("destination", reason)
    })?;
    let library = library(state)?;
    let copied = off_thread(move || library.copy(&library.find(from.as_str())?.id, &to)).await??;
    tracing::info!(model = %copied.id, "copied");
    Ok(())
}
