//! Sending a request on, and its answer back.

use std::convert::Infallible;
use std::time::Instant;

use actix_web::http::header::{self, HeaderName};
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use futures_util::stream::{self, LocalBoxStream};
use futures_util::{StreamExt, TryStreamExt};
use reqwest::Method;
use serde_json::Value;

use super::group::{Group, Target, Wanted};
use super::health::reason;
use super::replica::{Remote, Taken};
use crate::http::generate::Job;
use crate::http::serve::State;
use crate::http::wire::{ApiError, Endpoint, Fields};
use crate::ids::ModelId;
use crate::telemetry::Place;

/// Says that a request was sent on by another llamahome. It is not sent on again: two that name each other would send it
/// to and fro for ever.
const SENT_ON: HeaderName = HeaderName::from_static("x-llamahome-sent-on");
/// The largest answer that is taken whole.
const LARGEST: usize = 64 << 20;

/// What became of a request.
pub(in crate::http) enum Sent {
    /// It is for this process.
    Here(Fields, Box<Job>),
    /// It was answered by another, or could not be.
    There(HttpResponse),
}

/// Sends a request on if its model has replicas elsewhere and it is their turn.
pub(in crate::http) async fn send_on(
    state: &State,
    req: &HttpRequest,
    endpoint: Endpoint,
    fields: Fields,
    mut job: Job,
) -> Sent {
    let name = fields.text("model");
    let name = name.unwrap_or(&state.runtime.config().default_model);
    let group = name.parse::<ModelId>().ok();
    let group = group.and_then(|id| Some((state.remotes.group(&id)?, id)));
    let Some((group, id)) = group else {
        return Sent::Here(fields, Box::new(job));
    };
    if req.headers().contains_key(&SENT_ON) {
        return Sent::Here(fields, Box::new(job));
    }
    job.trail.model(id.as_str());
    if state.runtime.draining() {
        return Sent::There(job.refuse(ApiError::stopping()));
    }
    let mut body = fields.whole();
    let wanted = Wanted::of(&body, |session| {
        state.runtime.sessions().is_here(&id, session)
    });
    let mut failed = Vec::new();
    loop {
        let here = state.runtime.load_of(&id);
        let (place, remote) = match group.choose(&wanted, here, &failed) {
            Ok(Target::Here) => return Sent::Here(fields, Box::new(job)),
            Ok(Target::There(place, remote)) => (place, remote),
            Err(error) => return Sent::There(job.refuse(error)),
        };
        if let Some(body) = body.as_object_mut() {
            body.insert("model".to_owned(), Value::from(remote.model.as_str()));
        }
        let metrics = state.runtime.metrics();
        metrics.routed(group.kind.name(), Place::Remote);
        let taken = remote.take(wanted.prompt.len());
        match ask(endpoint, &remote, &body, &job).await {
            Ok(answer) => return Sent::There(answered(answer, taken, job).await),
            // The client's time is over, which says nothing about the replica.
            Err(_) if Instant::now() >= job.deadline => {
                return Sent::There(job.refuse(ApiError::timeout()));
            }
            Err(error) => {
                let text = reason(&error);
                remote.found(Some(text.clone()));
                if !error.is_connect() {
                    // It may have begun, so it is not done twice.
                    return Sent::There(job.refuse(broken(&remote, &text)));
                }
                forget(group, &wanted);
                failed.push(place);
            }
        }
    }
}

/// A session that could not begin at a replica may begin at another one.
fn forget(group: &Group, wanted: &Wanted) {
    if let Some(session) = &wanted.session {
        group.forget(session);
    }
}

async fn ask(
    endpoint: Endpoint,
    remote: &Remote,
    body: &Value,
    job: &Job,
) -> Result<reqwest::Response, reqwest::Error> {
    // The base has the version already.
    let path = endpoint.route().trim_start_matches("/v1");
    let left = job.deadline.saturating_duration_since(Instant::now());
    let asked = remote
        .request(Method::POST, path)
        .timeout(left)
        .header("content-type", "application/json")
        .header("x-request-id", job.id.as_str())
        .header(SENT_ON.as_str(), "1")
        .body(body.to_string());
    asked.send().await
}

fn broken(remote: &Remote, reason: &str) -> ApiError {
    tracing::warn!(url = remote.url, reason, "a replica broke off");
    let text = "the replica that was answering broke off: try again, another one may answer";
    ApiError::new(502, "replica_broke_off", text)
}

async fn answered(answer: reqwest::Response, mut taken: Taken, mut job: Job) -> HttpResponse {
    let status = answer.status().as_u16();
    if matches!(status, 401 | 403) {
        // Its key is this server's affair and not the client's.
        let reason = "it refuses the key: check key_env or key_file of its entry";
        taken.remote().found(Some(reason.to_owned()));
        let text = "the replica refuses this server's key: tell whoever runs the server";
        return job.refuse(ApiError::new(502, "replica_refused", text));
    }
    let mut response = HttpResponseBuilder::new(
        actix_web::http::StatusCode::from_u16(status)
            .unwrap_or(actix_web::http::StatusCode::BAD_GATEWAY),
    );
    let text = |name: &str| {
        let value = answer.headers().get(name)?;
        value.to_str().ok().map(str::to_owned)
    };
    let kind = text("content-type").unwrap_or_else(|| "application/json".to_owned());
    if let Some(wait) = text("retry-after") {
        response.insert_header((header::RETRY_AFTER, wait));
    }
    response.insert_header((header::CONTENT_TYPE, kind.as_str()));
    taken.begins();
    if kind.starts_with("text/event-stream") {
        response
            .insert_header((header::CACHE_CONTROL, "no-cache"))
            .insert_header(("x-accel-buffering", "no"));
        return response.streaming(pieces(answer, taken, job));
    }
    match whole(answer).await {
        Ok(body) => {
            note(&mut job, status, &body);
            response.body(body)
        }
        Err(_) if Instant::now() >= job.deadline => job.refuse(ApiError::timeout()),
        Err(text) => {
            let error = broken(taken.remote(), &text);
            job.refuse(error)
        }
    }
}

async fn whole(answer: reqwest::Response) -> Result<Bytes, String> {
    let mut body = Vec::new();
    let mut chunks = answer.bytes_stream();
    while let Some(chunk) = chunks.try_next().await.map_err(|error| reason(&error))? {
        if body.len() + chunk.len() > LARGEST {
            return Err(format!("its answer is larger than {LARGEST} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Bytes::from(body))
}

/// Writes what an answer says of itself into the record.
fn note(job: &mut Job, status: u16, body: &[u8]) {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let count = |name: &str| {
        let count = body.pointer(&format!("/usage/{name}"));
        let count = count.and_then(Value::as_u64).unwrap_or_default();
        usize::try_from(count).unwrap_or_default()
    };
    job.trail.prompt(count("prompt_tokens"));
    job.trail.generated(count("completion_tokens"));
    match status {
        200..=299 => job.trail.answered(),
        _ => job
            .trail
            .ended(&ApiError::new(status, "replica_refused", String::new())),
    }
}

/// A stream that is passed through. Dropped when the client leaves, it closes the connection, which ends the work.
struct Passing {
    chunks: LocalBoxStream<'static, Result<Bytes, reqwest::Error>>,
    /// Present until the end.
    at_work: Option<(Taken, Job)>,
}

fn pieces(
    answer: reqwest::Response,
    taken: Taken,
    job: Job,
) -> impl futures_util::Stream<Item = Result<Bytes, Infallible>> + 'static {
    let passing = Passing {
        chunks: answer.bytes_stream().boxed_local(),
        at_work: Some((taken, job)),
    };
    stream::unfold(passing, |mut passing| async move {
        let (taken, mut job) = passing.at_work.take()?;
        match passing.chunks.next().await {
            Some(Ok(chunk)) => {
                passing.at_work = Some((taken, job));
                Some((Ok(chunk), passing))
            }
            Some(Err(error)) => {
                // The status was sent long ago, so the error goes into the stream, after what may be half a frame.
                let error = match error.is_timeout() {
                    true => ApiError::timeout(),
                    false => broken(taken.remote(), &reason(&error)),
                };
                job.trail.ended(&error);
                let frame = format!("\n\ndata: {}\n\ndata: [DONE]\n\n", error.body());
                Some((Ok(Bytes::from(frame)), passing))
            }
            None => {
                job.trail.answered();
                None
            }
        }
    })
}
