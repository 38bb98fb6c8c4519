//! The caller's end of a generation: ids become text, stop strings end it, leaving cancels it.

use actix::Addr;
use futures_util::FutureExt;
use tokio::sync::mpsc;

use super::engine::Engine;
use super::orders::Finish as FinishSequence;
use super::pool::{Pool, Pooling};
use super::sessions::Draft;
use crate::ids::{SeqId, TokenId};
use crate::kv::KvReport;
use crate::sample::{StopMatcher, TokenLogprob};
use crate::sched::{Event, Failure, FinishReason, Usage};
use crate::text::{Detokenizer, Tokenizer};

/// A part of an answer.
#[derive(Debug, Clone)]
pub enum Piece {
    /// More text. The text of a token may come later than the token: half a character is never sent, nor the
    /// beginning of what may become a stop string.
    Text {
        /// New text, possibly empty.
        text: String,
        /// The tokens that were generated since the last piece.
        tokens: Vec<TokenPiece>,
    },
    /// Log-probabilities of the next tokens of the prompt, from its second on, when they are asked for.
    Prompt(Vec<TokenLogprob>),
    /// The end.
    Done(Box<Finish>),
}

/// A generated token.
#[derive(Debug, Clone)]
pub struct TokenPiece {
    /// Its id.
    pub token: TokenId,
    /// Its log-probability, when asked for.
    pub logprob: Option<TokenLogprob>,
}

/// An answer as a whole.
#[derive(Debug, Clone)]
pub struct Collected {
    /// Its text.
    pub text: String,
    /// Its tokens.
    pub tokens: Vec<TokenPiece>,
    /// Log-probabilities of the prompt's tokens from the second on, when they were asked for.
    pub prompt: Vec<TokenLogprob>,
    /// How it ended.
    pub finish: Finish,
}

/// How an answer ended.
#[derive(Debug, Clone)]
pub struct Finish {
    /// Why.
    pub reason: FinishReason,
    /// What it took.
    pub usage: Usage,
    /// What was kept.
    pub kv: KvReport,
    /// The stop string that ended it.
    pub stop: Option<String>,
}

/// A running generation. Dropping it cancels the work at the engine's next step.
pub struct Answer {
    seq: SeqId,
    engine: Addr<Engine>,
    events: mpsc::Receiver<Event>,
    detokenizer: Detokenizer,
    stop: StopMatcher,
    /// A stop string was met: what was generated after it is not told.
    stopped: bool,
    /// Tokens that came, and the last of them.
    came: (usize, Option<TokenId>),
    draft: Option<Draft>,
    /// What was told, when it becomes part of a session.
    said: String,
    done: Option<Finish>,
    over: bool,
}

impl Answer {
    pub(super) fn new(
        seq: SeqId,
        engine: Addr<Engine>,
        events: mpsc::Receiver<Event>,
        tokenizer: &Tokenizer,
        stop: StopMatcher,
    ) -> Self {
        Answer {
            seq,
            engine,
            events,
            detokenizer: Detokenizer::new(tokenizer),
            stop,
            stopped: false,
            came: (0, None),
            draft: None,
            said: String::new(),
            done: None,
            over: false,
        }
    }

    /// Makes the answer part of the session that its request continues, once it is complete.
    #[must_use]
    pub fn in_session(mut self, draft: Draft) -> Self {
        self.draft = Some(draft);
        self
    }

    /// The next part; `None` after [`Piece::Done`] or an error.
    pub async fn next(&mut self) -> Option<Result<Piece, Failure>> {
        if self.over {
            return None;
        }
        if let Some(finish) = self.done.take() {
            self.over = true;
            return Some(Ok(Piece::Done(Box::new(finish))));
        }
        match self.events.recv().await {
            Some(Event::Token { token, logprob }) => {
                let text = self.take(token);
                if self.stopped
                    && let Err(failure) = self.stop_here().await
                {
                    return Some(self.fail(failure));
                }
                Some(Ok(Piece::Text {
                    text,
                    tokens: vec![TokenPiece { token, logprob }],
                }))
            }
            Some(Event::Finished { reason, usage, kv }) => {
                let text = self.finish(self.end(reason, usage, kv));
                Some(Ok(Piece::Text {
                    text,
                    tokens: Vec::new(),
                }))
            }
            Some(Event::Prompt(told)) => Some(Ok(Piece::Prompt(told))),
            // Only `embed` asks for them, and it reads them itself.
            Some(Event::States(..)) => Some(Ok(Piece::Prompt(Vec::new()))),
            Some(Event::Failed(failure)) => Some(self.fail(failure)),
            None => Some(self.fail(stopped_engine())),
        }
    }

    /// All of it at once.
    pub async fn collect(mut self) -> Result<Collected, Failure> {
        let (mut text, mut tokens, mut prompt) = (String::new(), Vec::new(), Vec::new());
        while let Some(piece) = self.next().await {
            match piece? {
                Piece::Text {
                    text: more,
                    tokens: came,
                } => {
                    text.push_str(&more);
                    tokens.extend(came);
                }
                Piece::Prompt(told) => prompt.extend(told),
                Piece::Done(finish) => {
                    return Ok(Collected {
                        text,
                        tokens,
                        prompt,
                        finish: *finish,
                    });
                }
            }
        }
        Err(Failure::ShutDown)
    }

    /// The hidden states of the prompt as one, `[hidden]`, and what it took. The request asks for
    /// [`OfPrompt::States`](crate::sched::OfPrompt::States) and no tokens.
    pub async fn embed(mut self, pooling: Pooling) -> Result<(Vec<f32>, Finish), Failure> {
        let mut pool = Pool::new(pooling);
        loop {
            match self.events.recv().await {
                Some(Event::States(tokens, states)) => pool.add(tokens, &states),
                Some(Event::Token { .. } | Event::Prompt(_)) => {}
                Some(Event::Finished { reason, usage, kv }) => {
                    return Ok((pool.finish(), self.end(reason, usage, kv)));
                }
                Some(Event::Failed(failure)) => return Err(failure),
                None => return Err(stopped_engine()),
            }
        }
    }

    /// The text that a token adds.
    fn take(&mut self, token: TokenId) -> String {
        self.came = (self.came.0 + 1, Some(token));
        if let Some(draft) = &mut self.draft {
            draft.feed(&[token]);
        }
        if self.stopped {
            return String::new();
        }
        let text = self.detokenizer.push(token);
        let step = self.stop.push(&text);
        self.stopped = step.hit.is_some();
        self.say(step.emit)
    }

    /// The text that was held back until the end.
    fn finish(&mut self, finish: Finish) -> String {
        let mut rest = String::new();
        if !self.stopped {
            let step = self.stop.push(&self.detokenizer.flush());
            rest = step.emit;
            if step.hit.is_none() {
                rest.push_str(&self.stop.flush());
            }
        }
        let rest = self.say(rest);
        self.commit(&finish.usage);
        self.done = Some(finish);
        rest
    }

    fn end(&self, reason: FinishReason, usage: Usage, kv: KvReport) -> Finish {
        Finish {
            reason,
            usage,
            kv,
            stop: self.stop.met().map(str::to_owned),
        }
    }

    fn say(&mut self, text: String) -> String {
        if self.draft.is_some() {
            self.said.push_str(&text);
        }
        text
    }

    /// The engine has ended the sequence and parks its cache.
    fn commit(&mut self, usage: &Usage) {
        let Some(draft) = self.draft.take() else {
            return;
        };
        let (came, last) = self.came;
        // The token that ends a text is counted and does not come. Any other last token was drawn, and then no step
        // needed it; or one was under way when a stop string was met, and the device passes over what it has seen.
        let pending = last.filter(|_| came == usage.completion_tokens);
        let seen = (usage.prompt_tokens + usage.completion_tokens).saturating_sub(1);
        draft.commit(std::mem::take(&mut self.said), seen, pending);
    }

    /// The engine need not know strings: it is told to end here. The channel stays open until it has: closed, it would
    /// say that the caller has left.
    async fn stop_here(&mut self) -> Result<(), Failure> {
        // When it is gone, there is no end among the events.
        let _ = self.engine.send(FinishSequence { seq: self.seq }).await;
        // A step with guesses that is under way comes first.
        while let Some(event) = self.events.recv().await {
            match event {
                Event::Token { token, .. } => {
                    self.take(token);
                }
                Event::Finished { usage, kv, .. } => {
                    let reason = FinishReason::Stop;
                    self.finish(self.end(reason, usage, kv));
                    return Ok(());
                }
                Event::Failed(failure) => return Err(failure),
                Event::Prompt(_) | Event::States(..) => {}
            }
        }
        Err(stopped_engine())
    }

    fn fail(&mut self, failure: Failure) -> Result<Piece, Failure> {
        self.over = true;
        Err(failure)
    }
}

impl Drop for Answer {
    /// An end that was sent is one that the session has moved to, read or not. One that comes later is refused by the
    /// closed channel, and then the engine does not park.
    fn drop(&mut self) {
        if self.draft.is_none() {
            return;
        }
        self.events.close();
        loop {
            // Without its budget a task may find a channel empty that is not.
            let event = tokio::task::unconstrained(self.events.recv()).now_or_never();
            match event {
                Some(Some(Event::Token { token, .. })) => {
                    self.take(token);
                }
                Some(Some(Event::Finished { reason, usage, kv })) => {
                    self.finish(self.end(reason, usage, kv));
                }
                Some(Some(Event::Prompt(_) | Event::States(..))) => {}
                Some(Some(Event::Failed(_)) | None) => break,
                // The engine's thread is in the middle of sending.
                None => std::thread::yield_now(),
            }
        }
    }
}

fn stopped_engine() -> Failure {
    Failure::WorkerLost("the engine was stopped and starts again".to_owned())
}
