//! `POST /api/generate` and `POST /api/chat`.

use std::time::{Duration, Instant};

use actix_web::http::StatusCode;
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};

use super::answer::Lines;
use super::ask::{Ask, Route, Said};
use super::name;
use super::options::{Length, rename};
use crate::http::chat::render;
use crate::http::form::thoughts;
use crate::http::generate::{Job, Prepared, begin, find_model, off_thread};
use crate::http::keys::Caller;
use crate::http::logprobs::Teller;
use crate::http::serve::State;
use crate::http::trail::Asked;
use crate::http::wire::{ApiError, Endpoint, Shared};
use crate::http::{body, narration, respond};
use crate::runtime::{BadAsk, Held, KeepAlive};

/// Answers a prompt.
pub(in crate::http) async fn generate(
    state: Data<State>,
    req: HttpRequest,
    payload: Payload,
) -> HttpResponse {
    answer(&state, &req, payload, Route::Generate).await
}

/// Answers a chat.
pub(in crate::http) async fn chat(
    state: Data<State>,
    req: HttpRequest,
    payload: Payload,
) -> HttpResponse {
    answer(&state, &req, payload, Route::Chat).await
}

impl From<Route> for Asked {
    fn from(route: Route) -> Self {
        let (route, operation) = match route {
            Route::Generate => ("/api/generate", "text_completion"),
            Route::Chat => ("/api/chat", "chat"),
        };
        Asked { route, operation }
    }
}

async fn answer(state: &State, req: &HttpRequest, payload: Payload, route: Route) -> HttpResponse {
    let began = Instant::now();
    let mut job = Job::new(state, req, route);
    let read = read(state, req, payload, route, &job).await;
    let ask = match read {
        Ok(ask) => ask,
        Err(error) => return job.refuse(error),
    };
    let mut lines = Lines {
        route,
        model: ask.shared.model.clone().unwrap_or_default(),
        began,
        load: Duration::ZERO,
        teller: None,
        calling: None,
    };
    let outcome = match ask.said {
        Said::Nothing => keep(state, &ask, &mut lines, &mut job).await,
        Said::Chat(_) | Said::Raw(_) => {
            let endpoint = match ask.said {
                Said::Raw(_) => Endpoint::Completion,
                Said::Chat(_) | Said::Nothing => Endpoint::Chat,
            };
            match prepare(state, ask, &mut lines, &mut job).await {
                Ok(prepared) => {
                    return narration::answer(state, job, endpoint, prepared, lines).await;
                }
                Err(error) => Err(error),
            }
        }
    };
    outcome.unwrap_or_else(|error| job.refuse(named(route, error)))
}

async fn read(
    state: &State,
    req: &HttpRequest,
    payload: Payload,
    route: Route,
    job: &Job,
) -> Result<Ask, ApiError> {
    let fields = body::json_of_any_type(req.headers(), payload, state.live().body_limit).await?;
    let (ask, unknown) = Ask::read(route, fields)?;
    job.unknown(state, &unknown)?;
    Ok(ask)
}

/// The error with names that a client of the route knows.
pub(super) fn named(route: Route, error: ApiError) -> ApiError {
    let error = match route {
        Route::Generate => error,
        Route::Chat => Endpoint::Chat.rename(error),
    };
    rename(error)
}

/// Loads a model that is asked nothing, or lets go of it when it is to be kept for no time.
async fn keep(
    state: &State,
    ask: &Ask,
    lines: &mut Lines,
    job: &mut Job,
) -> Result<HttpResponse, ApiError> {
    let keep_alive = ask.shared.keep_alive;
    let reason = match (keep_alive, &ask.shared.model) {
        (Some(KeepAlive::For(Duration::ZERO)), Some(model)) => {
            job.trail.model(model);
            state.runtime.unload(name::id(model)?).await?;
            "unload"
        }
        _ => {
            let model = find(state, ask, lines, job).await?;
            model.keep_for(keep_alive);
            "load"
        }
    };
    job.trail.answered();
    let body = lines.nothing(reason);
    Ok(match ask.shared.stream {
        true => respond::lines(futures_util::stream::iter([respond::line(&body)])),
        false => respond::json(StatusCode::OK, &body),
    })
}

async fn find(
    state: &State,
    ask: &Ask,
    lines: &mut Lines,
    job: &mut Job,
) -> Result<Held, ApiError> {
    let model = find_model(state, job, ask.shared.model.as_deref()).await?;
    if lines.model.is_empty() {
        lines.model = model.id.to_string();
    }
    lines.load = lines.began.elapsed();
    Ok(model)
}

async fn prepare(
    state: &State,
    ask: Ask,
    lines: &mut Lines,
    job: &mut Job,
) -> Result<Prepared, ApiError> {
    let model = find(state, &ask, lines, job).await?;
    let Ask {
        said,
        options,
        think,
        shared,
    } = ask;
    model.keep_for(shared.keep_alive);
    if let Some(context) = options.context.filter(|&tokens| tokens > model.context) {
        let reason = format!(
            "is {context} and the context of {} holds {}: ask for less, or set model.context",
            model.id, model.context
        );
        return Err(ApiError::bad("options.num_ctx", reason));
    }
    let mut prepared = match said {
        Said::Chat(messages) => {
            let extra = thoughts(&model, think)?;
            render(state, &job.caller, model, messages, shared, extra).await?
        }
        Said::Raw(text) => raw(state, &job.caller, model, text, shared).await?,
        // Answered by `keep`.
        Said::Nothing => return Err(ApiError::bad("prompt", "is missing")),
    };
    let (model, shared) = (&prepared.model, &mut prepared.shared);
    let tokens: usize = prepared.prompts.iter().map(Vec::len).sum();
    let room = match options.context {
        None => None,
        Some(context) if tokens < context => Some(context - tokens),
        Some(context) => {
            let too_long = BadAsk::TooLong {
                model: model.id.to_string(),
                prompt_tokens: tokens,
                context,
            };
            return Err(too_long.into());
        }
    };
    let wanted = match options.length {
        Some(Length::Tokens(tokens)) => Some(tokens),
        Some(Length::Context) => Some(model.context),
        None => state
            .live()
            .sampling
            .max_tokens
            .map(|tokens| tokens as usize),
    };
    shared.max_tokens = match (wanted, room) {
        (Some(wanted), Some(room)) => Some(wanted.min(room)),
        (wanted, room) => wanted.or(room),
    };
    let told = shared.sampling.logprobs.is_some();
    lines.teller = told.then(|| Teller::new(&model.tokenizer, Endpoint::Chat));
    Ok(prepared)
}

/// A text as it is, as ids.
async fn raw(
    state: &State,
    caller: &Caller,
    model: Held,
    text: String,
    shared: Shared,
) -> Result<Prepared, ApiError> {
    let draft = begin(state, caller, &model, shared.session.as_ref())?;
    let served = model.clone();
    let encoding = move || {
        let ids = served.text(draft.as_ref(), &text);
        (ids, draft)
    };
    let (ids, draft) = off_thread(encoding).await?;
    Ok(Prepared {
        model,
        prompts: vec![ids?],
        system_tokens: 0,
        draft,
        shared,
    })
}
