//! `/v1/sessions`: conversations whose caches outlive their requests. Where there are several keys, each has its own.

use actix_web::web::{Data, Path, Payload, Query};
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;
use serde_json::{Value, json};

use super::generate::by_name;
use super::keys::Caller;
use super::serve::State;
use super::wire::{ApiError, session_id};
use super::{body, respond};
use crate::ids::SessionId;
use crate::kv::{HeadChoice, KvShape};
use crate::runtime::{Held, ServedModel, SessionLine, SessionPicture, Sessions};
use crate::text::pieces;

/// `?model=`.
#[derive(Debug, Deserialize)]
struct Which {
    model: Option<String>,
}

/// `?layer=` and `?head=`.
#[derive(Debug, Deserialize)]
struct Part {
    layer: Option<usize>,
    head: Option<usize>,
}

/// All that a model has.
pub(super) async fn list(state: Data<State>, req: HttpRequest) -> HttpResponse {
    respond::answer(listed(&state, &req).await)
}

/// One of them, with what was said.
pub(super) async fn one(state: Data<State>, req: HttpRequest, name: Path<String>) -> HttpResponse {
    respond::answer(shown(&state, &req, &name).await)
}

/// What the cache of one holds: `?layer=` and `?head=` for a part of it.
pub(super) async fn picture(
    state: Data<State>,
    req: HttpRequest,
    name: Path<String>,
) -> HttpResponse {
    respond::answer(pictured(&state, &req, &name).await)
}

/// Forgets one.
pub(super) async fn erase(
    state: Data<State>,
    req: HttpRequest,
    name: Path<String>,
) -> HttpResponse {
    respond::answer(erased(&state, &req, &name).await)
}

/// Copies one: `{"to": name}`.
pub(super) async fn fork(
    state: Data<State>,
    req: HttpRequest,
    name: Path<String>,
    payload: Payload,
) -> HttpResponse {
    respond::answer(forked(&state, &req, &name, payload).await)
}

/// Writes one to a file.
pub(super) async fn save(state: Data<State>, req: HttpRequest, name: Path<String>) -> HttpResponse {
    respond::answer(saved(&state, &req, &name).await)
}

/// Reads one back.
pub(super) async fn restore(
    state: Data<State>,
    req: HttpRequest,
    name: Path<String>,
) -> HttpResponse {
    respond::answer(restored(&state, &req, &name).await)
}

async fn listed(state: &State, req: &HttpRequest) -> Result<Value, ApiError> {
    let (sessions, model) = of(state, req).await?;
    let caller = state.caller(req);
    let lines = sessions.list(&model).await?;
    let lines: Vec<Value> = lines
        .iter()
        .filter(|line| caller.manage || own(&caller, &line.report.name))
        .map(|found| line(found, &caller))
        .collect();
    Ok(json!({ "object": "list", "model": model.id, "data": lines }))
}

async fn shown(state: &State, req: &HttpRequest, name: &str) -> Result<Value, ApiError> {
    let (sessions, model) = of(state, req).await?;
    let name = named(state, req, "session", name)?;
    show(sessions, &model, &name, &state.caller(req)).await
}

async fn pictured(state: &State, req: &HttpRequest, asked: &str) -> Result<Value, ApiError> {
    let name = asked;
    let (sessions, model) = of(state, req).await?;
    let name = named(state, req, "session", name)?;
    let which = heads(req, model.shape)?;
    let SessionPicture {
        picture,
        tokens,
        live,
    } = sessions.picture(&model, &name, which).await?;
    let texts = pieces(&model.tokenizer, &tokens);
    let scores = picture.scores.as_ref();
    Ok(json!({
        "object": "session.kv",
        "name": asked,
        "model": model.id,
        "live": live,
        "policy": picture.policy,
        "budget": picture.budget,
        "layers": picture.shape.0,
        "kv_heads": picture.shape.1,
        "layer": which.layer,
        "head": which.head,
        "tokens_seen": picture.seen(),
        "tokens_kept": picture.held(),
        "scored_by": scores.map(|(scored, _)| scored.name()),
        "ids": tokens,
        "texts": texts,
        "kept": picture.kept,
        "scores": scores.map(|(_, scores)| scores),
    }))
}

/// The heads that are asked for, of those that the model has.
fn heads(req: &HttpRequest, shape: KvShape) -> Result<HeadChoice, ApiError> {
    let which = Query::<Part>::from_query(req.query_string())
        .map_err(|error| ApiError::bad("layer", format!("or head cannot be read: {error}")))?;
    for (name, asked, count) in [
        ("layer", which.layer, shape.layers),
        ("head", which.head, shape.kv_heads),
    ] {
        if asked.is_some_and(|number| number >= count) {
            return Err(ApiError::bad(name, format!("is not below {count}")));
        }
    }
    Ok(HeadChoice {
        layer: which.layer,
        head: which.head,
    })
}

async fn erased(state: &State, req: &HttpRequest, asked: &str) -> Result<Value, ApiError> {
    let name = asked;
    let (sessions, model) = of(state, req).await?;
    let name = named(state, req, "session", name)?;
    sessions.erase(&model, &name).await?;
    Ok(json!({ "name": asked, "object": "session.deleted", "deleted": true }))
}

async fn forked(
    state: &State,
    req: &HttpRequest,
    name: &str,
    payload: Payload,
) -> Result<Value, ApiError> {
    let name = named(state, req, "session", name)?;
    let mut fields = body::json(req.headers(), payload, state.live().body_limit).await?;
    let to = match fields.string("to")? {
        Some(to) => named(state, req, "to", &to)?,
        None => return Err(ApiError::bad("to", "is missing: name the copy")),
    };
    let (sessions, model) = of(state, req).await?;
    sessions.fork(&model, &name, &to).await?;
    show(sessions, &model, &to, &state.caller(req)).await
}

async fn saved(state: &State, req: &HttpRequest, name: &str) -> Result<Value, ApiError> {
    let (sessions, model) = of(state, req).await?;
    let name = named(state, req, "session", name)?;
    sessions.save(&model, &name).await?;
    show(sessions, &model, &name, &state.caller(req)).await
}

async fn restored(state: &State, req: &HttpRequest, name: &str) -> Result<Value, ApiError> {
    let (sessions, model) = of(state, req).await?;
    let name = named(state, req, "session", name)?;
    sessions.restore(&model, &name).await?;
    show(sessions, &model, &name, &state.caller(req)).await
}

/// The sessions, and the model that was asked for.
async fn of<'a>(state: &'a State, req: &HttpRequest) -> Result<(&'a Sessions, Held), ApiError> {
    let which = Query::<Which>::from_query(req.query_string());
    let which =
        which.map_err(|error| ApiError::bad("model", format!("cannot be read: {error}")))?;
    let model = by_name(state, which.model.as_deref()).await?;
    Ok((state.runtime.sessions(), model))
}

async fn show(
    sessions: &Sessions,
    model: &ServedModel,
    name: &SessionId,
    caller: &Caller,
) -> Result<Value, ApiError> {
    let (found, messages) = sessions.show(model, name).await?;
    let mut shown = line(&found, caller);
    if let Some(shown) = shown.as_object_mut() {
        shown.insert("model".to_owned(), json!(model.id));
        shown.insert("messages".to_owned(), json!(messages));
    }
    Ok(shown)
}

/// The session that a caller means: one of its own, or, for a key that manages, `key.name` of any.
fn named(state: &State, req: &HttpRequest, param: &str, name: &str) -> Result<SessionId, ApiError> {
    let caller = state.caller(req);
    if caller.manage
        && name.contains('.')
        && let Ok(any) = name.parse()
    {
        return Ok(any);
    }
    Ok(session_id(param, name)?.of_key(caller.space.as_deref()))
}

/// Whether a session, by its whole name, is one of the caller's.
fn own(caller: &Caller, name: &str) -> bool {
    name.split_once('.').map(|(key, _)| key) == caller.space.as_deref()
}

/// A session, by the name that the caller has for it.
fn line(line: &SessionLine, caller: &Caller) -> Value {
    let mut value = json!(line);
    if let Some(value) = value.as_object_mut() {
        let name = &line.report.name;
        let shown = match name.split_once('.') {
            Some((_, plain)) if own(caller, name) => plain,
            _ => name,
        };
        value.insert("name".to_owned(), json!(shown));
        value.insert("object".to_owned(), json!("session"));
    }
    value
}
