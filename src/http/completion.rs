//! `POST /v1/completions`.

use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};

use super::body;
use super::generate::{Job, Prepared, answer, find_model, off_thread};
use super::serve::State;
use super::wire::{ApiError, CompletionAsk, Endpoint, Prompt};
use crate::ids::TokenId;
use crate::text::{TextError, Tokenizer};

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
    let (tokenizer, prompts) = (model.tokenizer.clone(), ask.prompts);
    let prompts = off_thread(move || encode(&tokenizer, prompts)).await?;
    let prompts = prompts.map_err(|error| ApiError::from(error).about("prompt"))?;
    Ok(Prepared {
        model,
        prompts,
        shared: ask.shared,
    })
}

fn encode(tokenizer: &Tokenizer, prompts: Vec<Prompt>) -> Result<Vec<Vec<TokenId>>, TextError> {
    let encode = |prompt| match prompt {
        Prompt::Text(text) => tokenizer.encode_prompt(&text),
        Prompt::Ids(ids) => Ok(ids),
    };
    prompts.into_iter().map(encode).collect()
}
