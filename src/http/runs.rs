//! `/v1/runs`: training runs, seen and steered.

use actix_web::http::StatusCode;
use actix_web::web::{Bytes, Data, Path, Payload, Query};
use actix_web::{HttpRequest, HttpResponse};
use futures_util::stream;
use serde::Deserialize;
use serde_json::{Value, json};

use super::serve::State;
use super::wire::ApiError;
use super::{body, respond};
use crate::runtime::{Following, RecipeSource, Runtime};
use crate::train::runs::Request;

/// Entries of a log unless a caller says how many.
const ENTRIES: usize = 1000;
/// And at most.
const MOST_ENTRIES: usize = 10_000;

/// `?after_step=`, and for the log `&limit=`.
#[derive(Debug, Deserialize)]
struct Which {
    after_step: Option<u64>,
    limit: Option<usize>,
}

/// All runs in the daemon's home.
pub(super) async fn list(state: Data<State>) -> HttpResponse {
    let found = state.runtime.runs().list().await;
    respond::answer(found.map_err(ApiError::from).map(|list| {
        let unreadable = list.unreadable.iter();
        let unreadable: Vec<Value> = unreadable
            .map(|(id, error)| json!({ "id": id, "error": error }))
            .collect();
        json!({ "object": "list", "data": list.runs, "unreadable": unreadable })
    }))
}

/// One of them.
pub(super) async fn one(state: Data<State>, id: Path<String>) -> HttpResponse {
    let shown = state.runtime.runs().show(&id).await;
    respond::answer(shown.map_err(ApiError::from).map(|shown| json!(shown)))
}

/// Lines of its log.
pub(super) async fn log(state: Data<State>, req: HttpRequest, id: Path<String>) -> HttpResponse {
    respond::answer(read(&state, &req, &id).await)
}

async fn read(state: &State, req: &HttpRequest, id: &str) -> Result<Value, ApiError> {
    let which = which(req)?;
    let limit = which.limit.unwrap_or(ENTRIES);
    if !(1..=MOST_ENTRIES).contains(&limit) {
        let text = format!("is {limit}, use 1 to {MOST_ENTRIES}");
        return Err(ApiError::bad("limit", text));
    }
    let runs = state.runtime.runs();
    Ok(json!(runs.log(id, which.after_step, limit).await?))
}

/// Begins a run: `{"recipe": name or TOML, "set": {key: value}}`.
pub(super) async fn start(state: Data<State>, req: HttpRequest, payload: Payload) -> HttpResponse {
    match started(&state, &req, payload).await {
        Ok(run) => respond::json(StatusCode::CREATED, &run),
        Err(error) => respond::error(&error),
    }
}

async fn started(state: &State, req: &HttpRequest, payload: Payload) -> Result<Value, ApiError> {
    let mut fields = body::json(req.headers(), payload, state.live().body_limit).await?;
    let recipe = fields.string("recipe")?.ok_or_else(|| {
        let text = "is missing: name a recipe, or send one as TOML";
        ApiError::bad("recipe", text)
    })?;
    let set = fields.object("set")?.unwrap_or_default();
    let set: Result<Vec<String>, ApiError> = set.iter().map(|(k, v)| setting(k, v)).collect();
    let set = set?;
    if let Some(name) = fields.left().first() {
        let text = "is no field of this request: recipe and set are";
        return Err(ApiError::bad(name.clone(), text));
    }
    let recipe = RecipeSource::told(&recipe);
    Ok(json!(state.runtime.runs().start(recipe, set).await?))
}

/// A key of a recipe and its value as they are written on the command line.
fn setting(key: &str, value: &Value) -> Result<String, ApiError> {
    match value {
        Value::Null => Ok(format!("{key}=")),
        Value::Object(_) => {
            let text = "is an object: give each of its keys, as in \"optim.lr\"";
            Err(ApiError::bad(format!("set.{key}"), text))
        }
        // Texts, numbers and lists are written in TOML as in JSON.
        value => Ok(format!("{key}={value}")),
    }
}

/// Holds a run after its present step.
pub(super) async fn pause(state: Data<State>, id: Path<String>) -> HttpResponse {
    steer(&state, &id, Request::Pause).await
}

/// Lets a paused run go on, or takes up one that has stopped.
pub(super) async fn resume(state: Data<State>, id: Path<String>) -> HttpResponse {
    steer(&state, &id, Request::Resume).await
}

/// Saves a checkpoint and ends a run.
pub(super) async fn stop(state: Data<State>, id: Path<String>) -> HttpResponse {
    steer(&state, &id, Request::Stop).await
}

/// Saves a checkpoint.
pub(super) async fn save(state: Data<State>, id: Path<String>) -> HttpResponse {
    steer(&state, &id, Request::Save).await
}

async fn steer(state: &State, id: &str, request: Request) -> HttpResponse {
    match state.runtime.runs().steer(id, request).await {
        // What was asked is done after the present step.
        Ok(run) => respond::json(StatusCode::ACCEPTED, &run),
        Err(error) => respond::error(&error.into()),
    }
}

/// What happens to a run as server-sent events, until it ends.
pub(super) async fn events(state: Data<State>, req: HttpRequest, id: Path<String>) -> HttpResponse {
    let following = match which(&req) {
        Ok(which) => {
            let runs = state.runtime.runs();
            let following = runs.follow(&id, which.after_step).await;
            following.map_err(ApiError::from)
        }
        Err(error) => Err(error),
    };
    let following = match following {
        Ok(following) => following,
        Err(error) => return respond::error(&error),
    };
    let watching = (following, state.runtime.clone());
    let frames = stream::unfold(watching, |(mut following, runtime)| async move {
        let frame = frame(&mut following, &runtime).await?;
        Some((frame, (following, runtime)))
    });
    respond::events(frames)
}

async fn frame(following: &mut Following, runtime: &Runtime) -> Option<Bytes> {
    let events = following.next(|| runtime.draining()).await?;
    if events.is_empty() {
        return Some(Bytes::from_static(b": waiting\n\n"));
    }
    let frames: Vec<Bytes> = events.iter().map(respond::event).collect();
    Some(Bytes::from(frames.concat()))
}

fn which(req: &HttpRequest) -> Result<Which, ApiError> {
    let which = Query::<Which>::from_query(req.query_string());
    let which = which.map_err(|e| ApiError::bad("after_step", format!("cannot be read: {e}")))?;
    Ok(which.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_written_as_overrides() {
        let table = [
            (json!("fp32"), "k=\"fp32\""),
            (json!(0.001), "k=0.001"),
            (json!(true), "k=true"),
            (json!(["a", "b"]), "k=[\"a\",\"b\"]"),
            (json!(null), "k="),
        ];
        for (value, expected) in table {
            assert_eq!(setting("k", &value).unwrap(), expected);
        }
        let error = setting("optim", &json!({"lr": 1})).unwrap_err();
        assert_eq!(error.param.as_deref(), Some("set.optim"));
    }
}
