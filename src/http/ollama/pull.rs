//! `POST /api/pull`: a model brought home, and how far it is.

use std::time::{Duration, Instant, SystemTime};

use actix_web::http::StatusCode;
use actix_web::web::{Bytes, Data, Payload};
use actix_web::{HttpMessage, HttpRequest, HttpResponse};
use futures_util::stream;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::models::library;
use super::name;
use crate::http::edge::About;
use crate::http::narration::KEEP_ALIVE;
use crate::http::serve::State;
use crate::http::wire::{ApiError, Dialect};
use crate::http::{body, respond};
use crate::runtime::Runtime;
use crate::store::{Fetch, Library, Progress, PullRequest, Source};

/// Lines that wait to be sent; progress that finds no place is passed over.
const WAITING: usize = 16;
/// The shortest time between two lines about one file.
const BETWEEN: Duration = Duration::from_millis(100);
/// Hosts that Ollama's clients name the hub by.
const HUB: [&str; 4] = [
    "hf.co/",
    "huggingface.co/",
    "https://hf.co/",
    "https://huggingface.co/",
];

/// What a pull tells.
enum News {
    /// How far it is.
    Line(Value),
    /// How it ended.
    End(Result<(), ApiError>),
}

/// Pulls a model, and answers with lines of progress or at the end.
pub(in crate::http) async fn pull(
    state: Data<State>,
    req: HttpRequest,
    payload: Payload,
) -> HttpResponse {
    match begin(&state, &req, payload).await {
        Ok((news, true)) => respond::lines(lines(news)),
        Ok((news, false)) => match end(news).await {
            Ok(()) => respond::json(StatusCode::OK, &success()),
            Err(error) => respond::error_in(Dialect::Ollama, &error),
        },
        Err(error) => respond::error_in(Dialect::Ollama, &error),
    }
}

fn success() -> Value {
    json!({ "status": "success" })
}

/// Starts a pull; also says whether its progress is wanted.
async fn begin(
    state: &State,
    req: &HttpRequest,
    payload: Payload,
) -> Result<(mpsc::Receiver<News>, bool), ApiError> {
    let mut fields =
        body::json_of_any_type(req.headers(), payload, state.live().body_limit).await?;
    let name = name::required(&mut fields)?;
    req.extensions_mut().insert(About(name.clone()));
    let off = |value: &Value| value == &Value::Bool(false);
    fields.refuse("insecure", "what is pulled is always checked", off)?;
    let stream = !fields.has("stream") || fields.flag("stream")?;
    let source = source(&name)?;
    let library = library(state)?;
    if state.runtime.draining() {
        return Err(ApiError::stopping());
    }
    let (send, news) = mpsc::channel(WAITING);
    let told = Told {
        runtime: state.runtime.clone(),
        send: send.clone(),
        what: String::new(),
        total: None,
        last: None,
    };
    tokio::task::spawn_blocking(move || {
        let ended = fetch(&library, source, told);
        // When nobody is left to tell, it is in the log.
        let _ = send.blocking_send(News::End(ended));
    });
    Ok((news, stream))
}

/// Where a model comes from. A path would let clients open files.
fn source(name: &str) -> Result<Source, ApiError> {
    let hub = HUB.iter().find_map(|host| name.strip_prefix(host));
    let text = hub.map_or_else(|| name.to_owned(), |rest| format!("hf:{rest}"));
    match text.parse::<Source>() {
        Ok(Source::Path(_)) => {
            let reason = "is a path: name a model of the catalogue, or hf:owner/repo/file.gguf";
            Err(ApiError::bad("model", reason))
        }
        Ok(source) => Ok(source),
        Err(error) => Err(ApiError::from(error)),
    }
}

fn fetch(library: &Library, source: Source, mut told: Told) -> Result<(), ApiError> {
    let wanted = source.to_string();
    told.say(json!({ "status": "pulling manifest" }));
    let request = PullRequest {
        source,
        id: None,
        link: false,
        pulled_at: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
    };
    let fetch = Fetch::from_env(|name| std::env::var_os(name));
    let created = library.home().create();
    let pulled = created.and_then(|()| library.pull(&fetch, &request, &mut told));
    match pulled {
        Ok(installed) => {
            tracing::info!(model = %installed.id, source = wanted, "pulled");
            Ok(())
        }
        Err(error) => {
            tracing::warn!(source = wanted, %error, "a pull failed");
            Err(error.into())
        }
    }
}

/// Tells a client how far a pull is.
struct Told {
    runtime: Runtime,
    send: mpsc::Sender<News>,
    /// The file at hand.
    what: String,
    total: Option<u64>,
    /// When progress was last told.
    last: Option<Instant>,
}

impl Told {
    fn say(&self, line: Value) {
        // Who has left is found out by `cancelled`.
        let _ = self.send.blocking_send(News::Line(line));
    }

    /// The file stands for its digest, by which clients tell bars of progress apart: it is not known before the end.
    fn progress(&self, done: u64) -> Value {
        match self.what.strip_prefix("checking ") {
            Some(_) => json!({ "status": "verifying sha256 digest" }),
            None => json!({
                "status": format!("pulling {}", self.what),
                "digest": self.what,
                "total": self.total,
                "completed": done,
            }),
        }
    }
}

impl Progress for Told {
    fn start(&mut self, what: &str, total: Option<u64>) {
        what.clone_into(&mut self.what);
        self.total = total;
        self.last = Some(Instant::now());
        self.say(self.progress(0));
    }

    fn advance(&mut self, bytes_done: u64) {
        let checking = self.what.starts_with("checking ");
        if checking || self.last.is_some_and(|last| last.elapsed() < BETWEEN) {
            return;
        }
        self.last = Some(Instant::now());
        let _ = self.send.try_send(News::Line(self.progress(bytes_done)));
    }

    fn finish(&mut self) {
        if let Some(total) = self.total.filter(|_| !self.what.starts_with("checking ")) {
            self.say(self.progress(total));
        }
    }

    fn cancelled(&self) -> bool {
        self.send.is_closed() || self.runtime.draining()
    }
}

async fn end(mut news: mpsc::Receiver<News>) -> Result<(), ApiError> {
    while let Some(told) = news.recv().await {
        if let News::End(outcome) = told {
            return outcome;
        }
    }
    Err(broke_off())
}

fn broke_off() -> ApiError {
    ApiError::new(
        500,
        "internal_error",
        "the pull broke off: pull again to go on",
    )
}

/// A pull that is watched. Dropping it stops the pull.
struct Watched {
    news: mpsc::Receiver<News>,
    /// What was told last: it is told again when nothing new comes.
    last: Value,
    over: bool,
}

fn lines(news: mpsc::Receiver<News>) -> impl futures_util::Stream<Item = Bytes> {
    let watched = Watched {
        news,
        last: json!({ "status": "pulling manifest" }),
        over: false,
    };
    stream::unfold(watched, |mut watched| async move {
        let line = watched.next().await?;
        Some((respond::line(&line), watched))
    })
}

impl Watched {
    async fn next(&mut self) -> Option<Value> {
        if self.over {
            return None;
        }
        let outcome = match tokio::time::timeout(KEEP_ALIVE, self.news.recv()).await {
            Err(_) => return Some(self.last.clone()),
            Ok(Some(News::Line(line))) => {
                self.last.clone_from(&line);
                return Some(line);
            }
            Ok(Some(News::End(outcome))) => outcome,
            Ok(None) => Err(broke_off()),
        };
        self.over = true;
        Some(match outcome {
            Ok(()) => success(),
            Err(error) => error.body_in(Dialect::Ollama),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_the_catalogue_and_the_hub_and_never_a_path() {
        for (name, expected) in [
            ("smollm2", "smollm2"),
            ("hf:o/r/m.gguf", "hf:o/r/m.gguf"),
            ("hf.co/o/r", "hf:o/r"),
            ("https://huggingface.co/o/r/m.gguf", "hf:o/r/m.gguf"),
        ] {
            assert_eq!(source(name).unwrap().to_string(), expected);
        }
        for name in [
            "/etc/passwd",
            "./m.gguf",
            "o/r",
            "m.gguf",
            "https://example.org/m",
            "-x",
            "",
        ] {
            let error = source(name).unwrap_err();
            assert_eq!(
                (error.status, error.param.as_deref()),
                (400, Some("model")),
                "{name}"
            );
        }
    }
}
