//! One answer told in pieces, in the words of whichever API asked for it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web::Bytes;
use futures_util::stream::{self, LocalBoxStream};
use futures_util::{Stream, StreamExt};
use serde_json::Value;

use super::form::Saying;
use super::generate::{Job, Prepared, Running, start_one};
use super::respond;
use super::serve::State;
use super::trail::Trail;
use super::wire::{ApiError, Endpoint, Reason, Said};
use crate::runtime::{Collected, Finish, Held, Piece, TokenPiece};
use crate::sched::Failure;
use crate::text::Part;

/// How long a stream may be silent: proxies close one that is.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What came of waiting for the next piece of a stream.
pub(super) enum Waited<T> {
    /// It, or the end.
    Came(Option<T>),
    /// Nothing for so long that something has to be said.
    Silent,
    /// The request's time is over.
    Late,
}

/// The next piece, by `deadline`. Only the wait is given up: what a generation has done is kept inside of it.
pub(super) async fn wait<S: Stream + Unpin>(pieces: &mut S, deadline: Instant) -> Waited<S::Item> {
    let silent = Instant::now() + KEEP_ALIVE;
    let until = silent.min(deadline);
    match tokio::time::timeout_at(until.into(), pieces.next()).await {
        Ok(piece) => Waited::Came(piece),
        Err(_) if until < silent => Waited::Late,
        Err(_) => Waited::Silent,
    }
}

/// How an API tells one answer.
pub(super) trait Narrator {
    /// All of it at once.
    fn whole(self, answer: Whole) -> Value;

    /// The response whose body is `parts`.
    fn response(parts: impl Stream<Item = Bytes> + 'static) -> HttpResponse {
        respond::events(parts)
    }

    /// An error about a parameter of ours, by the name that it has in this API.
    fn rename(&self, error: ApiError) -> ApiError;

    /// What comes before the answer.
    fn open(&mut self) -> Vec<Bytes> {
        Vec::new()
    }

    /// More of what is said, and the tokens since the last time; either may be empty.
    fn say(&mut self, parts: Vec<Part>, tokens: &[TokenPiece]) -> Vec<Bytes>;

    /// The end.
    fn done(&mut self, reason: Reason, finish: &Finish) -> Vec<Bytes>;

    /// An error after the start: the status was sent long ago.
    fn failed(&mut self, error: &ApiError) -> Vec<Bytes>;

    /// What breaks a silence; `None` where nothing may.
    fn waiting(&self) -> Option<Bytes> {
        None
    }
}

/// An answer under way. It owns its generation: dropping it ends the work.
struct Narration<N> {
    narrator: N,
    job: Job,
    pieces: LocalBoxStream<'static, Result<Piece, Failure>>,
    saying: Saying,
    /// Tokens that were recorded.
    recorded: usize,
    ready: VecDeque<Bytes>,
    over: bool,
    /// In use for as long as it is told from.
    _model: Held,
}

/// Starts the one answer of a request that has one prompt, and tells it as `narrator` does: at once, or in parts.
pub(super) async fn answer(
    state: &State,
    mut job: Job,
    endpoint: Endpoint,
    prepared: Prepared,
    narrator: impl Narrator + 'static,
) -> HttpResponse {
    let (model, stream) = (prepared.model.clone(), prepared.shared.stream);
    let running = match start_one(state, &mut job, endpoint, prepared).await {
        Ok(running) => running,
        Err(error) => return job.refuse(narrator.rename(error)),
    };
    if stream {
        return told(narrator, running, model, job);
    }
    match whole(running, &mut job.trail).await {
        Ok(answer) => respond::json(StatusCode::OK, &narrator.whole(answer)),
        Err(error) => job.refuse(error),
    }
}

/// The parts of an answer, as `narrator` tells them.
fn told<N: Narrator + 'static>(
    narrator: N,
    running: Running,
    model: Held,
    job: Job,
) -> HttpResponse {
    let pieces = stream::unfold(running.answer, |mut answer| async move {
        let piece = answer.next().await?;
        Some((piece, answer))
    });
    let mut narration = Narration {
        narrator,
        job,
        pieces: pieces.boxed_local(),
        saying: running.saying,
        recorded: 0,
        ready: VecDeque::new(),
        over: false,
        _model: model,
    };
    let opening = narration.narrator.open();
    narration.ready.extend(opening);
    N::response(stream::unfold(narration, |mut narration| async move {
        let part = narration.next().await?;
        Some((part, narration))
    }))
}

/// An answer at once.
pub(super) struct Whole {
    pub(super) said: Said,
    pub(super) reason: Reason,
    pub(super) tokens: Vec<TokenPiece>,
    pub(super) finish: Finish,
}

/// The whole of an answer, noted in its record.
async fn whole(running: Running, trail: &mut Trail) -> Result<Whole, ApiError> {
    let Collected {
        text,
        tokens,
        finish,
        ..
    } = running.answer.collect().await?;
    trail.generated(finish.usage.completion_tokens);
    trail.finished(true, &finish);
    let (said, reason) = running.saying.whole(&text, finish.reason)?;
    trail.answered();
    Ok(Whole {
        said,
        reason,
        tokens,
        finish,
    })
}

impl<N: Narrator> Narration<N> {
    /// The next part; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(part) = self.ready.pop_front() {
                return Some(part);
            }
            if self.over {
                return None;
            }
            match wait(&mut self.pieces, self.job.deadline).await {
                Waited::Late => self.fail(&ApiError::timeout()),
                Waited::Silent => self.ready.extend(self.narrator.waiting()),
                Waited::Came(Some(Ok(Piece::Text { text, tokens }))) => {
                    self.recorded += tokens.len();
                    self.job.trail.generated(tokens.len());
                    let parts = self.saying.push(&text);
                    let told = self.narrator.say(parts, &tokens);
                    self.ready.extend(told);
                }
                Waited::Came(Some(Ok(Piece::Prompt(_)))) => {}
                Waited::Came(Some(Ok(Piece::Done(finish)))) => self.finish(&finish),
                Waited::Came(Some(Err(failure))) => self.fail(&failure.into()),
                Waited::Came(None) => self.over = true,
            }
        }
    }

    fn finish(&mut self, finish: &Finish) {
        let (parts, reason) = match self.saying.finish(finish.reason) {
            Ok(end) => end,
            Err(error) => return self.fail(&error),
        };
        // The token that ends a text is counted and not told.
        let untold = finish.usage.completion_tokens.saturating_sub(self.recorded);
        self.job.trail.generated(untold);
        self.job.trail.finished(true, finish);
        self.job.trail.answered();
        let last = self.narrator.say(parts, &[]);
        self.ready.extend(last);
        let told = self.narrator.done(reason, finish);
        self.ready.extend(told);
        self.over = true;
    }

    fn fail(&mut self, error: &ApiError) {
        self.job.trail.ended(error);
        // Dropping the answer cancels it.
        self.pieces = stream::empty().boxed_local();
        let parts = self.narrator.failed(error);
        self.ready.extend(parts);
        self.over = true;
    }
}
