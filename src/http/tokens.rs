//! Text to ids and back, as the models see it.

use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Value, json};

use super::generate::{by_name, off_thread};
use super::serve::State;
use super::wire::{ApiError, Fields};
use super::{body, respond};
use crate::text::Controls;

/// `{"prompt" or "content": text}` to `{"tokens": ids, "count": n}`: what `/v1/completions` would make of it.
pub(super) async fn tokenize(
    state: Data<State>,
    req: HttpRequest,
    payload: Payload,
) -> HttpResponse {
    respond::answer(encode(&state, &req, payload).await)
}

/// `{"tokens": ids}` to their text, under the names `prompt` and `content`.
pub(super) async fn detokenize(
    state: Data<State>,
    req: HttpRequest,
    payload: Payload,
) -> HttpResponse {
    respond::answer(decode(&state, &req, payload).await)
}

async fn read(state: &State, req: &HttpRequest, payload: Payload) -> Result<Fields, ApiError> {
    body::json(req.headers(), payload, state.live().body_limit).await
}

async fn encode(state: &State, req: &HttpRequest, payload: Payload) -> Result<Value, ApiError> {
    let mut fields = read(state, req, payload).await?;
    let model = by_name(state, fields.string("model")?.as_deref()).await?;
    let text = match (fields.string("prompt")?, fields.string("content")?) {
        (Some(text), _) | (None, Some(text)) => text,
        (None, None) => return Err(ApiError::bad("prompt", "is missing")),
    };
    let max = model.context;
    let tokens = off_thread(move || model.tokenizer.encode_prompt(&text)).await??;
    Ok(json!({ "count": tokens.len(), "max_model_len": max, "tokens": tokens }))
}

async fn decode(state: &State, req: &HttpRequest, payload: Payload) -> Result<Value, ApiError> {
    let mut fields = read(state, req, payload).await?;
    let model = by_name(state, fields.string("model")?.as_deref()).await?;
    let Some(tokens) = fields.ids("tokens")? else {
        return Err(ApiError::bad("tokens", "is missing"));
    };
    let size = model.tokenizer.vocab_size();
    if let Some(token) = tokens.iter().find(|&&token| token as usize >= size) {
        return Err(ApiError::bad(
            "tokens",
            format!("holds {token}, ids are below {size}"),
        ));
    }
    let text = model.tokenizer.decode(&tokens, Controls::Keep);
    Ok(json!({ "prompt": text, "content": text }))
}
