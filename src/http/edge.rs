//! What every request passes: its id, the guard, the clock, the counters and the headers of its answer.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Instant, SystemTime};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::error::InternalError;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::web::{Bytes, Data};
use actix_web::{Error, HttpMessage, HttpResponse};

use super::guard::{Guard, Pass};
use super::keys::Caller;
use super::limits::{self, Account, Permit};
use super::respond;
use super::routes::{changes, label};
use super::serve::State;
use super::wire::{ApiError, Dialect};
use crate::ids::RequestId;
use crate::runtime::Runtime;
use crate::telemetry::{InFlight, Metrics, Outcome, Record};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// When a request must be over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline(pub(super) Instant);

/// The middleware around all routes, known and unknown.
pub(super) async fn edge(
    state: Data<State>,
    req: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<Counted>, Error> {
    let live = state.live();
    let deadline = Instant::now() + live.timeout;
    let sent = req
        .headers()
        .get(REQUEST_ID)
        .and_then(|id| id.to_str().ok());
    let id = sent
        .and_then(|id| id.parse().ok())
        .unwrap_or_else(RequestId::random);
    // Not `req.path()`, which may spell a route with escapes that the router resolves.
    let path = req.match_info().as_str();
    let dialect = Dialect::of(path);
    let route = label(path);
    let mut count = Count::new(&state, route, &id);
    let mut act = Act::new(&state, req.method(), (route, path), &id);
    let mut extra = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_str(id.as_str()) {
        extra.insert(REQUEST_ID, value);
    }
    share(&live.guard, req.headers(), &mut extra);
    let authority = req.uri().authority().map(|authority| authority.as_str());
    let entered = match live
        .guard
        .check(req.method(), path, authority, req.headers())
    {
        Ok(Pass::Preflight) => return Ok(count.track(req.into_response(preflight()), extra)),
        Ok(Pass::Open) => Ok(()),
        Ok(Pass::Request(caller)) => {
            act.record.who.clone_from(&caller.name);
            let entered = count.enter(&caller, req.method());
            req.extensions_mut().insert(caller);
            entered
        }
        Err(error) => Err(error),
    };
    if let Err(error) = entered {
        state.runtime.metrics().rejected(match error.status {
            401 => "unauthorized",
            429 => "rate_limited",
            _ => "forbidden",
        });
        act.turned_away();
        return Ok(count.track(req.into_response(respond::error_in(dialect, &error)), extra));
    }
    req.extensions_mut().insert(id);
    req.extensions_mut().insert(Deadline(deadline));
    match tokio::time::timeout_at(deadline.into(), next.call(req)).await {
        Ok(Ok(response)) => {
            let about = response.request().extensions().get::<About>().cloned();
            act.answered(response.status(), about);
            if state.runtime.draining() {
                extra.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(count.track(response, extra))
        }
        Ok(Err(error)) => Err(error),
        Err(_) => {
            // The request is gone with the future that held it, so the answer goes out as an error.
            let mut response = respond::error_in(dialect, &ApiError::timeout());
            act.answered(response.status(), None);
            count.show(response.headers_mut());
            set(&mut response, extra);
            count.end(response.status().as_u16());
            Err(InternalError::from_response("timeout", response).into())
        }
    }
}

/// Lets a listed page read the answer.
fn share(guard: &Guard, headers: &HeaderMap, extra: &mut HeaderMap) {
    if let Some(origin) = guard.allowed_origin(headers) {
        extra.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        extra.insert(header::VARY, HeaderValue::from_static("Origin"));
        let shown = format!("x-request-id, retry-after, {}", limits::SHOWN);
        if let Ok(shown) = HeaderValue::try_from(shown) {
            extra.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, shown);
        }
    }
}

fn preflight() -> HttpResponse {
    HttpResponse::NoContent()
        .insert_header((header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, DELETE"))
        .insert_header((
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "authorization, x-api-key, anthropic-version, content-type, x-request-id, traceparent, tracestate",
        ))
        .insert_header((header::ACCESS_CONTROL_MAX_AGE, "600"))
        .finish()
}

fn set<B>(response: &mut HttpResponse<B>, extra: HeaderMap) {
    for (name, value) in extra {
        response.headers_mut().insert(name, value);
    }
}

/// What a request is about, where its body says it: a handler leaves it for the record.
#[derive(Debug, Clone)]
pub(super) struct About(pub(super) String);

/// What the audit record says of a request that no handler records.
struct Act {
    runtime: Runtime,
    record: Record,
    /// Whether it changes something.
    changes: bool,
}

/// Longest path that is recorded.
const RECORDED: usize = 256;

impl Act {
    fn new(
        state: &State,
        method: &Method,
        (route, path): (&'static str, &str),
        id: &RequestId,
    ) -> Self {
        let shown: String = path.chars().take(RECORDED).collect();
        Act {
            runtime: state.runtime.clone(),
            changes: changes(method, route),
            record: Record {
                at: SystemTime::now(),
                request: id.clone(),
                route,
                action: Some(format!("{method} {shown}")),
                who: "unknown".to_owned(),
                model: String::new(),
                prompt_tokens: 0,
                output_tokens: 0,
                result: Outcome::Cancelled,
            },
        }
    }

    /// It was refused before any handler saw it.
    fn turned_away(mut self) {
        self.changes = true;
        self.record.result = Outcome::Refused;
    }

    fn answered(mut self, status: StatusCode, about: Option<About>) {
        self.record.result = match status.as_u16() {
            500.. => Outcome::Failed,
            400.. => Outcome::Refused,
            _ => Outcome::Ok,
        };
        if let Some(About(model)) = about {
            self.record.model = model.chars().take(RECORDED).collect();
        }
    }
}

impl Drop for Act {
    /// Whatever became of the request: one whose client has left may have changed something all the same.
    fn drop(&mut self) {
        if self.changes {
            self.record.at = SystemTime::now();
            self.runtime.audit(self.record.clone());
        }
    }
}

/// A request that is being counted.
struct Count {
    metrics: Metrics,
    _in_flight: InFlight,
    route: &'static str,
    started: Instant,
    id: RequestId,
    /// Whose limits it is under, when it is work.
    account: Option<Account>,
    /// It counts as one of its caller's requests until it is over.
    _permit: Option<Permit>,
}

impl Count {
    fn new(state: &State, route: &'static str, id: &RequestId) -> Self {
        let metrics = state.runtime.metrics().clone();
        Count {
            _in_flight: metrics.request_started(),
            metrics,
            route,
            started: Instant::now(),
            id: id.clone(),
            account: None,
            _permit: None,
        }
    }

    /// Puts a request under the limits of its caller. Looking at what there is is free, so that a client which has used
    /// up its share can still be watched.
    fn enter(&mut self, caller: &Caller, method: &Method) -> Result<(), ApiError> {
        if method != Method::POST {
            return Ok(());
        }
        self.account = Some(caller.account.clone());
        self._permit = Some(caller.account.enter(self.started)?);
        Ok(())
    }

    /// Tells what is left of the limits.
    fn show(&self, headers: &mut HeaderMap) {
        if let Some(account) = &self.account {
            account.show(headers, Instant::now());
        }
    }

    fn track(
        self,
        mut response: ServiceResponse<BoxBody>,
        extra: HeaderMap,
    ) -> ServiceResponse<Counted> {
        self.show(response.headers_mut());
        set(response.response_mut(), extra);
        let status = response.status().as_u16();
        response.map_body(|_, body| Counted {
            body,
            count: Some((self, status)),
        })
    }

    fn end(self, status: u16) {
        let took = self.started.elapsed();
        self.metrics.request_finished(self.route, status, took);
        let ms = took.as_millis() as u64;
        tracing::debug!(
            request = self.id.as_str(),
            route = self.route,
            status,
            ms,
            "answered"
        );
    }
}

/// A body that is counted as answered when it was sent or given up.
pub(super) struct Counted {
    body: BoxBody,
    count: Option<(Count, u16)>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some((count, status)) = self.count.take() {
            count.end(status);
        }
    }
}

impl MessageBody for Counted {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(cx)
    }
}
