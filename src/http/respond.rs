//! Values as responses.

use std::convert::Infallible;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::web::Bytes;
use actix_web::{HttpResponse, HttpResponseBuilder};
use futures_util::{Stream, StreamExt};
use serde::Serialize;
use serde_json::Value;

use super::wire::{ApiError, Dialect};

/// A body in JSON.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> HttpResponse {
    HttpResponseBuilder::new(status).json(body)
}

/// What came of a request that is answered with one value.
pub(super) fn answer(outcome: Result<Value, ApiError>) -> HttpResponse {
    match outcome {
        Ok(value) => json(StatusCode::OK, &value),
        Err(told) => error(&told),
    }
}

/// A value as one server-sent event.
pub(super) fn event(value: &impl Serialize) -> Bytes {
    // Maps with text keys and plain values only: writing them cannot fail.
    let json = serde_json::to_string(value).unwrap_or_default();
    Bytes::from(format!("data: {json}\n\n"))
}

/// The same as an event with a name.
pub(super) fn named_event(name: &str, value: &impl Serialize) -> Bytes {
    let json = serde_json::to_string(value).unwrap_or_default();
    Bytes::from(format!("event: {name}\ndata: {json}\n\n"))
}

/// What clients of such events pass over: it breaks a silence.
pub(super) fn comment() -> Bytes {
    Bytes::from_static(b": waiting\n\n")
}

/// Server-sent events, as they come.
pub(super) fn events(frames: impl Stream<Item = Bytes> + 'static) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, "text/event-stream; charset=utf-8"))
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        // Otherwise nginx collects frames before it sends them on.
        .insert_header(("x-accel-buffering", "no"))
        .streaming(frames.map(Ok::<Bytes, Infallible>))
}

/// Lines of JSON, as they come (<https://github.com/ndjson/ndjson-spec>).
pub(super) fn lines(lines: impl Stream<Item = Bytes> + 'static) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, "application/x-ndjson"))
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .insert_header(("x-accel-buffering", "no"))
        .streaming(lines.map(Ok::<Bytes, Infallible>))
}

/// One of the lines.
pub(super) fn line(value: &impl Serialize) -> Bytes {
    // Maps with text keys and plain values only: writing them cannot fail.
    let mut json = serde_json::to_string(value).unwrap_or_default();
    json.push('\n');
    Bytes::from(json)
}

/// An error in OpenAI's shape, with the headers that its status calls for.
pub(super) fn error(error: &ApiError) -> HttpResponse {
    error_in(Dialect::OpenAi, error)
}

/// The same in the shape of an API.
pub(super) fn error_in(dialect: Dialect, error: &ApiError) -> HttpResponse {
    let status = StatusCode::from_u16(error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json(status, &error.body_in(dialect));
    let headers = response.headers_mut();
    if let Some(seconds) = error.retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if error.status == 401 {
        let scheme = HeaderValue::from_static("Bearer");
        headers.insert(header::WWW_AUTHENTICATE, scheme);
    }
    response
}
