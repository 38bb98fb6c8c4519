//! Who goes first: one pure policy a file behind [`Prioritizer`]. Time is an argument; the lower rank runs first, and
//! the earlier sequence among equals.

mod classes;
mod deadline;
mod fair;
mod fcfs;
mod slack;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::{Duration, Instant};

use super::request::Standing;
use super::settings::{Config, PolicyKind};
use crate::ids::SeqId;

use classes::Classes;
use deadline::Deadline;
use fair::FairShare;
use fcfs::FirstCome;
use slack::LeastSlack;

/// What a prioritizer sees of a sequence.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// Which.
    pub seq: SeqId,
    /// What it was submitted with.
    pub standing: &'a Standing,
    /// When that was.
    pub arrived: Instant,
    /// Tokens of its prompt.
    pub prompt: usize,
    /// Those of them that are still to be read.
    pub left: usize,
    /// Tokens that it may generate at most.
    pub max_tokens: usize,
    /// How long reading the whole prompt was predicted to take when it arrived; zero before anything was measured.
    pub prefill: Duration,
}

/// An order of sequences. Told of each one's life, so that it can keep accounts.
pub trait Prioritizer: fmt::Debug + Send {
    /// The rank of a sequence; the lower runs first.
    fn rank(&self, one: &Candidate, now: Instant) -> i64;

    /// A sequence begins to wait.
    fn arrived(&mut self, _one: &Candidate) {}

    /// It was let in for the first time.
    fn started(&mut self, _one: &Candidate) {}

    /// Tokens of it were computed.
    fn served(&mut self, _seq: SeqId, _tokens: usize) {}

    /// It is over, whatever it waited or ran for.
    fn ended(&mut self, _seq: SeqId) {}
}

/// The prioritizer of a configuration.
pub fn prioritizer(config: &Config) -> Box<dyn Prioritizer> {
    match config.policy {
        PolicyKind::Fcfs => Box::new(FirstCome),
        PolicyKind::Priority => Box::new(Classes::new(config.ageing.get())),
        PolicyKind::Fair => Box::new(FairShare::new(&config.key_weights)),
        PolicyKind::Deadline => Box::new(Deadline),
        PolicyKind::Slack => Box::new(LeastSlack),
    }
}

/// Microseconds from `to` back to `from`; negative when `from` is later.
fn micros_between(from: Instant, to: Instant) -> i64 {
    let whole = |span: Duration| i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
    match to.checked_duration_since(from) {
        Some(span) => whole(span),
        None => -whole(from.saturating_duration_since(to)),
    }
}
