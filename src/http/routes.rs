//! Which path is answered by what.

use actix_web::http::header;
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, Route};

use super::wire::{ApiError, Dialect};
use super::{
    anthropic, chat, completion, debug, embeddings, evaluations, health, models, monitor, ollama,
    page, respond, responses, runs, sessions, tokens,
};

/// All routes: method and path. `{id}` stands for a model's name, `{name}` for a session's, `{run}` for
/// a run's.
pub const ROUTES: [(&str, &str); 56] = [
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/completions"),
    ("POST", "/v1/embeddings"),
    ("POST", "/v1/responses"),
    ("GET", "/v1/responses/{response}"),
    ("DELETE", "/v1/responses/{response}"),
    ("POST", "/v1/messages"),
    ("POST", "/v1/messages/count_tokens"),
    ("GET", "/v1/models"),
    // Before the names of models, or it would be one.
    ("GET", "/v1/models/events"),
    ("GET", "/v1/models/{id}"),
    ("POST", "/v1/models/{id}/load"),
    ("POST", "/v1/models/{id}/unload"),
    ("POST", "/v1/models/{id}/sleep"),
    ("POST", "/v1/models/{id}/wake"),
    ("GET", "/v1/ps"),
    ("GET", "/v1/sessions"),
    ("GET", "/v1/sessions/{name}"),
    ("DELETE", "/v1/sessions/{name}"),
    ("GET", "/v1/sessions/{name}/kv"),
    ("POST", "/v1/sessions/{name}/fork"),
    ("POST", "/v1/sessions/{name}/save"),
    ("POST", "/v1/sessions/{name}/restore"),
    ("GET", "/v1/runs"),
    ("POST", "/v1/runs"),
    ("GET", "/v1/runs/{run}"),
    ("GET", "/v1/runs/{run}/log"),
    ("GET", "/v1/runs/{run}/events"),
    ("POST", "/v1/runs/{run}/pause"),
    ("POST", "/v1/runs/{run}/resume"),
    ("POST", "/v1/runs/{run}/stop"),
    ("POST", "/v1/runs/{run}/save"),
    ("GET", "/v1/evaluations"),
    ("GET", "/v1/evaluations/{id}"),
    ("POST", "/tokenize"),
    ("POST", "/detokenize"),
    ("POST", "/v1/debug/trace"),
    ("GET", "/v1/monitor"),
    ("GET", "/v1/monitor/events"),
    ("GET", "/metrics"),
    ("GET", "/health"),
    ("GET", "/ready"),
    ("GET", "/"),
    ("GET", "/page/{file}"),
    ("POST", "/api/generate"),
    ("POST", "/api/chat"),
    ("GET", "/api/tags"),
    ("POST", "/api/show"),
    ("GET", "/api/ps"),
    ("POST", "/api/pull"),
    ("DELETE", "/api/delete"),
    ("POST", "/api/copy"),
    ("POST", "/api/embed"),
    ("POST", "/api/embeddings"),
    ("GET", "/api/version"),
    ("HEAD", "/"),
];

/// The route that a path belongs to; `other` for all that there is not, so that nobody can make up labels.
pub(super) fn label(path: &str) -> &'static str {
    let known = ROUTES.iter().find(|(_, known)| fits(known, path));
    known.map_or("other", |(_, path)| path)
}

/// Whether a path is one of a pattern's.
fn fits(pattern: &str, path: &str) -> bool {
    let (mut expected, mut parts) = (pattern.split('/'), path.split('/'));
    loop {
        match (expected.next(), parts.next()) {
            (None, None) => return true,
            (Some(known), Some(part)) if known == part => {}
            (Some(known), Some(part)) if known.starts_with('{') && !part.is_empty() => {}
            _ => return false,
        }
    }
}

/// Registers them.
pub(super) fn routes(app: &mut ServiceConfig) {
    for (place, (_, path)) in ROUTES.iter().enumerate() {
        // A path with several methods is one resource, registered where it first stands.
        if ROUTES.iter().take(place).any(|(_, before)| before == path) {
            continue;
        }
        let methods = ROUTES.iter().filter(|(_, known)| known == path);
        let methods: Vec<&'static str> = methods.map(|(method, _)| *method).collect();
        let handlers = methods.iter().filter_map(|method| handler(method, path));
        let resource = handlers.fold(web::resource(*path), |resource, handler| {
            resource.route(handler)
        });
        let allowed = methods.join(", ");
        let only = move |_: HttpRequest| {
            let allowed = allowed.clone();
            async move { wrong_method(Dialect::of(path), &allowed) }
        };
        app.service(resource.default_service(web::to(only)));
    }
    app.default_service(web::to(nowhere));
}

fn handler(method: &str, path: &str) -> Option<Route> {
    Some(match (method, path) {
        ("POST", "/v1/chat/completions") => web::post().to(chat::complete),
        ("POST", "/v1/completions") => web::post().to(completion::complete),
        ("GET", "/v1/models") => web::get().to(models::list),
        ("GET", "/v1/models/events") => web::get().to(models::events),
        ("POST", "/v1/models/{id}/load") => web::post().to(models::load),
        ("POST", "/v1/models/{id}/unload") => web::post().to(models::unload),
        ("POST", "/v1/models/{id}/sleep") => web::post().to(models::sleep),
        ("POST", "/v1/models/{id}/wake") => web::post().to(models::wake),
        ("GET", "/v1/models/{id}") => web::get().to(models::one),
        ("GET", "/v1/ps") => web::get().to(models::states),
        ("GET", "/v1/sessions") => web::get().to(sessions::list),
        ("GET", "/v1/sessions/{name}") => web::get().to(sessions::one),
        ("DELETE", "/v1/sessions/{name}") => web::delete().to(sessions::erase),
        ("GET", "/v1/sessions/{name}/kv") => web::get().to(sessions::picture),
        ("POST", "/v1/sessions/{name}/fork") => web::post().to(sessions::fork),
        ("POST", "/v1/sessions/{name}/save") => web::post().to(sessions::save),
        ("POST", "/v1/sessions/{name}/restore") => web::post().to(sessions::restore),
        ("GET", "/v1/runs") => web::get().to(runs::list),
        ("POST", "/v1/runs") => web::post().to(runs::start),
        ("GET", "/v1/runs/{run}") => web::get().to(runs::one),
        ("GET", "/v1/runs/{run}/log") => web::get().to(runs::log),
        ("GET", "/v1/runs/{run}/events") => web::get().to(runs::events),
        ("POST", "/v1/runs/{run}/pause") => web::post().to(runs::pause),
        ("POST", "/v1/runs/{run}/resume") => web::post().to(runs::resume),
        ("POST", "/v1/runs/{run}/stop") => web::post().to(runs::stop),
        ("POST", "/v1/runs/{run}/save") => web::post().to(runs::save),
        ("GET", "/v1/evaluations") => web::get().to(evaluations::list),
        ("GET", "/v1/evaluations/{id}") => web::get().to(evaluations::one),
        ("POST", "/tokenize") => web::post().to(tokens::tokenize),
        ("POST", "/detokenize") => web::post().to(tokens::detokenize),
        ("POST", "/v1/debug/trace") => web::post().to(debug::trace),
        ("GET", "/v1/monitor") => web::get().to(monitor::newest),
        ("GET", "/v1/monitor/events") => web::get().to(monitor::events),
        ("GET", "/metrics") => web::get().to(health::metrics),
        ("GET", "/health") => web::get().to(health::health),
        ("GET", "/ready") => web::get().to(health::ready),
        ("GET", "/") => web::get().to(page::index),
        ("GET", "/page/{file}") => web::get().to(page::file),
        ("POST", "/api/generate") => web::post().to(ollama::generate),
        ("POST", "/v1/embeddings") => web::post().to(embeddings::embed),
        ("POST", "/v1/responses") => web::post().to(responses::create),
        ("GET", "/v1/responses/{response}") => web::get().to(responses::show),
        ("DELETE", "/v1/responses/{response}") => web::delete().to(responses::erase),
        ("POST", "/v1/messages") => web::post().to(anthropic::create),
        ("POST", "/v1/messages/count_tokens") => web::post().to(anthropic::count),
        ("POST", "/api/embed") => web::post().to(ollama::embed),
        ("POST", "/api/embeddings") => web::post().to(ollama::embed_one),
        ("POST", "/api/chat") => web::post().to(ollama::chat),
        ("GET", "/api/tags") => web::get().to(ollama::tags),
        ("POST", "/api/show") => web::post().to(ollama::show),
        ("GET", "/api/ps") => web::get().to(ollama::ps),
        ("POST", "/api/pull") => web::post().to(ollama::pull),
        ("DELETE", "/api/delete") => web::delete().to(ollama::delete),
        ("POST", "/api/copy") => web::post().to(ollama::copy),
        ("GET", "/api/version") => web::get().to(ollama::version),
        ("HEAD", "/") => web::head().to(ollama::alive),
        _ => return None,
    })
}

async fn nowhere(req: HttpRequest) -> HttpResponse {
    let text = "there is no such route: see GET /v1/models, POST /v1/chat/completions, POST /v1/completions";
    let dialect = Dialect::of(req.match_info().as_str());
    respond::error_in(dialect, &ApiError::new(404, "unknown_route", text))
}

fn wrong_method(dialect: Dialect, allowed: &str) -> HttpResponse {
    let text = format!("this route is asked with {allowed}");
    let mut response = respond::error_in(dialect, &ApiError::new(405, "method_not_allowed", text));
    if let Ok(allowed) = header::HeaderValue::from_str(allowed) {
        response.headers_mut().insert(header::ALLOW, allowed);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_has_a_handler_and_labels_cannot_be_made_up() {
        for (method, path) in ROUTES {
            assert!(handler(method, path).is_some(), "{method} {path}");
            assert_eq!(label(path), path);
        }
        assert_eq!(label("/v1/models/a:b"), "/v1/models/{id}");
        assert_eq!(label("/v1/models/events"), "/v1/models/events");
        assert_eq!(label("/v1/models/a/sleep"), "/v1/models/{id}/sleep");
        assert_eq!(label("/v1/sessions/a"), "/v1/sessions/{name}");
        assert_eq!(label("/v1/sessions/a/fork"), "/v1/sessions/{name}/fork");
        assert_eq!(label("/page/chat.js"), "/page/{file}");
        for path in [
            "/page/",
            "/v1/models/",
            "/v1/models/a/b",
            "/v1",
            "/metrics/",
            "/v1/chat",
            "/v1/sessions/",
            "/v1/sessions/a/b",
            "/v1/sessions//fork",
            "/v1/runs/a/b",
        ] {
            assert_eq!(label(path), "other", "{path}");
        }
    }
}
