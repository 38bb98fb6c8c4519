//! Looking into the engine.

use std::time::{Duration, Instant};

use actix_web::http::StatusCode;
use actix_web::web::{Data, Query};
use actix_web::{HttpMessage, HttpRequest, HttpResponse};
use serde::Deserialize;

use super::edge::Deadline;
use super::respond;
use super::serve::State;
use super::wire::ApiError;

/// For how long a trace is recorded unless a caller says.
const SECONDS: u64 = 5;
/// And at most.
const MOST_SECONDS: u64 = 60;

/// `?seconds=`.
#[derive(Debug, Deserialize)]
struct Length {
    seconds: Option<u64>,
}

/// Records the steps of all engines for some seconds and answers with a Chrome trace. A caller that leaves ends it.
pub(super) async fn trace(state: Data<State>, req: HttpRequest) -> HttpResponse {
    let seconds = match seconds(&req) {
        Ok(seconds) => seconds,
        Err(error) => return respond::error(&error),
    };
    let recording = match state.runtime.steps().record() {
        Ok(recording) => recording,
        Err(busy) => {
            let error = ApiError::new(409, "trace_running", busy.to_string()).retry(1);
            return respond::error(&error);
        }
    };
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    respond::json(StatusCode::OK, &recording.end())
}

fn seconds(req: &HttpRequest) -> Result<u64, ApiError> {
    let query = Query::<Length>::from_query(req.query_string())
        .map_err(|error| ApiError::bad("seconds", format!("cannot be read: {error}")))?;
    let left = req
        .extensions()
        .get::<Deadline>()
        .map(|deadline| deadline.0.saturating_duration_since(Instant::now()));
    // The answer is to come before http.request_timeout.
    let most = left.map_or(MOST_SECONDS, |left| left.as_secs().min(MOST_SECONDS));
    match query.seconds.unwrap_or(SECONDS.min(most)) {
        0 => Err(ApiError::bad("seconds", "is 0: record at least one")),
        seconds if seconds > most => Err(ApiError::bad(
            "seconds",
            format!("is {seconds}, at most {most} are recorded"),
        )),
        seconds => Ok(seconds),
    }
}
