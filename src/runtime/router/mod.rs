//! Which replica of a model a request goes to: one policy a file, pure, chosen by `runtime.router`.
//!
//! A session that was answered before has its cache on one replica, so every policy is passed over for it:
//! [`route`] sends it home. A policy decides about all others.

mod least_load;
mod prefix;
mod round_robin;
mod session;
#[cfg(test)]
mod tests;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{SessionId, TokenId};

use least_load::LeastLoad;
use prefix::PrefixAffinity;
use round_robin::RoundRobin;
use session::SessionAffinity;

/// How the replica of a request is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum RouterKind {
    /// Each in turn, by weight.
    RoundRobin,
    /// The one with the fewest waiting tokens and running sequences.
    LeastLoad,
    /// The one that was sent the longest beginning of the prompt, unless waiting there takes more than it spares.
    #[default]
    Prefix,
    /// By the session's name; the least loaded for a request without a session.
    Session,
}

impl RouterKind {
    /// Its name in settings and metrics.
    pub fn name(self) -> &'static str {
        match self {
            RouterKind::RoundRobin => "round_robin",
            RouterKind::LeastLoad => "least_load",
            RouterKind::Prefix => "prefix",
            RouterKind::Session => "session",
        }
    }

    /// A policy that has seen nothing.
    pub fn router(self) -> Box<dyn Router> {
        match self {
            RouterKind::RoundRobin => Box::new(RoundRobin::default()),
            RouterKind::LeastLoad => Box::new(LeastLoad),
            RouterKind::Prefix => Box::new(PrefixAffinity::default()),
            RouterKind::Session => Box::new(SessionAffinity),
        }
    }
}

/// What is known of a request before it is sent anywhere.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// Its prompt; bytes of the text where there is no tokenizer.
    pub prompt: &'a [TokenId],
    /// The session that it is a turn of.
    pub session: Option<&'a SessionId>,
    /// The replica that has the session's cache.
    pub home: Option<usize>,
}

/// What is known of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Prompt tokens that wait.
    pub waiting_tokens: usize,
    /// Sequences in its batch.
    pub running: usize,
    /// How much it takes in beside others; at least 1.
    pub weight: u32,
    /// Whether it answers.
    pub up: bool,
}

impl Load {
    /// An idle one of weight 1.
    pub fn idle() -> Self {
        Load {
            waiting_tokens: 0,
            running: 0,
            weight: 1,
            up: true,
        }
    }

    /// Tokens that are to be computed before those of a new request, by weight.
    fn cost(&self) -> f64 {
        (self.waiting_tokens + self.running) as f64 / f64::from(self.weight.max(1))
    }
}

/// A policy.
pub trait Router: Send {
    /// Chooses among `replicas`, of which at least one is up.
    fn choose(&mut self, call: &Call<'_>, replicas: &[Load]) -> Option<usize>;
}

/// Where `call` goes: home if it has one that is up, else where `router` sends it; `None` when none is up.
pub fn route(router: &mut dyn Router, call: &Call<'_>, replicas: &[Load]) -> Option<usize> {
    if let [only] = replicas {
        // There is nothing to choose, and so nothing to remember.
        return only.up.then_some(0);
    }
    let is_up = |&place: &usize| replicas.get(place).is_some_and(|load| load.up);
    let home = call.home.filter(is_up);
    if home.is_some() || !replicas.iter().any(|load| load.up) {
        return home;
    }
    router.choose(call, replicas).filter(is_up)
}

/// The least loaded of those that are up, the first of several.
fn least_loaded(replicas: &[Load]) -> Option<usize> {
    let up = replicas.iter().enumerate().filter(|(_, load)| load.up);
    up.min_by(|(_, a), (_, b)| a.cost().total_cmp(&b.cost()))
        .map(|(place, _)| place)
}
