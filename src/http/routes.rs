//! Which path is answered by what.

use actix_web::http::header;
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, Route};

use super::wire::ApiError;
use super::{chat, completion, health, models, respond, tokens};

/// All routes: method and path. `{id}` stands for a model's name.
pub const ROUTES: [(&str, &str); 10] = [
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/completions"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/{id}"),
    ("GET", "/v1/ps"),
    ("POST", "/tokenize"),
    ("POST", "/detokenize"),
    ("GET", "/metrics"),
    ("GET", "/health"),
    ("GET", "/ready"),
];

/// The route that a path belongs to; `other` for all that there is not, so that nobody can make up labels.
pub(super) fn label(path: &str) -> &'static str {
    let one_model = path
        .strip_prefix("/v1/models/")
        .is_some_and(|id| !id.is_empty());
    let known = ROUTES
        .iter()
        .find(|(_, known)| *known == path || (one_model && *known == "/v1/models/{id}"));
    known.map_or("other", |(_, path)| path)
}

/// Registers them.
pub(super) fn routes(app: &mut ServiceConfig) {
    for (method, path) in ROUTES {
        let Some(answer) = handler(path) else {
            continue;
        };
        let only = move |_: HttpRequest| async move { wrong_method(method) };
        app.service(
            web::resource(path)
                .route(answer)
                .default_service(web::to(only)),
        );
    }
    app.default_service(web::to(nowhere));
}

fn handler(path: &str) -> Option<Route> {
    Some(match path {
        "/v1/chat/completions" => web::post().to(chat::complete),
        "/v1/completions" => web::post().to(completion::complete),
        "/v1/models" => web::get().to(models::list),
        "/v1/models/{id}" => web::get().to(models::one),
        "/v1/ps" => web::get().to(models::states),
        "/tokenize" => web::post().to(tokens::tokenize),
        "/detokenize" => web::post().to(tokens::detokenize),
        "/metrics" => web::get().to(health::metrics),
        "/health" => web::get().to(health::health),
        "/ready" => web::get().to(health::ready),
        _ => return None,
    })
}

async fn nowhere() -> HttpResponse {
    let text = "there is no such route: see GET /v1/models, POST /v1/chat/completions, POST /v1/completions";
    respond::error(&ApiError::new(404, "unknown_route", text))
}

fn wrong_method(method: &'static str) -> HttpResponse {
    let text = format!("this route is asked with {method}");
    let mut response = respond::error(&ApiError::new(405, "method_not_allowed", text));
    let allowed = header::HeaderValue::from_static(method);
    response.headers_mut().insert(header::ALLOW, allowed);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_has_a_handler_and_labels_cannot_be_made_up() {
        for (_, path) in ROUTES {
            assert!(handler(path).is_some(), "{path}");
            assert_eq!(label(path), path);
        }
        assert_eq!(label("/v1/models/a:b"), "/v1/models/{id}");
        for path in ["/", "/v1/models/", "/v1", "/metrics/", "/v1/chat"] {
            assert_eq!(label(path), "other", "{path}");
        }
    }
}
