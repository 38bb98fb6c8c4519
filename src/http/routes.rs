//! Which path is answered by what.

use actix_web::http::{Method, header};
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, Route};

use super::wire::{ApiError, Dialect};
use super::{
    anthropic, chat, completion, debug, embeddings, evaluations, health, live, models, monitor,
    ollama, openapi, page, respond, responses, runs, sessions, tokens,
};

/// What a route asks of who calls it, where there are keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Needs {
    /// Nothing: it says no more than whether the process lives, and how its page is drawn.
    Open,
    /// A key.
    Use,
    /// A key of the scope `manage`: it looks into the engine or at other people's work, tells it what to hold, changes what
    /// is installed, or steers training.
    Manage,
}

/// All routes: method, path, and who may call it. `{id}` stands for a model's name, `{name}` for a session's, `{run}` for
/// a run's.
pub const ROUTES: [(&str, &str, Needs); 59] = [
    ("POST", "/v1/chat/completions", Needs::Use),
    ("POST", "/v1/completions", Needs::Use),
    ("POST", "/v1/embeddings", Needs::Use),
    ("POST", "/v1/responses", Needs::Use),
    ("GET", "/v1/responses/{response}", Needs::Use),
    ("DELETE", "/v1/responses/{response}", Needs::Use),
    ("POST", "/v1/messages", Needs::Use),
    ("POST", "/v1/messages/count_tokens", Needs::Use),
    ("GET", "/v1/models", Needs::Use),
    // Before the names of models, or it would be one.
    ("GET", "/v1/models/events", Needs::Use),
    ("GET", "/v1/models/{id}", Needs::Use),
    ("POST", "/v1/models/{id}/load", Needs::Manage),
    ("POST", "/v1/models/{id}/unload", Needs::Manage),
    ("POST", "/v1/models/{id}/sleep", Needs::Manage),
    ("POST", "/v1/models/{id}/wake", Needs::Manage),
    ("GET", "/v1/ps", Needs::Use),
    ("GET", "/v1/sessions", Needs::Use),
    ("GET", "/v1/sessions/{name}", Needs::Use),
    ("DELETE", "/v1/sessions/{name}", Needs::Use),
    ("GET", "/v1/sessions/{name}/kv", Needs::Use),
    ("POST", "/v1/sessions/{name}/fork", Needs::Use),
    ("POST", "/v1/sessions/{name}/save", Needs::Use),
    ("POST", "/v1/sessions/{name}/restore", Needs::Use),
    ("GET", "/v1/runs", Needs::Manage),
    ("POST", "/v1/runs", Needs::Manage),
    ("GET", "/v1/runs/{run}", Needs::Manage),
    ("GET", "/v1/runs/{run}/log", Needs::Manage),
    ("GET", "/v1/runs/{run}/events", Needs::Manage),
    ("POST", "/v1/runs/{run}/pause", Needs::Manage),
    ("POST", "/v1/runs/{run}/resume", Needs::Manage),
    ("POST", "/v1/runs/{run}/stop", Needs::Manage),
    ("POST", "/v1/runs/{run}/save", Needs::Manage),
    ("GET", "/v1/evaluations", Needs::Manage),
    ("GET", "/v1/evaluations/{id}", Needs::Manage),
    ("POST", "/tokenize", Needs::Use),
    ("POST", "/detokenize", Needs::Use),
    ("GET", "/v1/config", Needs::Manage),
    ("POST", "/v1/debug/trace", Needs::Manage),
    ("GET", "/v1/monitor", Needs::Manage),
    ("GET", "/v1/monitor/events", Needs::Manage),
    ("GET", "/metrics", Needs::Use),
    ("GET", "/health", Needs::Open),
    ("GET", "/ready", Needs::Open),
    ("GET", "/", Needs::Open),
    ("GET", "/page/{file}", Needs::Open),
    ("GET", "/docs", Needs::Open),
    ("GET", "/openapi.json", Needs::Open),
    ("POST", "/api/generate", Needs::Use),
    ("POST", "/api/chat", Needs::Use),
    ("GET", "/api/tags", Needs::Use),
    ("POST", "/api/show", Needs::Use),
    ("GET", "/api/ps", Needs::Use),
    ("POST", "/api/pull", Needs::Manage),
    ("DELETE", "/api/delete", Needs::Manage),
    ("POST", "/api/copy", Needs::Manage),
    ("POST", "/api/embed", Needs::Use),
    ("POST", "/api/embeddings", Needs::Use),
    ("GET", "/api/version", Needs::Use),
    ("HEAD", "/", Needs::Open),
];

/// The route that a path belongs to; `other` for all that there is not, so that nobody can make up labels.
pub(super) fn label(path: &str) -> &'static str {
    let known = ROUTES.iter().find(|(_, known, _)| fits(known, path));
    known.map_or("other", |(_, path, _)| path)
}

/// What a request needs. Where there is no such route a key is needed to be told so, and a method that a route does not
/// have needs what the route needs most.
pub(super) fn needs(method: &Method, path: &str) -> Needs {
    let routes = || ROUTES.iter().filter(|(_, known, _)| fits(known, path));
    let own = routes().find(|(by, _, _)| *by == method.as_str());
    let most = || routes().max_by_key(|(_, _, needs)| *needs);
    own.or_else(most).map_or(Needs::Use, |(_, _, needs)| *needs)
}

/// Routes whose handlers record what they generate.
const GENERATES: [&str; 9] = [
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/responses",
    "/v1/messages",
    "/api/generate",
    "/api/chat",
    "/api/embed",
    "/api/embeddings",
];

/// Whether a request that is let in changes something that its handler does not record.
pub(super) fn changes(method: &Method, label: &str) -> bool {
    let reads = [
        "/tokenize",
        "/detokenize",
        "/v1/messages/count_tokens",
        "/api/show",
    ];
    let looks = [Method::GET, Method::HEAD, Method::OPTIONS].contains(method);
    !looks && !GENERATES.contains(&label) && !reads.contains(&label) && label != "other"
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
    for (place, (_, path, _)) in ROUTES.iter().enumerate() {
        // A path with several methods is one resource, registered where it first stands.
        if ROUTES
            .iter()
            .take(place)
            .any(|(_, before, _)| before == path)
        {
            continue;
        }
        let methods = ROUTES.iter().filter(|(_, known, _)| known == path);
        let methods: Vec<&'static str> = methods.map(|(method, _, _)| *method).collect();
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
        ("GET", "/v1/config") => web::get().to(live::settings),
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
        ("GET", "/docs") => web::get().to(page::docs),
        ("GET", "/openapi.json") => web::get().to(openapi::show),
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
    fn what_is_not_known_needs_a_key_and_a_wrong_method_the_most() {
        for (method, path, needed) in [
            (Method::GET, "/nowhere", Needs::Use),
            (Method::POST, "/health", Needs::Open),
            (Method::PUT, "/v1/runs", Needs::Manage),
            (Method::DELETE, "/v1/models/a/load", Needs::Manage),
            (Method::GET, "/v1/models/a", Needs::Use),
            (Method::PATCH, "/v1/sessions/a", Needs::Use),
        ] {
            assert_eq!(needs(&method, path), needed, "{method} {path}");
        }
    }

    #[test]
    fn every_route_has_a_handler_and_labels_cannot_be_made_up() {
        for (method, path, needed) in ROUTES {
            let by: Method = method.parse().unwrap();
            assert_eq!(needs(&by, path), needed, "{method} {path}");
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
