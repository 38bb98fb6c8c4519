//! Who may ask: the key, the `Host` that a browser was sent to, and the `Origin` of the page that asks.
//!
//! A page of a stranger can make a browser call this machine, and a name of a stranger can point to it (DNS
//! rebinding); a server that only listens here refuses both by the names in the headers.

use std::net::IpAddr;
use std::sync::Arc;

use actix_web::http::Method;
use actix_web::http::header::{self, HeaderMap, HeaderValue};

use super::keys::{Caller, Keys};
use super::routes::{Needs, needs};
use super::wire::ApiError;

/// The rules of one server.
#[derive(Debug)]
pub(super) struct Guard {
    keys: Keys,
    bound: IpAddr,
    hosts: Vec<String>,
    origins: Vec<String>,
}

/// What the checks allow.
#[derive(Debug, Clone)]
pub(super) enum Pass {
    /// To be answered.
    Request(Arc<Caller>),
    /// To be answered, whoever asks.
    Open,
    /// A browser asks whether a page may ask: answered without any work.
    Preflight,
}

impl Guard {
    /// The rules for a server that listens on `bound`.
    pub(super) fn new(keys: Keys, bound: IpAddr, hosts: &[String], origins: &[String]) -> Self {
        Guard {
            keys,
            bound,
            hosts: hosts.to_vec(),
            origins: origins.to_vec(),
        }
    }

    /// Goes on with the accounts of the keys that were there before, under the same limits.
    pub(super) fn keep_accounts(&mut self, before: &Guard) {
        self.keys.keep_accounts(&before.keys);
    }

    /// Whoever asks without a key.
    pub(super) fn anybody(&self) -> &Arc<Caller> {
        self.keys.anybody()
    }

    /// Whether a request may be answered. `path` is the one that chooses the route, with its escapes resolved.
    ///
    /// `authority` is the one of the request's address: HTTP/2 has it where HTTP/1.1 has the `Host` header.
    pub(super) fn check(
        &self,
        method: &Method,
        path: &str,
        authority: Option<&str>,
        headers: &HeaderMap,
    ) -> Result<Pass, ApiError> {
        let host = self.host(authority, headers)?;
        let cross = self.origin(headers, host)?;
        let asks_first = headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        if cross.is_some() && method == Method::OPTIONS && asks_first {
            return Ok(Pass::Preflight);
        }
        let needs = needs(method, path);
        if needs == Needs::Open {
            return Ok(Pass::Open);
        }
        let caller = self.key(headers)?;
        if needs == Needs::Manage && !caller.manage {
            let text = "this route needs a key with the scope \"manage\", and this one has not: add it in the key file";
            return Err(ApiError::new(403, "scope_missing", text));
        }
        Ok(Pass::Request(Arc::clone(caller)))
    }

    /// The foreign origin that may read the answer.
    pub(super) fn allowed_origin<'a>(&self, headers: &'a HeaderMap) -> Option<&'a HeaderValue> {
        let origin = headers.get(header::ORIGIN)?;
        let text = origin.to_str().ok()?;
        self.origins
            .iter()
            .any(|known| known == text)
            .then_some(origin)
    }

    fn host<'a>(
        &self,
        authority: Option<&'a str>,
        headers: &'a HeaderMap,
    ) -> Result<Option<&'a str>, ApiError> {
        let mut all = headers.get_all(header::HOST);
        let host = match (all.next(), all.next()) {
            (None, None) => authority,
            // Two that differ name nobody.
            (Some(host), None) => host
                .to_str()
                .ok()
                .filter(|host| authority.is_none_or(|authority| authority == *host)),
            _ => None,
        };
        let here = host.is_some_and(|host| self.names_us(host));
        if self.bound.is_loopback() && !here {
            let text =
                "the Host header does not name this machine: call it by localhost or its address";
            return Err(ApiError::new(403, "host_not_allowed", text));
        }
        let listed = || host.is_some_and(|host| self.lists(host));
        if !self.bound.is_loopback() && !self.hosts.is_empty() && !here && !listed() {
            let text = "the Host header has none of the names in http.allowed_hosts: call it by one of them, or add it";
            return Err(ApiError::new(403, "host_not_allowed", text));
        }
        Ok(host)
    }

    fn lists(&self, host: &str) -> bool {
        let name = host.split(':').next().unwrap_or_default();
        let same =
            |known: &String| known.eq_ignore_ascii_case(name) || known.eq_ignore_ascii_case(host);
        self.hosts.iter().any(same)
    }

    fn names_us(&self, host: &str) -> bool {
        let name = match host.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or_default(),
            None => host.split(':').next().unwrap_or_default(),
        };
        let address = name.parse::<IpAddr>();
        name.eq_ignore_ascii_case("localhost")
            || address.is_ok_and(|address| address.is_loopback() || address == self.bound)
    }

    /// The origin, if it is another one than ours.
    fn origin<'a>(
        &self,
        headers: &'a HeaderMap,
        host: Option<&str>,
    ) -> Result<Option<&'a HeaderValue>, ApiError> {
        let Some(origin) = headers.get(header::ORIGIN) else {
            return Ok(None);
        };
        let ours = |text: &str| {
            let place = text
                .strip_prefix("http://")
                .or_else(|| text.strip_prefix("https://"));
            place.is_some() && place == host
        };
        if origin.to_str().is_ok_and(ours) {
            return Ok(None);
        }
        if self.allowed_origin(headers).is_some() {
            return Ok(Some(origin));
        }
        let text = "web pages of this origin may not call the server: add it to http.cors_origins";
        Err(ApiError::new(403, "origin_not_allowed", text))
    }

    fn key(&self, headers: &HeaderMap) -> Result<&Arc<Caller>, ApiError> {
        if self.keys.is_open() {
            return Ok(self.keys.anybody());
        }
        let sent = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        let bearer = sent.and_then(|text| {
            let (scheme, key) = text.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
        });
        // Where Anthropic's clients put it.
        let named = || headers.get("x-api-key")?.to_str().ok();
        let Some(key) = bearer.or_else(named) else {
            let text =
                "an api key is needed: send it as \"Authorization: Bearer <key>\", or as x-api-key";
            return Err(ApiError::new(401, "missing_api_key", text));
        };
        self.keys.find(key).ok_or_else(|| {
            ApiError::new(401, "invalid_api_key", "the api key is not the right one")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::limits::Rules;
    use crate::units::Secret;
    use actix_web::http::header::HeaderName;

    fn rules(key: Option<&str>, bound: &str, origins: &[String]) -> Guard {
        let key = key.and_then(Secret::new);
        let keys = Keys::new(key.as_ref(), Rules::default());
        Guard::new(
            keys,
            bound.parse().unwrap(),
            &["model.lan".to_owned()],
            origins,
        )
    }

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            map.append(name, HeaderValue::from_str(value).unwrap());
        }
        map
    }

    fn code(guard: &Guard, path: &str, pairs: &[(&str, &str)]) -> Option<&'static str> {
        guard
            .check(&Method::GET, path, None, &headers(pairs))
            .err()
            .map(|error| error.code)
    }

    #[test]
    fn a_server_that_listens_here_is_only_called_by_its_own_names() {
        let guard = rules(None, "127.0.0.1", &[]);
        for host in [
            "localhost",
            "LOCALHOST:80",
            "127.0.0.1:8085",
            "127.9.9.9",
            "[::1]:80",
        ] {
            assert_eq!(code(&guard, "/", &[("host", host)]), None, "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "192.168.0.1",
            "",
            "[",
            "[::2]",
        ] {
            assert_eq!(
                code(&guard, "/", &[("host", host)]),
                Some("host_not_allowed"),
                "{host}"
            );
        }
        assert_eq!(code(&guard, "/", &[]), Some("host_not_allowed"));
        let twice = [("host", "localhost"), ("host", "evil.example")];
        assert_eq!(code(&guard, "/", &twice), Some("host_not_allowed"));
        // HTTP/2 names the server in the address.
        let over = |authority: &str, pairs: &[(&str, &str)]| {
            guard
                .check(&Method::GET, "/", Some(authority), &headers(pairs))
                .is_ok()
        };
        assert!(over("localhost:8085", &[]) && !over("evil.example", &[]));
        assert!(over("localhost", &[("host", "localhost")]));
        assert!(!over("evil.example", &[("host", "localhost")]));
        assert!(!over("localhost", &[("host", "evil.example")]));
        assert!(over("localhost", &[("origin", "https://localhost")]));
        let open = rules(None, "0.0.0.0", &[]);
        for host in ["model.lan", "MODEL.lan:8085", "localhost"] {
            assert_eq!(code(&open, "/", &[("host", host)]), None, "{host}");
        }
        assert_eq!(
            code(&open, "/", &[("host", "evil.example")]),
            Some("host_not_allowed")
        );
    }

    #[test]
    fn only_listed_pages_and_our_own_may_ask() {
        let listed = ["https://app.example".to_owned()];
        let guard = rules(None, "127.0.0.1", &listed);
        let from = |origin| [("host", "localhost:8085"), ("origin", origin)];
        for origin in [
            "https://app.example",
            "http://localhost:8085",
            "https://localhost:8085",
        ] {
            assert_eq!(code(&guard, "/", &from(origin)), None, "{origin}");
        }
        for origin in [
            "null",
            "https://evil.example",
            "http://localhost:9999",
            "https://app.example.evil",
            "localhost:8085",
        ] {
            assert_eq!(
                code(&guard, "/", &from(origin)),
                Some("origin_not_allowed"),
                "{origin}"
            );
        }
        let mut ask = headers(&from("https://app.example"));
        ask.insert(
            header::ACCESS_CONTROL_REQUEST_METHOD,
            HeaderValue::from_static("POST"),
        );
        let pass = guard.check(&Method::OPTIONS, "/", None, &ask).unwrap();
        assert!(matches!(pass, Pass::Preflight), "{pass:?}");
    }

    #[test]
    fn every_path_but_the_open_ones_needs_the_key() {
        let guard = rules(Some("right"), "127.0.0.1", &[]);
        let with = |key| [("host", "localhost"), ("authorization", key)];
        for path in [
            "/v1/models",
            "/nowhere",
            "/health/x",
            "/health/",
            "//health",
        ] {
            assert_eq!(
                code(&guard, path, &[("host", "localhost")]),
                Some("missing_api_key"),
                "{path}"
            );
            assert_eq!(
                code(&guard, path, &with("Bearer wrong")),
                Some("invalid_api_key")
            );
            assert_eq!(
                code(&guard, path, &with("Basic right")),
                Some("missing_api_key")
            );
            assert_eq!(code(&guard, path, &with("bearer right")), None);
        }
        let named = |key| [("host", "localhost"), ("x-api-key", key)];
        assert_eq!(code(&guard, "/v1/models", &named("right")), None);
        assert_eq!(
            code(&guard, "/v1/models", &named("wrong")),
            Some("invalid_api_key")
        );
        for path in ["/health", "/ready", "/", "/page/main.js"] {
            assert_eq!(code(&guard, path, &[("host", "localhost")]), None);
        }
    }
}
