//! `POST /v1/responses`, and what is kept of it under `/v1/responses/{id}`.

use std::time::SystemTime;

use actix_web::web::{Data, Path, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Map, json};

use super::answer::{Items, forget};
use super::ask::{Ask, rename};
use super::kept::{MOST, Response};
use crate::http::chat::render;
use crate::http::generate::{Job, Prepared, find_model};
use crate::http::models::unix_seconds;
use crate::http::serve::State;
use crate::http::trail::Asked;
use crate::http::wire::{ApiError, Endpoint};
use crate::http::{body, narration, respond};
use crate::ids::SessionId;
use crate::runtime::Held;

/// Answers, and keeps what others may go on from.
pub(in crate::http) async fn create(
    state: Data<State>,
    req: HttpRequest,
    payload: Payload,
) -> HttpResponse {
    let asked = Asked {
        route: "/v1/responses",
        operation: "chat",
    };
    let mut job = Job::new(&state, &req, asked);
    match prepare(&state, &req, payload, &mut job).await {
        Ok((items, prepared)) => {
            narration::answer(&state, job, Endpoint::Chat, prepared, items).await
        }
        Err(error) => job.refuse(rename(error)),
    }
}

/// One that is kept.
pub(in crate::http) async fn show(
    state: Data<State>,
    req: HttpRequest,
    id: Path<String>,
) -> HttpResponse {
    let found = state.responses.get(&id, &state.caller(&req).name);
    respond::answer(
        found
            .map(|response| response.body)
            .ok_or_else(|| unknown(&id)),
    )
}

/// Forgets one that is kept, its session too.
pub(in crate::http) async fn erase(
    state: Data<State>,
    req: HttpRequest,
    id: Path<String>,
) -> HttpResponse {
    let Some(response) = state.responses.take(&id, &state.caller(&req).name) else {
        return respond::error(&unknown(&id));
    };
    forget(&state, response);
    respond::answer(Ok(
        json!({"id": id.as_str(), "object": "response", "deleted": true}),
    ))
}

fn unknown(id: &str) -> ApiError {
    let shown: String = id.chars().take(96).collect();
    let text = format!(
        "there is no response {shown:?}: the newest {MOST} that were stored are kept, until the server ends"
    );
    ApiError::new(404, "response_not_found", text).about("previous_response_id")
}

async fn prepare(
    state: &Data<State>,
    req: &HttpRequest,
    payload: Payload,
    job: &mut Job,
) -> Result<(Items, Prepared), ApiError> {
    let fields = body::json(req.headers(), payload, state.live().body_limit).await?;
    let (mut ask, unread) = Ask::read(fields)?;
    job.unknown(state, &unread)?;
    let before = match &ask.previous {
        None => None,
        Some(id) => {
            let found = state.responses.get(id, &job.caller.name);
            Some(found.ok_or_else(|| unknown(id))?)
        }
    };
    if let Some(before) = &before {
        goes_on(&mut ask, before)?;
    }
    let model = find_model(state, job, ask.shared.model.as_deref()).await?;
    model.keep_for(ask.shared.keep_alive);
    let id = format!("resp_{}{:016x}", job.id, rand::random::<u64>());
    let session: Option<SessionId> = match ask.store {
        true => id.parse().ok(),
        false => None,
    };
    let space = job.caller.space.as_deref();
    let session = session.map(|session| session.of_key(space));
    let messages = match &before {
        None => ask.opening(),
        Some(_) => ask.messages.clone(),
    };
    let items = Items {
        state: Data::clone(state),
        model: model.clone(),
        id,
        created: unix_seconds(SystemTime::now()),
        who: job.caller.name.clone(),
        instructions: ask.instructions,
        told: ask.told,
        session: session.clone(),
        output: Vec::new(),
        open: None,
        events: 0,
    };
    if let (Some(before), Some(session)) = (&before, &session) {
        copy(state, &model, before, session).await?;
    }
    ask.shared.session = session;
    let prepared = render(state, &job.caller, model, messages, ask.shared, Map::new()).await?;
    Ok((items, prepared))
}

/// Checks that a request can go on from a response, and takes over what it leaves out.
fn goes_on(ask: &mut Ask, before: &Response) -> Result<(), ApiError> {
    let model = ask.shared.model.get_or_insert_with(|| before.model.clone());
    if *model != before.model {
        let reason = format!(
            "is of {}, and its cache is of no use to {model}",
            before.model
        );
        return Err(ApiError::bad("previous_response_id", reason));
    }
    match &ask.instructions {
        None => {
            ask.instructions.clone_from(&before.instructions);
            ask.told
                .insert("instructions".to_owned(), json!(before.instructions));
            Ok(())
        }
        same if *same == before.instructions => Ok(()),
        Some(_) => {
            let reason = "are not those that the talk began with, which its cache holds: leave them out, or begin anew";
            Err(ApiError::bad("instructions", reason))
        }
    }
}

async fn copy(
    state: &State,
    model: &Held,
    before: &Response,
    to: &SessionId,
) -> Result<(), ApiError> {
    let copied = state
        .runtime
        .sessions()
        .fork(model, &before.session, to)
        .await;
    Ok(copied?)
}
