//! What probes and monitors ask.

use actix_web::HttpResponse;
use actix_web::http::{StatusCode, header};
use actix_web::web::Data;
use serde_json::json;

use super::respond;
use super::serve::State;
use crate::telemetry::CONTENT_TYPE;

/// Whether the process works: 503 when an engine stalls or lost its model. Looks at heartbeats and wakes nothing.
pub(super) async fn health(state: Data<State>) -> HttpResponse {
    match state.runtime.unhealthy() {
        None => respond::json(StatusCode::OK, &json!({ "status": "ok" })),
        Some(reason) => {
            // The route needs no key, so what is wrong goes to the log and not to strangers.
            tracing::warn!(reason, "unhealthy");
            respond::json(
                StatusCode::SERVICE_UNAVAILABLE,
                &json!({ "status": "unhealthy" }),
            )
        }
    }
}

/// Whether work may be sent: 503 while models load, when a heartbeat is stale, and from the start of a shutdown.
pub(super) async fn ready(state: Data<State>) -> HttpResponse {
    let (status, text) = if state.runtime.draining() {
        (StatusCode::SERVICE_UNAVAILABLE, "draining")
    } else if !state.readiness.get() {
        (StatusCode::SERVICE_UNAVAILABLE, "loading")
    } else if state.runtime.unhealthy().is_some() {
        (StatusCode::SERVICE_UNAVAILABLE, "unhealthy")
    } else if state.runtime.reloading().is_some() {
        (StatusCode::SERVICE_UNAVAILABLE, "loading")
    } else {
        (StatusCode::OK, "ready")
    };
    respond::json(status, &json!({ "status": text }))
}

/// The counters as Prometheus text.
pub(super) async fn metrics(state: Data<State>) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, CONTENT_TYPE))
        .body(state.runtime.scrape())
}
