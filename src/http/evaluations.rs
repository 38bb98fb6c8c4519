//! `/v1/evaluations`: what was measured of models and kept in the home.

use actix_web::HttpResponse;
use actix_web::web::{Data, Path};
use serde_json::json;

use super::generate::off_thread;
use super::respond;
use super::serve::State;
use super::wire::ApiError;
use crate::eval::{KeptError, KeptResults};

/// All of them, without their rows.
pub(super) async fn list(state: Data<State>) -> HttpResponse {
    let kept = KeptResults::new(state.runtime.evaluations());
    let listed = off_thread(move || kept.list()).await;
    respond::answer(listed.and_then(|listed| {
        let (lines, unreadable) = listed?;
        Ok(json!({ "object": "list", "data": lines, "unreadable": unreadable }))
    }))
}

/// One of them.
pub(super) async fn one(state: Data<State>, id: Path<String>) -> HttpResponse {
    let kept = KeptResults::new(state.runtime.evaluations());
    let read = off_thread(move || kept.read(&id)).await;
    respond::answer(read.and_then(|read| Ok(read?)))
}

impl From<KeptError> for ApiError {
    fn from(error: KeptError) -> Self {
        match &error {
            KeptError::Unknown(id) => {
                let shown: String = id.chars().take(96).collect();
                let text = format!(
                    "there is no evaluation {shown:?}: GET /v1/evaluations lists those that there are"
                );
                ApiError::new(404, "evaluation_not_found", text)
            }
            KeptError::Io { .. } | KeptError::Broken { .. } => {
                ApiError::new(500, "evaluation_failed", error.to_string())
            }
        }
    }
}
