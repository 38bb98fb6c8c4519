//! `POST /v1/chat/completions`.

use std::time::SystemTime;

use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Map, Value};

use super::body;
use super::form::present;
use super::generate::{Job, Prepared, answer, begin, find_model, off_thread};
use super::keys::Caller;
use super::remote::{Sent, send_on};
use super::serve::State;
use super::wire::{ApiError, ChatAsk, Endpoint, Fields, Shared};
use crate::runtime::Held;
use crate::text::{Message, RenderOptions};

/// Answers a chat.
pub(super) async fn complete(
    state: Data<State>,
    req: HttpRequest,
    payload: Payload,
) -> HttpResponse {
    let job = Job::new(&state, &req, Endpoint::Chat);
    let fields = match body::json(req.headers(), payload, state.live().body_limit).await {
        Ok(fields) => fields,
        Err(error) => return job.refuse(error),
    };
    let (fields, mut job) = match send_on(&state, &req, Endpoint::Chat, fields, job).await {
        Sent::Here(fields, job) => (fields, *job),
        Sent::There(response) => return response,
    };
    match prepare(&state, fields, &mut job).await {
        Ok(prepared) => answer(&state, job, Endpoint::Chat, prepared).await,
        Err(error) => job.refuse(error),
    }
}

async fn prepare(state: &State, fields: Fields, job: &mut Job) -> Result<Prepared, ApiError> {
    let (ask, unknown) = ChatAsk::read(fields)?;
    job.unknown(state, &unknown)?;
    let model = find_model(state, job, ask.shared.model.as_deref()).await?;
    model.keep_for(ask.shared.keep_alive);
    let messages = ask.messages;
    let rendered = render(state, &job.caller, model, messages, ask.shared, ask.told).await;
    rendered.map_err(|error| Endpoint::Chat.rename(error))
}

/// A chat as ids. `extra` is told to the template.
pub(super) async fn render(
    state: &State,
    caller: &Caller,
    model: Held,
    messages: Vec<Message>,
    shared: Shared,
    extra: Map<String, Value>,
) -> Result<Prepared, ApiError> {
    let mut options = RenderOptions {
        now: Some(SystemTime::now()),
        extra,
        ..RenderOptions::default()
    };
    let mut draft = begin(state, caller, &model, shared.session.as_ref())?;
    let served = model.clone();
    let begun = draft.as_ref().is_some_and(|draft| !draft.is_new());
    let shown = present(&model, &shared, messages, begun);
    let rendering = move || {
        options.tools = shown.tools;
        let fed = served.chat(draft.as_mut(), shown.messages, &options);
        (fed, draft)
    };
    let (fed, draft) = off_thread(rendering).await?;
    let fed = fed?;
    Ok(Prepared {
        model,
        prompts: vec![fed.ids],
        system_tokens: fed.system_tokens,
        draft,
        shared,
    })
}
