//! The body of a request, bounded, as a JSON object.

use std::time::Duration;

use actix_web::http::header::{self, HeaderMap};
use actix_web::web::{BytesMut, Payload};
use futures_util::StreamExt;
use tokio::time::Instant;

use super::wire::{ApiError, Fields};

/// How long a body may stand still.
const STILL: Duration = Duration::from_secs(10);

/// How long a body may take.
const WHOLE: Duration = Duration::from_secs(120);

/// Reads a body of at most `limit` bytes.
///
/// # Errors
/// 415 for what is no plain JSON, 413 for too much, 400 for broken JSON and for a client that stops halfway.
pub(super) async fn json(
    headers: &HeaderMap,
    payload: Payload,
    limit: usize,
) -> Result<Fields, ApiError> {
    check_type(headers)?;
    read(headers, payload, limit).await
}

/// Likewise, and under any type where no browser sends it: clients of Ollama's API send JSON without saying so, as its
/// documentation does with curl.
pub(super) async fn json_of_any_type(
    headers: &HeaderMap,
    payload: Payload,
    limit: usize,
) -> Result<Fields, ApiError> {
    let browser = headers.contains_key(header::ORIGIN) || headers.contains_key("sec-fetch-site");
    if browser || is_packed(headers) {
        check_type(headers)?;
    }
    read(headers, payload, limit).await
}

async fn read(headers: &HeaderMap, mut payload: Payload, limit: usize) -> Result<Fields, ApiError> {
    let told = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok());
    if told
        .and_then(|length| length.parse::<usize>().ok())
        .is_some_and(|length| length > limit)
    {
        return Err(too_large(limit));
    }
    let mut body = BytesMut::new();
    let end = Instant::now() + WHOLE;
    loop {
        let until = end.min(Instant::now() + STILL);
        let next = tokio::time::timeout_at(until, payload.next()).await;
        let Some(chunk) = next.map_err(|_| stalled())? else {
            break;
        };
        let chunk = chunk.map_err(|error| {
            ApiError::new(
                400,
                "incomplete_body",
                format!("the body did not come whole: {error}"),
            )
        })?;
        if body.len() + chunk.len() > limit {
            return Err(too_large(limit));
        }
        body.extend_from_slice(&chunk);
    }
    Fields::parse(&body)
}

fn stalled() -> ApiError {
    let text = format!(
        "the body did not come in {} s, or none of it for {} s: send it in one go",
        WHOLE.as_secs(),
        STILL.as_secs()
    );
    ApiError::new(408, "body_timeout", text)
}

fn is_packed(headers: &HeaderMap) -> bool {
    let packing = headers.get(header::CONTENT_ENCODING);
    packing.is_some_and(|packing| packing != "identity")
}

/// A form can be sent by any page without asking; JSON cannot.
fn check_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case("application/json") && !is_packed(headers) {
        return Ok(());
    }
    let text = "the body must be json: send it with \"Content-Type: application/json\" and without Content-Encoding";
    Err(ApiError::new(415, "unsupported_media_type", text))
}

fn too_large(limit: usize) -> ApiError {
    let text =
        format!("the body is larger than {limit} bytes: send less, or raise http.body_limit");
    ApiError::new(413, "body_too_large", text)
}
