//! `POST /v1/chat/completions`.

use std::time::SystemTime;

use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};

use super::body;
use super::generate::{Job, Prepared, answer, find_model, off_thread};
use super::serve::State;
use super::wire::{ApiError, ChatAsk, Endpoint};
use crate::text::RenderOptions;

/// Answers a chat.
pub(super) async fn complete(
    state: Data<State>,
    req: HttpRequest,
    payload: Payload,
) -> HttpResponse {
    let mut job = Job::new(&state, &req, Endpoint::Chat);
    match prepare(&state, &req, payload, &mut job).await {
        Ok(prepared) => answer(&state, job, Endpoint::Chat, prepared).await,
        Err(error) => job.refuse(error),
    }
}

async fn prepare(
    state: &State,
    req: &HttpRequest,
    payload: Payload,
    job: &mut Job,
) -> Result<Prepared, ApiError> {
    let fields = body::json(req.headers(), payload, state.body_limit).await?;
    let (ask, unknown) = ChatAsk::read(fields)?;
    job.log_unknown(&unknown);
    let model = find_model(state, job, ask.shared.model.as_deref()).await?;
    let options = RenderOptions {
        now: Some(SystemTime::now()),
        ..RenderOptions::default()
    };
    let (served, messages) = (model.clone(), ask.messages);
    let rendering = move || {
        served
            .template
            .render_ids(&served.tokenizer, &messages, &options)
    };
    let prompt = off_thread(rendering).await?;
    let prompt = prompt.map_err(|error| ApiError::from(error).about("messages"))?;
    Ok(Prepared {
        model,
        prompts: vec![prompt],
        shared: ask.shared,
    })
}
