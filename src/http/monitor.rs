//! `/v1/monitor`: what the machine, the engines and the caches are doing, as JSON.

use std::time::{Duration, SystemTime};

use actix_web::http::StatusCode;
use actix_web::web::{Data, Query};
use actix_web::{HttpRequest, HttpResponse};
use futures_util::stream;
use serde::Deserialize;
use serde_json::{Value, json};

use super::respond;
use super::serve::State;
use super::wire::ApiError;
use crate::runtime::{ServedModel, Snapshot};

/// Between two events unless a caller says, and at least: milliseconds.
const INTERVAL: u64 = 1000;
const SHORTEST: u64 = 100;
const LONGEST: u64 = 60_000;

/// `?interval_ms=`.
#[derive(Debug, Deserialize)]
struct Every {
    interval_ms: Option<u64>,
}

/// All of it, now.
pub(super) async fn newest(state: Data<State>) -> HttpResponse {
    respond::json(StatusCode::OK, &report(&state))
}

/// The same again and again, as server-sent events.
pub(super) async fn events(state: Data<State>, req: HttpRequest) -> HttpResponse {
    let every = match every(&req) {
        Ok(every) => every,
        Err(error) => return respond::error(&error),
    };
    let frames = stream::unfold((state, false), move |(state, begun)| async move {
        if begun {
            tokio::time::sleep(every).await;
        }
        if state.runtime.draining() {
            return None;
        }
        Some((respond::event(&report(&state)), (state, true)))
    });
    respond::events(frames)
}

fn every(req: &HttpRequest) -> Result<Duration, ApiError> {
    let query = Query::<Every>::from_query(req.query_string())
        .map_err(|error| ApiError::bad("interval_ms", format!("cannot be read: {error}")))?;
    match query.interval_ms.unwrap_or(INTERVAL) {
        millis @ SHORTEST..=LONGEST => Ok(Duration::from_millis(millis)),
        millis => Err(ApiError::bad(
            "interval_ms",
            format!("is {millis}, use {SHORTEST} to {LONGEST}"),
        )),
    }
}

fn report(state: &State) -> Value {
    let runtime = &state.runtime;
    let models = runtime.loaded();
    let kv_bytes: usize = models.iter().map(|model| model.kv_bytes()).sum();
    let uptime = SystemTime::now().duration_since(state.started);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    json!({
        "object": "monitor",
        "time": now.unwrap_or_default().as_secs_f64(),
        "uptime_s": uptime.unwrap_or_default().as_secs_f64(),
        "draining": runtime.draining(),
        "machine": machine(&runtime.newest_sample()),
        "kv": { "bytes": kv_bytes, "total_bytes": runtime.kv_total() },
        "models": models.iter().map(|model| line(model)).collect::<Vec<_>>(),
    })
}

/// The newest sample; `null` before the first.
fn machine(sample: &Snapshot) -> Value {
    let Some(sample) = sample else {
        return Value::Null;
    };
    let gpus = sample.gpus.iter().map(|gpu| {
        json!({
            "index": gpu.index,
            "name": gpu.name,
            "busy_ratio": gpu.busy_ratio,
            "memory_used": gpu.memory_used,
            "memory_total": gpu.memory_total,
        })
    });
    json!({
        "cpu_ratio": sample.cpu_ratio,
        "memory_used": sample.memory_used,
        "memory_limit": sample.memory_limit(),
        "process_bytes": sample.process_rss,
        "disk_free": sample.disk_free,
        "gpus": gpus.collect::<Vec<_>>(),
    })
}

fn line(model: &ServedModel) -> Value {
    let tokens = model.tokens();
    json!({
        "name": model.id,
        "running": model.running(),
        "waiting": model.waiting(),
        "kv_bytes": model.kv_bytes(),
        "weight_bytes": model.weight_bytes,
        // Since it was loaded: two of them and the time between make a rate.
        "tokens": { "read": tokens.read, "cached": tokens.cached, "generated": tokens.generated },
    })
}
