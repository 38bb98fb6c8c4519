//! A session always to the same replica.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::{Call, Load, Router, least_loaded};

/// The highest hash of the session's name and the replica's place (rendezvous hashing,
/// <https://www.eecs.umich.edu/techreports/cse/96/CSE-TR-316-96.pdf>): nothing is remembered, and when a replica is
/// gone only its own sessions move. It counts for sessions that nobody is known to hold: new ones, those of other
/// daemons, and those that were answered before this process began.
#[derive(Debug)]
pub(super) struct SessionAffinity;

impl Router for SessionAffinity {
    fn choose(&mut self, call: &Call<'_>, replicas: &[Load]) -> Option<usize> {
        let Some(session) = call.session else {
            return least_loaded(replicas);
        };
        let up = replicas.iter().enumerate().filter(|(_, load)| load.up);
        up.max_by(|&(a, one), &(b, other)| {
            let one = claim(session.as_str(), a, one.weight);
            one.total_cmp(&claim(session.as_str(), b, other.weight))
        })
        .map(|(place, _)| place)
    }
}

/// How strongly a replica claims a session: the exponential of a uniform hash, so that claims are won in proportion
/// to the weights.
fn claim(session: &str, place: usize, weight: u32) -> f64 {
    let mut hasher = DefaultHasher::new();
    (session, place).hash(&mut hasher);
    let uniform = (hasher.finish() >> 11) as f64 / (1u64 << 53) as f64;
    f64::from(weight.max(1)) / -(uniform.max(f64::MIN_POSITIVE).ln())
}
