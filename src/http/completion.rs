//! `POST /v1/completions`.

use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};

use super::body;
use super::generate::{Job, Prepared, answer, begin, find_model, off_thread};
use super::serve::State;
use super::wire::{ApiError, CompletionAsk, Endpoint, Prompt};
use crate::ids::TokenId;
use crate::runtime::{BadTurn, Draft, ServedModel};

/// Goes on with texts.
pub(super) async fn complete(
    state: Data<State>,
    req: HttpRequest,
    payload: Payload,
) -> HttpResponse {
    let mut job = Job::new(&state, &req, Endpoint::Completion);
    match prepare(&state, &req, payload, &mut job).await {
        Ok(prepared) => answer(&state, job, Endpoint::Completion, prepared).await,
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
    let (ask, unknown) = CompletionAsk::read(fields)?;
    job.log_unknown(&unknown);
    let model = find_model(state, job, ask.shared.model.as_deref()).await?;
    let draft = begin(state, &model, ask.shared.session.as_ref())?;
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

fn encode(
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
