//! `POST /api/embed`, and `/api/embeddings` as it was before.

use std::time::Instant;

use actix_web::http::StatusCode;
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Value, json};

use super::name;
use crate::http::embeddings::{Wanted, asked, vectors};
use crate::http::generate::{Job, find_model};
use crate::http::serve::State;
use crate::http::wire::common::keep_alive;
use crate::http::wire::{ApiError, Fields, Prompt, inputs};
use crate::http::{body, respond};
use crate::runtime::Pooling;

/// Vectors of one text or several, of length 1.
pub(in crate::http) async fn embed(
    state: Data<State>,
    req: HttpRequest,
    payload: Payload,
) -> HttpResponse {
    let mut job = Job::new(&state, &req, asked("/api/embed"));
    match several(&state, &req, payload, &mut job).await {
        Ok(body) => respond::json(StatusCode::OK, &body),
        Err(error) => job.refuse(error),
    }
}

/// The vector of `prompt`, as it is.
pub(in crate::http) async fn embed_one(
    state: Data<State>,
    req: HttpRequest,
    payload: Payload,
) -> HttpResponse {
    let mut job = Job::new(&state, &req, asked("/api/embeddings"));
    match one(&state, &req, payload, &mut job).await {
        Ok(body) => respond::json(StatusCode::OK, &body),
        Err(error) => job.refuse(error),
    }
}

async fn several(
    state: &State,
    req: &HttpRequest,
    payload: Payload,
    job: &mut Job,
) -> Result<Value, ApiError> {
    let began = Instant::now();
    let mut fields =
        body::json_of_any_type(req.headers(), payload, state.live().body_limit).await?;
    let inputs = inputs(&mut fields)?;
    let cut = "nothing is cut in silence: a text that does not fit is refused";
    fields.refuse("truncate", cut, |value| value == &Value::Bool(false))?;
    let asked = Asked::read(state, job, fields)?;
    let model = find_model(state, job, asked.model.as_deref()).await?;
    model.keep_for(asked.keep_alive);
    let load = began.elapsed();
    let wanted = Wanted {
        pooling: Pooling::Mean,
        normalize: true,
        dimensions: asked.dimensions,
    };
    let (vectors, tokens) = vectors(state, job, &model, inputs, wanted).await?;
    Ok(json!({
        "model": asked.model.as_deref().unwrap_or(model.id.as_str()),
        "embeddings": vectors,
        "total_duration": began.elapsed().as_nanos() as u64,
        "load_duration": load.as_nanos() as u64,
        "prompt_eval_count": tokens,
    }))
}

async fn one(
    state: &State,
    req: &HttpRequest,
    payload: Payload,
    job: &mut Job,
) -> Result<Value, ApiError> {
    let mut fields =
        body::json_of_any_type(req.headers(), payload, state.live().body_limit).await?;
    let text = fields.string("prompt")?;
    let text = text.ok_or_else(|| ApiError::bad("prompt", "is missing"))?;
    let asked = Asked::read(state, job, fields)?;
    let model = find_model(state, job, asked.model.as_deref()).await?;
    model.keep_for(asked.keep_alive);
    let wanted = Wanted {
        pooling: Pooling::Mean,
        normalize: false,
        dimensions: asked.dimensions,
    };
    let inputs = vec![Prompt::Text(text)];
    let told = vectors(state, job, &model, inputs, wanted).await;
    let (vectors, _) = told.map_err(|error| match error.param.as_deref() {
        Some("input") => error.about("prompt"),
        _ => error,
    })?;
    Ok(json!({ "embedding": vectors.first() }))
}

/// What both read alike.
struct Asked {
    model: Option<String>,
    dimensions: Option<usize>,
    keep_alive: Option<crate::runtime::KeepAlive>,
}

impl Asked {
    fn read(state: &State, job: &Job, mut fields: Fields) -> Result<Self, ApiError> {
        let asked = Asked {
            model: name::of(&mut fields)?,
            dimensions: fields.count("dimensions")?,
            keep_alive: keep_alive(&mut fields)?,
        };
        let hint = "nothing is drawn, and a model is loaded as its operator says: leave it out";
        fields.refuse("options", hint, |value| {
            value.as_object().is_some_and(|map| map.is_empty())
        })?;
        job.unknown(state, &fields.left())?;
        Ok(asked)
    }
}
