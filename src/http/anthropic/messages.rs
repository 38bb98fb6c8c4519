//! `POST /v1/messages` and `POST /v1/messages/count_tokens`.

use actix_web::http::StatusCode;
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Value, json};

use super::answer::Blocks;
use super::ask::{Ask, Purpose, rename};
use crate::http::chat::render;
use crate::http::form::thoughts;
use crate::http::generate::{Job, Prepared, by_name, find_model};
use crate::http::serve::State;
use crate::http::trail::Asked;
use crate::http::wire::{ApiError, Dialect, Endpoint};
use crate::http::{body, narration, respond};

/// Answers a talk.
pub(in crate::http) async fn create(
    state: Data<State>,
    req: HttpRequest,
    payload: Payload,
) -> HttpResponse {
    let asked = Asked {
        route: "/v1/messages",
        operation: "chat",
    };
    let mut job = Job::new(&state, &req, asked);
    let prepared = match prepare(&state, &req, payload, &mut job).await {
        Ok(prepared) => prepared,
        Err(error) => return job.refuse(rename(error)),
    };
    let blocks = Blocks {
        id: format!("msg_{}", job.id),
        model: prepared.model.id.to_string(),
        prompt_tokens: prepared.prompts.iter().map(Vec::len).sum(),
        open: None,
        closed: 0,
    };
    narration::answer(&state, job, Endpoint::Chat, prepared, blocks).await
}

/// Counts the tokens of a prompt.
pub(in crate::http) async fn count(
    state: Data<State>,
    req: HttpRequest,
    payload: Payload,
) -> HttpResponse {
    match counted(&state, &req, payload).await {
        Ok(body) => respond::json(StatusCode::OK, &body),
        Err(error) => respond::error_in(Dialect::Anthropic, &rename(error)),
    }
}

async fn prepare(
    state: &State,
    req: &HttpRequest,
    payload: Payload,
    job: &mut Job,
) -> Result<Prepared, ApiError> {
    let fields = body::json(req.headers(), payload, state.live().body_limit).await?;
    let (ask, unknown) = Ask::read(Purpose::Answer, fields)?;
    job.unknown(state, &unknown)?;
    let model = find_model(state, job, ask.shared.model.as_deref()).await?;
    model.keep_for(ask.shared.keep_alive);
    let extra = thoughts(&model, ask.think)?;
    render(state, &job.caller, model, ask.messages, ask.shared, extra).await
}

async fn counted(state: &State, req: &HttpRequest, payload: Payload) -> Result<Value, ApiError> {
    let fields = body::json(req.headers(), payload, state.live().body_limit).await?;
    let (ask, _) = Ask::read(Purpose::Count, fields)?;
    let model = by_name(state, ask.shared.model.as_deref()).await?;
    let extra = thoughts(&model, ask.think)?;
    let prepared = render(
        state,
        state.live().guard.anybody(),
        model,
        ask.messages,
        ask.shared,
        extra,
    )
    .await?;
    let tokens: usize = prepared.prompts.iter().map(Vec::len).sum();
    Ok(json!({ "input_tokens": tokens }))
}
