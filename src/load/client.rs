//! One request over the wire, timed. Whatever the server does becomes a [`Record`].

use std::time::{Duration, Instant};

use eventsource_stream::{EventStreamError, Eventsource};
use futures_util::StreamExt;
use reqwest::header::{
    AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER,
};
use reqwest::{Response, StatusCode};
use serde_json::Value;

use super::frame::{Frame, complaint, read_frame, retry_after};
use super::key::Key;
use super::record::{Fault, Origin, Outcome, Record};
use super::target::{BaseUrl, Form, Said};
use super::workload::Abort;
use crate::units::Secret;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(10);
/// Of the body of an error, so much is read.
const ERROR_BYTES: usize = 64 << 10;
/// After its last event a stream ends within this, or its connection is given up.
const TAIL: Duration = Duration::from_secs(1);

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// A header that HTTP does not allow.
    #[error("{0:?} is no header: write it as 'Name: value'")]
    Header(String),
    /// A key that no header can hold.
    #[error("the secret of key {0:?} cannot be sent: it has characters that no header holds")]
    Secret(String),
    /// The library refused.
    #[error("cannot start an HTTP client: {0}")]
    Library(String),
    /// The list of models does not say which one is meant.
    #[error("cannot tell the model from {url}: {reason}; name one with --model")]
    Models {
        /// The address.
        url: String,
        /// What happened.
        reason: String,
    },
}

/// A client of one server.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    base: BaseUrl,
    credentials: Vec<Option<HeaderValue>>,
    timeout: Duration,
}

/// A request to be sent.
#[derive(Debug)]
pub struct Ask<'a> {
    /// Which.
    pub origin: Origin,
    /// When it should be sent, in seconds from the start.
    pub intended: f64,
    /// What was said.
    pub history: &'a [Said],
    /// Whether and when to leave.
    pub abort: Option<Abort>,
}

/// What leads from a clause of `exchange` to the end of a request.
type Ended = (Outcome, Option<String>);

impl Client {
    /// A client that sends `headers` (`Name: value`) with each request, and gives up after `timeout`.
    ///
    /// # Errors
    /// A header or key that HTTP does not allow.
    pub fn new(
        base: BaseUrl,
        keys: &[Key],
        headers: &[String],
        timeout: Duration,
    ) -> Result<Self, ClientError> {
        let mut all = HeaderMap::new();
        for header in headers {
            let (name, value) = parse_header(header).ok_or_else(|| {
                // The value may be secret.
                let name = header.split(':').next().unwrap_or_default();
                ClientError::Header(name.to_owned())
            })?;
            all.append(name, value);
        }
        crate::tls::install();
        let mut builder = reqwest::Client::builder()
            .default_headers(all)
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            .http1_only();
        if base.is_loopback() {
            builder = builder.no_proxy();
        }
        let http = builder
            .build()
            .map_err(|error| ClientError::Library(words(&error)))?;
        let credentials: Result<Vec<_>, _> = keys
            .iter()
            .map(|key| {
                key.secret
                    .as_ref()
                    .map(|s| bearer(&key.name, s))
                    .transpose()
            })
            .collect();
        Ok(Client {
            http,
            base,
            credentials: credentials?,
            timeout,
        })
    }

    /// The name of the model that the server lists to the first key, or, of several, of the only one that is loaded.
    ///
    /// # Errors
    /// When there is none or a choice, or the server does not say.
    pub async fn only_model(&self) -> Result<String, ClientError> {
        let url = self.base.route("models");
        let failed = |reason: String| ClientError::Models {
            url: url.clone(),
            reason,
        };
        let mut request = self.http.get(&url).timeout(CONNECT);
        if let Some(Some(credential)) = self.credentials.first() {
            request = request.header(AUTHORIZATION, credential);
        }
        let response = request
            .send()
            .await
            .map_err(|error| failed(words(&error)))?;
        let status = response.status();
        let body = some_json(response).await;
        if !status.is_success() {
            return Err(failed(format!("it answered {status}")));
        }
        let listed = body.as_ref().and_then(|body| body.get("data"));
        let entry = |model: &Value| {
            let name = model.get("id")?.as_str()?.to_owned();
            let loaded = model.get("state").and_then(Value::as_str) == Some("loaded");
            Some((name, loaded))
        };
        let models = listed.and_then(Value::as_array).into_iter().flatten();
        let models: Vec<(String, bool)> = models.filter_map(entry).collect();
        let names: Vec<&str> = models.iter().map(|(name, _)| name.as_str()).collect();
        // Servers such as ours list what is on their disks, too, and say which models are loaded.
        let loaded = models.iter().filter(|(_, loaded)| *loaded);
        let loaded: Vec<&str> = loaded.map(|(name, _)| name.as_str()).collect();
        match (names.as_slice(), loaded.as_slice()) {
            ([name], _) | (_, [name]) => Ok((*name).to_owned()),
            ([], _) => Err(failed("it lists none".to_owned())),
            // To take any would measure what nobody asked for, and might load it first.
            (several, _) => Err(failed(format!("it lists several: {}", several.join(", ")))),
        }
    }

    /// Sends a request and follows the answer to its end. Returns what was seen, and the answer's text.
    pub async fn ask(&self, clock: Instant, form: &Form, ask: Ask<'_>) -> (Record, String) {
        let body = form.body(ask.history, ask.origin.output_asked).to_string();
        let url = self.base.route(form.endpoint.route());
        let mut request = self.http.post(url).header(CONTENT_TYPE, "application/json");
        if let Some(Some(credential)) = self.credentials.get(ask.origin.key) {
            request = request.header(AUTHORIZATION, credential);
        }
        let mut record = Record::new(ask.origin, ask.intended, clock.elapsed().as_secs_f64());
        let mut text = String::new();
        let most_parts = match ask.abort {
            Some(Abort::AfterParts(parts)) => parts as usize,
            _ => usize::MAX,
        };
        let patience = match ask.abort {
            Some(Abort::After(time)) => time.min(self.timeout),
            _ => self.timeout,
        };
        let exchange = async {
            match request.body(body).send().await {
                Ok(response) => follow(clock, response, most_parts, &mut record, &mut text).await,
                Err(error) if error.is_connect() => failed(Fault::Connect, words(&error)),
                Err(error) => failed(Fault::Closed, words(&error)),
            }
        };
        let (outcome, message) = match tokio::time::timeout(patience, exchange).await {
            Ok(ended) => ended,
            Err(_) if patience < self.timeout => (Outcome::Aborted, None),
            Err(_) => failed(Fault::Timeout, format!("not over after {patience:?}")),
        };
        record.outcome = outcome;
        record.message = message.or(record.message);
        if record.ended <= record.sent {
            record.ended = clock.elapsed().as_secs_f64();
        }
        (record, text)
    }
}

fn failed(fault: Fault, message: impl Into<String>) -> Ended {
    (Outcome::Failed(fault), Some(message.into()))
}

/// Reads an answer from its head on. Sets when it ended, where that is before this returns.
async fn follow(
    clock: Instant,
    response: Response,
    most_parts: usize,
    record: &mut Record,
    text: &mut String,
) -> Ended {
    record.answered = Some(clock.elapsed().as_secs_f64());
    let status = response.status();
    record.status = Some(status.as_u16());
    let header = |name| {
        response
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    record.retry_after = header(RETRY_AFTER).and_then(retry_after);
    if !status.is_success() {
        return refusal(clock, response, record).await;
    }
    let kind = header(CONTENT_TYPE).unwrap_or_default();
    if !kind.starts_with("text/event-stream") {
        return failed(
            Fault::Malformed,
            format!("the answer is {kind:?} and no stream of events"),
        );
    }
    let mut events = response.bytes_stream().eventsource();
    let ended = loop {
        let event = match events.next().await {
            Some(Ok(event)) => event,
            Some(Err(EventStreamError::Transport(error))) => {
                break failed(Fault::Truncated, words(&error));
            }
            Some(Err(error)) => break failed(Fault::Malformed, error.to_string()),
            // Some servers leave the last event out.
            None if record.finish_reason.is_some() => break (Outcome::Served, None),
            None => break failed(Fault::Truncated, "the stream ended before the answer did"),
        };
        let now = clock.elapsed().as_secs_f64();
        match read_frame(&event.data) {
            Ok(Frame::Part {
                text: part,
                finish_reason,
                counted,
            }) => {
                record.finish_reason = record.finish_reason.take().or(finish_reason);
                record.counted = counted.or(record.counted);
                if !part.is_empty() {
                    record.parts.push(now);
                    text.push_str(&part);
                }
                if record.parts.len() >= most_parts {
                    break (Outcome::Aborted, None);
                }
            }
            Ok(Frame::Error(complaint)) => {
                record.code = complaint.code;
                break (Outcome::Failed(Fault::StreamError), complaint.message);
            }
            Ok(Frame::Done) => {
                record.ended = now;
                // Read to the end, so that the connection can serve again.
                let _ = tokio::time::timeout(TAIL, events.next()).await;
                return (Outcome::Served, None);
            }
            Err(reason) => break failed(Fault::Malformed, reason),
        }
    };
    record.ended = clock.elapsed().as_secs_f64();
    ended
}

async fn refusal(clock: Instant, response: Response, record: &mut Record) -> Ended {
    let status = response.status();
    let complaint = some_json(response).await.as_ref().and_then(complaint);
    record.ended = clock.elapsed().as_secs_f64();
    let complaint = complaint.unwrap_or_default();
    record.code = complaint.code;
    let outcome = match status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Outcome::Refused,
        _ => Outcome::Failed(Fault::Status),
    };
    let message = complaint.message.unwrap_or_else(|| status.to_string());
    (outcome, Some(message))
}

/// The JSON of a body, if it is that and not too long.
async fn some_json(mut response: Response) -> Option<Value> {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() > ERROR_BYTES {
            return None;
        }
    }
    serde_json::from_slice(&body).ok()
}

fn parse_header(header: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = header.split_once(':')?;
    let name = name.trim().parse().ok()?;
    Some((name, HeaderValue::from_str(value.trim()).ok()?))
}

fn bearer(name: &str, secret: &Secret) -> Result<HeaderValue, ClientError> {
    let value = HeaderValue::from_str(&format!("Bearer {}", secret.expose()));
    let mut value = value.map_err(|_| ClientError::Secret(name.to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// An error with its causes: the library's own text leaves out what the system said.
fn words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read() {
        let (name, value) = parse_header("X-Team: a: b ").unwrap();
        assert_eq!((name.as_str(), value.to_str().unwrap()), ("x-team", "a: b"));
        for bad in ["", "no", "b@d: x", "x: \u{1}"] {
            assert!(parse_header(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn what_no_header_holds_is_refused_without_telling_it() {
        let base: BaseUrl = "http://127.0.0.1:1".parse().unwrap();
        let new = |keys: &[Key], headers: &[String]| {
            Client::new(base.clone(), keys, headers, Duration::from_secs(1))
                .unwrap_err()
                .to_string()
        };
        let key: Key = "team=1:pa\nssw0rd".parse().unwrap();
        let told = new(&[key], &[]);
        assert!(told.contains("team") && !told.contains("ssw0rd"), "{told}");
        let told = new(&[], &["b@d: secret".to_owned()]);
        assert!(told.contains("b@d") && !told.contains("secret"), "{told}");
    }
}
