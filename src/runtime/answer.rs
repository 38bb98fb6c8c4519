//! The caller's end of a generation: ids become text, stop strings end it, leaving cancels it.

use actix::Addr;
use tokio::sync::mpsc;

use super::engine::Engine;
use super::orders::Finish as FinishSequence;
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
    /// The end.
    Done(Finish),
}

/// A generated token.
#[derive(Debug, Clone)]
pub struct TokenPiece {
    /// Its id.
    pub token: TokenId,
    /// Its log-probability, when asked for.
    pub logprob: Option<TokenLogprob>,
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
}

/// A running generation. Dropping it cancels the work at the engine's next step.
pub struct Answer {
    seq: SeqId,
    engine: Addr<Engine>,
    events: mpsc::Receiver<Event>,
    detokenizer: Detokenizer,
    stop: StopMatcher,
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
            done: None,
            over: false,
        }
    }

    /// The next part; `None` after [`Piece::Done`] or an error.
    pub async fn next(&mut self) -> Option<Result<Piece, Failure>> {
        if self.over {
            return None;
        }
        if let Some(finish) = self.done.take() {
            self.over = true;
            return Some(Ok(Piece::Done(finish)));
        }
        match self.events.recv().await {
            Some(Event::Token { token, logprob }) => {
                let text = self.detokenizer.push(token);
                Some(self.text(text, Some(TokenPiece { token, logprob })).await)
            }
            Some(Event::Finished { reason, usage, kv }) => {
                self.done = Some(Finish { reason, usage, kv });
                let rest = self.detokenizer.flush();
                let mut step = self.stop.push(&rest);
                if step.hit.is_none() {
                    step.emit.push_str(&self.stop.flush());
                }
                Some(Ok(Piece::Text {
                    text: step.emit,
                    tokens: Vec::new(),
                }))
            }
            Some(Event::Failed(failure)) => Some(self.fail(failure)),
            None => Some(self.fail(Failure::WorkerLost(
                "the engine was stopped and starts again".to_owned(),
            ))),
        }
    }

    /// All of it at once: text, tokens and end.
    pub async fn collect(mut self) -> Result<(String, Vec<TokenPiece>, Finish), Failure> {
        let (mut all, mut pieces) = (String::new(), Vec::new());
        while let Some(piece) = self.next().await {
            match piece? {
                Piece::Text { text, tokens } => {
                    all.push_str(&text);
                    pieces.extend(tokens);
                }
                Piece::Done(finish) => return Ok((all, pieces, finish)),
            }
        }
        Err(Failure::ShutDown)
    }

    async fn text(&mut self, text: String, token: Option<TokenPiece>) -> Result<Piece, Failure> {
        let step = self.stop.push(&text);
        if step.hit.is_some() {
            // The engine need not know strings: it is told to end here, and answers with what was used. The channel
            // stays open until then: closed, it would say that the caller has left.
            let ended = self.engine.send(FinishSequence { seq: self.seq }).await;
            let (usage, kv) = match ended {
                Ok(Some(ended)) => ended,
                _ => self.already_over()?,
            };
            self.done = Some(Finish {
                reason: FinishReason::Stop,
                usage,
                kv,
            });
        }
        Ok(Piece::Text {
            text: step.emit,
            tokens: token.into_iter().collect(),
        })
    }

    /// The stop string came with the last token, so the engine had ended the sequence by itself.
    fn already_over(&mut self) -> Result<(Usage, KvReport), Failure> {
        while let Ok(event) = self.events.try_recv() {
            match event {
                Event::Finished { usage, kv, .. } => return Ok((usage, kv)),
                Event::Failed(failure) => {
                    self.over = true;
                    return Err(failure);
                }
                Event::Token { .. } => {}
            }
        }
        self.over = true;
        Err(Failure::WorkerLost(
            "the engine was stopped and starts again".to_owned(),
        ))
    }

    fn fail(&mut self, failure: Failure) -> Result<Piece, Failure> {
        self.over = true;
        Err(failure)
    }
}
