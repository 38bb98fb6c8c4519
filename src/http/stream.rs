//! Answers in pieces: server-sent events (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).

use std::collections::VecDeque;

use actix_web::HttpResponse;
use actix_web::web::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, LocalBoxStream, SelectAll};

use super::form::Saying;
use super::generate::{Job, Running, Telling, ids, totals};
use super::logprobs::{self, Teller};
use super::narration::{Waited, wait};
use super::respond;
use super::wire::{ApiError, Call, Choice, Endpoint, Timings};
use crate::ids::TokenId;
use crate::runtime::{Finish, Piece, TokenPiece};
use crate::sample::TokenLogprob;
use crate::sched::Failure;
use crate::text::{Controls, Part};

type Pieces = LocalBoxStream<'static, (usize, Result<Piece, Failure>)>;

/// One choice that is being told.
struct Told {
    teller: Teller,
    /// Ids of the prompt, until they were told.
    prompt: Option<Vec<TokenId>>,
    /// The prompt where it is told as text, and what is known of its tokens, until it was.
    echo: Option<(Vec<TokenId>, Vec<TokenLogprob>)>,
    first: bool,
    saying: Saying,
    /// Tokens that were recorded.
    recorded: usize,
    finish: Option<Finish>,
}

/// A stream of chunks. It owns its generations.
pub(super) struct Stream {
    telling: Telling,
    job: Job,
    pieces: SelectAll<Pieces>,
    choices: Vec<Told>,
    /// Chunks that wait to be sent.
    ready: VecDeque<Bytes>,
    over: bool,
}

/// The response whose body is `stream`.
pub(super) fn response(stream: Stream) -> HttpResponse {
    let chunks = stream::unfold(stream, |mut stream| async move {
        let chunk = stream.next().await?;
        Some((chunk, stream))
    });
    respond::events(chunks)
}

impl Stream {
    pub(super) fn new(telling: Telling, running: Vec<Running>, job: Job) -> Self {
        let endpoint = telling.envelope.endpoint();
        let mut pieces = SelectAll::new();
        let mut choices = Vec::new();
        for (index, running) in running.into_iter().enumerate() {
            let answer = stream::unfold(running.answer, move |mut answer| async move {
                let piece = answer.next().await?;
                Some(((index, piece), answer))
            });
            pieces.push(answer.boxed_local());
            choices.push(Told {
                teller: Teller::new(&telling.model.tokenizer, endpoint),
                echo: telling.echo.then(|| (running.prompt.clone(), Vec::new())),
                prompt: telling.token_ids.then_some(running.prompt),
                first: running.first,
                saying: running.saying,
                recorded: 0,
                finish: None,
            });
        }
        let mut stream = Stream {
            telling,
            job,
            pieces,
            choices,
            ready: VecDeque::new(),
            over: false,
        };
        for index in 0..stream.choices.len() {
            stream.open(index);
        }
        stream
    }

    /// The next chunk; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(chunk) = self.ready.pop_front() {
                return Some(chunk);
            }
            if self.over {
                return None;
            }
            match wait(&mut self.pieces, self.job.deadline).await {
                Waited::Late => self.fail(&ApiError::timeout()),
                Waited::Silent => return Some(respond::comment()),
                Waited::Came(Some((index, Ok(Piece::Text { text, tokens })))) => {
                    self.piece(index, text, &tokens)
                }
                Waited::Came(Some((index, Ok(Piece::Prompt(told))))) => {
                    let echo = self.choices.get_mut(index).and_then(|c| c.echo.as_mut());
                    if let Some((_, known)) = echo {
                        known.extend(told);
                    }
                }
                Waited::Came(Some((index, Ok(Piece::Done(finish))))) => self.finish(index, *finish),
                Waited::Came(Some((_, Err(failure)))) => self.fail(&failure.into()),
                Waited::Came(None) => self.complete(),
            }
        }
    }

    /// Says who speaks (in a chat) and what was read (when ids are asked for).
    fn open(&mut self, index: usize) {
        let endpoint = self.telling.envelope.endpoint();
        let prompt = self
            .choices
            .get_mut(index)
            .and_then(|told| told.prompt.take());
        if endpoint == Endpoint::Completion && prompt.is_none() {
            return;
        }
        let mut choice = Choice::opening(endpoint, index);
        choice.prompt_token_ids = prompt;
        let chunk = respond::event(&self.telling.envelope.chunk(choice));
        self.ready.push_back(chunk);
    }

    /// The prompt, once all that is asked of it is known.
    fn echo(&mut self, index: usize) {
        let Some(state) = self.choices.get_mut(index) else {
            return;
        };
        let Some((prompt, told)) = state.echo.take() else {
            return;
        };
        let text = self.telling.model.tokenizer.decode(&prompt, Controls::Keep);
        let mut choice = Choice::piece(self.telling.envelope.endpoint(), index, text);
        if self.telling.logprobs {
            let pieces = logprobs::of_prompt(&prompt, told);
            choice.logprobs = Some(state.teller.tell(&pieces));
        }
        let chunk = respond::event(&self.telling.envelope.chunk(choice));
        self.ready.push_back(chunk);
    }

    fn piece(&mut self, index: usize, text: String, tokens: &[TokenPiece]) {
        self.echo(index);
        let Some(state) = self.choices.get_mut(index) else {
            return;
        };
        state.recorded += tokens.len();
        self.job.trail.generated(tokens.len());
        let parts = state.saying.push(&text);
        self.say(index, parts, tokens);
    }

    /// Chunks with what is new; the first tells of the tokens.
    fn say(&mut self, index: usize, mut parts: Vec<Part>, tokens: &[TokenPiece]) {
        let endpoint = self.telling.envelope.endpoint();
        let mut told = (self.telling.logprobs || self.telling.token_ids) && !tokens.is_empty();
        if parts.is_empty() && told {
            parts.push(Part::Words(String::new()));
        }
        for part in parts {
            let Some(state) = self.choices.get_mut(index) else {
                return;
            };
            let mut choice = match part {
                Part::Words(text) => Choice::piece(endpoint, index, text),
                Part::Thought(text) => Choice::thought(index, text),
                Part::Call { index: place, name } => {
                    Choice::call(index, Call::begin(Some(place), name))
                }
                Part::Arguments { index: place, text } => {
                    Choice::call(index, Call::more(place, text))
                }
            };
            if std::mem::take(&mut told) {
                choice.logprobs = self.telling.logprobs.then(|| state.teller.tell(tokens));
                choice.token_ids = self.telling.token_ids.then(|| ids(tokens));
            }
            let chunk = respond::event(&self.telling.envelope.chunk(choice));
            self.ready.push_back(chunk);
        }
    }

    fn finish(&mut self, index: usize, finish: Finish) {
        let Some(state) = self.choices.get_mut(index) else {
            return;
        };
        let (parts, reason) = match state.saying.finish(finish.reason) {
            Ok(end) => end,
            Err(error) => return self.fail(&error),
        };
        self.say(index, parts, &[]);
        let mut choice = Choice::last(self.telling.envelope.endpoint(), index, reason);
        if self.choices.len() > 1 {
            choice.kv = Some(finish.kv.clone());
        }
        let timings = Timings::longest([&finish.usage].into_iter());
        let chunk = respond::event(
            &self
                .telling
                .envelope
                .end(choice, finish.kv.clone(), timings),
        );
        self.ready.push_back(chunk);
        if let Some(state) = self.choices.get_mut(index) {
            // The token that ends a text is counted and not told.
            let untold = finish
                .usage
                .completion_tokens
                .saturating_sub(state.recorded);
            self.job.trail.generated(untold);
            self.job.trail.finished(state.first, &finish);
            state.finish = Some(finish);
        }
    }

    /// All choices are over.
    fn complete(&mut self) {
        let told = self.choices.iter_mut();
        let finishes: Vec<(bool, Finish)> = told
            .filter_map(|state| Some((state.first, state.finish.take()?)))
            .collect();
        if self.telling.include_usage {
            let (usage, timings) = totals(&finishes);
            let kv = finishes.first().map(|(_, finish)| finish.kv.clone());
            let chunk = respond::event(&self.telling.envelope.counts(usage, kv, timings));
            self.ready.push_back(chunk);
        }
        self.job.trail.answered();
        self.end();
    }

    /// The status was sent long ago, so the error goes into the stream.
    fn fail(&mut self, error: &ApiError) {
        self.job.trail.ended(error);
        // Dropping the other choices cancels them.
        self.pieces = SelectAll::new();
        self.ready.push_back(respond::event(&error.body()));
        self.end();
    }

    fn end(&mut self) {
        self.ready
            .push_back(Bytes::from_static(b"data: [DONE]\n\n"));
        self.over = true;
    }
}
