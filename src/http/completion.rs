//! `POST /v1/completions`.

use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};

use super::body;
use super::generate::{Job, Prepared, answer, begin, find_model, off_thread};
use super::remote::{Sent, send_on};
use super::serve::State;
use super::wire::{ApiError, CompletionAsk, Endpoint, Fields, Prompt};
use crate::ids::TokenId;
use crate::runtime::{BadTurn, Draft, ServedModel};

/// Goes on with texts.
pub(super) async fn complete(
    state: Data<State>,
    req: HttpRequest,
    payload: Payload,
) -> HttpResponse {
    let job = Job::new(&state, &req, Endpoint::Completion);
    let fields = match body::json(req.headers(), payload, state.live().body_limit).await {
        Ok(fields) => fields,
        Err(error) => return job.refuse(error),
    };
    let (fields, mut job) = match send_on(&state, &req, Endpoint::Completion, fields, job).await {
        Sent::Here(fields, job) => (fields, *job),
        Sent::There(response) => return response,
    };
    match prepare(&state, fields, &mut job).await {
        Ok(prepared) => answer(&state, job, Endpoint::Completion, prepared).await,
        Err(error) => job.refuse(error),
    }
}

async fn prepare(state: &State, fields: Fields, job: &mut Job) -> Result<Prepared, ApiError> {
    let (ask, unknown) = CompletionAsk::read(fields)?;
    job.unknown(state, &unknown)?;
    let model = find_model(state, job, ask.shared.model.as_deref()).await?;
    model.keep_for(ask.shared.keep_alive);
    let draft = begin(state, &job.caller, &model, ask.shared.session.as_ref())?;
    let (served, prompts) = (model.clone(), ask.prompts);
    let encoding = move || {
        let prompts = encode(&served, draft.as_ref(), prompts);
        (prompts, draft)
    };
    let (prompts, draft) = off_thread(encoding).await?;
    Ok(Prepared {
        model,
        prompts: prompts?,
        system_tokens: 0,
        draft,
        shared: ask.shared,
    })
}

/// Ids of texts.
pub(super) fn encode(
    model: &ServedModel,
    draft: Option<&Draft>,
    prompts: Vec<Prompt>,
) -> Result<Vec<Vec<TokenId>>, BadTurn> {
    let encode = |prompt| match prompt {
        Prompt::Text(text) => model.text(draft, &text),
        Prompt::Ids(ids) => draft.map_or(Ok(()), Draft::as_text).map(|()| ids),
    };
    prompts.into_iter().map(encode).collect()
}
