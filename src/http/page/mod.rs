//! The web page: files that the program carries, and under which rules a browser may run them.
//!
//! They are plain HTML, CSS and ECMAScript modules as they lie in `assets`; nothing builds them. The page talks to the
//! same routes as every other client, with the same keys.

use std::sync::LazyLock;

use actix_web::http::header::{self, HeaderValue};
use actix_web::web::{Bytes, Path};
use actix_web::{HttpRequest, HttpResponse};
use sha2::{Digest, Sha256};

use super::respond;
use super::wire::ApiError;

/// What the page may do: run its own files and ask its own server. No text ever becomes code or markup.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'";

/// A file of the page.
struct Asset {
    name: &'static str,
    kind: &'static str,
    body: &'static [u8],
}

macro_rules! assets {
    ($($name:literal: $kind:expr),+ $(,)?) => {
        [$(Asset {
            name: $name,
            kind: $kind,
            body: include_bytes!(concat!("assets/", $name)),
        }),+]
    };
}

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

static ASSETS: LazyLock<Vec<(Asset, String)>> = LazyLock::new(|| {
    let assets = assets! {
        "index.html": HTML,
        "style.css": STYLE,
        "icon.svg": "image/svg+xml",
        "answer.js": SCRIPT,
        "api.js": SCRIPT,
        "cache.js": SCRIPT,
        "chart.js": SCRIPT,
        "chat.js": SCRIPT,
        "docs.html": HTML,
        "docs.js": SCRIPT,
        "dom.js": SCRIPT,
        "evaluations.js": SCRIPT,
        "format.js": SCRIPT,
        "main.js": SCRIPT,
        "markdown.js": SCRIPT,
        "models.js": SCRIPT,
        "monitor.js": SCRIPT,
        "notice.js": SCRIPT,
        "runs.js": SCRIPT,
        "settings.js": SCRIPT,
        "store.js": SCRIPT,
        "tree.js": SCRIPT,
    };
    let tagged = assets.into_iter().map(|asset| {
        let hash = Sha256::digest(asset.body);
        let short: String = hash.iter().take(8).map(|b| format!("{b:02x}")).collect();
        (asset, format!("\"{short}\""))
    });
    tagged.collect()
});

/// The page, to browsers. Others are told that there is a server.
pub(super) async fn index(req: HttpRequest) -> HttpResponse {
    let accepts = req.headers().get_all(header::ACCEPT);
    let browser = accepts
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.contains("text/html"));
    let mut response = match browser {
        true => sent(&req, "index.html"),
        false => HttpResponse::Ok()
            .insert_header((header::CONTENT_TYPE, "text/plain; charset=utf-8"))
            .body("llamahome is running\n"),
    };
    let vary = HeaderValue::from_static("accept");
    response.headers_mut().insert(header::VARY, vary);
    response
}

/// The reference of the API.
pub(super) async fn docs(req: HttpRequest) -> HttpResponse {
    sent(&req, "docs.html")
}

/// One of its files.
pub(super) async fn file(req: HttpRequest, name: Path<String>) -> HttpResponse {
    sent(&req, &name)
}

fn sent(req: &HttpRequest, name: &str) -> HttpResponse {
    let Some((asset, tag)) = ASSETS.iter().find(|(asset, _)| asset.name == name) else {
        let text = "the page has no such file: it begins at /";
        return respond::error(&ApiError::new(404, "unknown_route", text));
    };
    let known = req.headers().get(header::IF_NONE_MATCH);
    let known = known.and_then(|known| known.to_str().ok());
    let unchanged = known.is_some_and(|known| known.split(',').any(|each| each.trim() == tag));
    let mut response = match unchanged {
        true => HttpResponse::NotModified(),
        false => HttpResponse::Ok(),
    };
    response
        .insert_header((header::CONTENT_TYPE, asset.kind))
        .insert_header((header::ETAG, tag.as_str()))
        // A newer program has newer files under the same names.
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((header::REFERRER_POLICY, "no-referrer"))
        .insert_header((header::X_FRAME_OPTIONS, "DENY"))
        .insert_header(("cross-origin-opener-policy", "same-origin"))
        .insert_header(("cross-origin-resource-policy", "same-origin"));
    match unchanged {
        true => response.finish(),
        false => response.body(Bytes::from_static(asset.body)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names in quotes behind `from`, and of what the page links to.
    fn named(text: &str) -> Vec<String> {
        let parts = text.split('"');
        let names = parts.filter_map(|part| {
            part.strip_prefix("./")
                .or_else(|| part.strip_prefix("/page/"))
        });
        names.map(str::to_owned).collect()
    }

    #[test]
    fn every_file_that_is_named_is_carried_and_every_other_way_in_is_used() {
        let mut reached = vec!["index.html".to_owned(), "docs.html".to_owned()];
        let mut at = 0;
        while let Some(name) = reached.get(at).cloned() {
            let found = ASSETS.iter().find(|(asset, _)| asset.name == name);
            let (asset, _) = found.unwrap_or_else(|| panic!("{name} is not carried"));
            for name in named(std::str::from_utf8(asset.body).unwrap()) {
                if !reached.contains(&name) {
                    reached.push(name);
                }
            }
            at += 1;
        }
        for (asset, _) in ASSETS.iter() {
            assert!(
                reached.iter().any(|name| name == asset.name),
                "{}",
                asset.name
            );
        }
    }

    #[test]
    fn no_text_becomes_markup_or_code() {
        for (asset, _) in ASSETS.iter() {
            let text = std::str::from_utf8(asset.body).unwrap();
            for forbidden in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                "new Function",
                "<style",
                " style=",
                " onclick=",
                "http://",
                "javascript:",
            ] {
                // The name of the space of SVG elements is no address.
                let text = text.replace("http://www.w3.org/2000/svg", "");
                assert!(!text.contains(forbidden), "{}: {forbidden}", asset.name);
            }
        }
    }
}
