//! `POST /v1/embeddings`: texts as vectors, the pooled hidden states of a model. Any model has them; one that was trained
//! to embed has better ones.

use actix_web::http::StatusCode;
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use serde_json::{Value, json};

use super::body;
use super::completion::encode;
use super::generate::{Job, find_model, off_thread};
use super::respond;
use super::serve::State;
use super::trail::Asked;
use super::wire::{ApiError, EmbeddingAsk, Encoding, Prompt};
use crate::ids::TokenId;
use crate::kv::{KvChoice, PolicyKind};
use crate::runtime::{Ask, Finish, Held, Pooling};
use crate::sample::{SamplingParams, StopMatcher};
use crate::sched::{OfPrompt, Standing};

/// Texts of one request that are computed at once: more would fill the queue that others wait in.
const AT_ONCE: usize = 4;

/// What traces and records name it.
pub(super) fn asked(route: &'static str) -> Asked {
    Asked {
        route,
        operation: "embeddings",
    }
}

/// Answers with vectors.
pub(super) async fn embed(state: Data<State>, req: HttpRequest, payload: Payload) -> HttpResponse {
    let mut job = Job::new(&state, &req, asked("/v1/embeddings"));
    match answer(&state, &req, payload, &mut job).await {
        Ok(body) => respond::json(StatusCode::OK, &body),
        Err(error) => job.refuse(error),
    }
}

async fn answer(
    state: &State,
    req: &HttpRequest,
    payload: Payload,
    job: &mut Job,
) -> Result<Value, ApiError> {
    let fields = body::json(req.headers(), payload, state.live().body_limit).await?;
    let (ask, unknown) = EmbeddingAsk::read(fields)?;
    job.unknown(state, &unknown)?;
    let model = find_model(state, job, ask.model.as_deref()).await?;
    let wanted = Wanted {
        pooling: ask.pooling,
        normalize: ask.normalize,
        dimensions: ask.dimensions,
    };
    let (vectors, tokens) = vectors(state, job, &model, ask.inputs, wanted).await?;
    let written = |vector: &Vec<f32>| match ask.encoding {
        Encoding::Float => json!(vector),
        Encoding::Base64 => {
            let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
            json!(STANDARD.encode(bytes))
        }
    };
    let data: Vec<Value> = vectors
        .iter()
        .enumerate()
        .map(|(index, vector)| {
            json!({"object": "embedding", "index": index, "embedding": written(vector)})
        })
        .collect();
    Ok(json!({
        "object": "list",
        "data": data,
        "model": model.id.as_str(),
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }))
}

/// What vectors are to be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) pooling: Pooling,
    /// Of length 1.
    pub(super) normalize: bool,
    /// So many numbers; refused unless that is what the model has.
    pub(super) dimensions: Option<usize>,
}

/// The vectors of texts, in their order, and how many tokens those have.
pub(super) async fn vectors(
    state: &State,
    job: &mut Job,
    model: &Held,
    inputs: Vec<Prompt>,
    wanted: Wanted,
) -> Result<(Vec<Vec<f32>>, usize), ApiError> {
    let served = model.clone();
    let encoding = move || encode(&served, None, inputs);
    let prompts = off_thread(encoding).await??;
    let tokens = prompts.iter().map(Vec::len).sum();
    job.trail.prompt(tokens);
    job.trail.charge_prompt();
    let all = prompts
        .into_iter()
        .map(|prompt| one(state, job, model, prompt, wanted.pooling));
    let told = stream::iter(all).buffered(AT_ONCE).try_collect();
    let told = tokio::time::timeout_at(job.deadline.into(), told);
    let told: Vec<(Vec<f32>, Finish)> = told.await.map_err(|_| ApiError::timeout())??;
    let mut vectors = Vec::with_capacity(told.len());
    for (mut vector, finish) in told {
        if let Some(asked) = wanted.dimensions.filter(|&asked| asked != vector.len()) {
            let reason = format!(
                "is {asked}, and vectors of {} have {}: leave it out",
                model.id,
                vector.len()
            );
            return Err(ApiError::bad("dimensions", reason));
        }
        if wanted.normalize {
            normalize(&mut vector);
        }
        job.trail.finished(true, &finish);
        vectors.push(vector);
    }
    job.trail.answered();
    Ok((vectors, tokens))
}

async fn one(
    state: &State,
    job: &Job,
    model: &Held,
    prompt: Vec<TokenId>,
    pooling: Pooling,
) -> Result<(Vec<f32>, Finish), ApiError> {
    let ask = Ask {
        id: job.id.clone(),
        prompt,
        max_tokens: Some(0),
        ignore_eos: false,
        sampling: SamplingParams::default(),
        // A vector is of the whole text, whatever else the cache is bounded to.
        kv: KvChoice {
            policy: Some(PolicyKind::Full),
            ..KvChoice::default()
        },
        system_tokens: 0,
        tenant: job.caller.tenant.clone(),
        session: None,
        standing: Standing {
            key: job.caller.name.clone(),
            ..Standing::default()
        },
        of_prompt: OfPrompt::States,
    };
    let request = model.request(ask).map_err(|error| {
        let error = ApiError::from(error);
        match error.param.as_deref() {
            Some("prompt") => error.about("input"),
            _ => error,
        }
    })?;
    let stop = StopMatcher::new(Vec::new())?;
    let answer = state.runtime.generate(model, request, stop).await?;
    Ok(answer.embed(pooling).await?)
}

/// To length 1; a vector of zeros stays as it is.
fn normalize(vector: &mut [f32]) {
    let norm = vector
        .iter()
        .map(|&x| f64::from(x).powi(2))
        .sum::<f64>()
        .sqrt();
    if norm > 0.0 {
        for x in vector {
            *x = (f64::from(*x) / norm) as f32;
        }
    }
}
