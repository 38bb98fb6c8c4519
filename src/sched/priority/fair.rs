//! Fair shares: keys get tokens in proportion to their weights, as far as they ask for them.
//!
//! Start-time fair queueing (<https://doi.org/10.1145/248157.248171>) with the token counters of VTC
//! (<https://arxiv.org/abs/2401.00588>): each key has a virtual time, the tokens it was served over its weight. Who was
//! served least goes first. A key that was away starts at the least of those present, so absence is not saved up.

use std::collections::HashMap;
use std::time::Instant;

use super::{Candidate, Prioritizer};
use crate::ids::SeqId;
use crate::sched::settings::KeyWeight;

/// Outputs that are expected of a request before any has ended.
const FIRST_GUESS: f64 = 128.0;
/// How much the newest output changes what is expected of the next.
const NEWEST: f64 = 0.1;
/// Ranks are thousandths of virtual tokens.
const FINE: f64 = 1000.0;

/// See the module.
#[derive(Debug)]
pub(super) struct FairShare {
    weights: HashMap<String, f64>,
    keys: HashMap<String, Key>,
    sequences: HashMap<SeqId, Account>,
    /// The outputs that a request is expected to have.
    expected: f64,
    /// The latest virtual time at which a key left.
    left_at: f64,
}

#[derive(Debug, Default)]
struct Key {
    time: f64,
    /// Sequences that wait or run.
    present: usize,
}

#[derive(Debug)]
struct Account {
    key: String,
    prompt: usize,
    /// The key's virtual time when it was let in.
    tag: Option<f64>,
    /// Tokens that its key was charged for.
    charged: f64,
    /// Tokens that it was served.
    served: f64,
}

impl FairShare {
    /// Keys that are not named weigh 1.
    pub(super) fn new(weights: &[KeyWeight]) -> Self {
        let pair = |weight: &KeyWeight| (weight.key.clone(), weight.weight);
        FairShare {
            weights: weights.iter().map(pair).collect(),
            keys: HashMap::new(),
            sequences: HashMap::new(),
            expected: FIRST_GUESS,
            left_at: 0.0,
        }
    }

    fn charge(&mut self, key: &str, tokens: f64) {
        let weight = self.weights.get(key).copied().unwrap_or(1.0);
        if let Some(key) = self.keys.get_mut(key) {
            key.time += tokens / weight;
        }
    }

    fn least_present(&self) -> f64 {
        let present = self.keys.values().filter(|key| key.present > 0);
        let least = present.map(|key| key.time).reduce(f64::min);
        least.unwrap_or(self.left_at)
    }
}

impl Prioritizer for FairShare {
    fn rank(&self, one: &Candidate, _: Instant) -> i64 {
        let tag = self.sequences.get(&one.seq).and_then(|account| account.tag);
        let time = || self.keys.get(&one.standing.key).map(|key| key.time);
        // What runs keeps the place that it was let in at, or it would be paused for being served.
        (tag.or_else(time).unwrap_or_default() * FINE) as i64
    }

    fn arrived(&mut self, one: &Candidate) {
        let least = self.least_present();
        let key = self.keys.entry(one.standing.key.clone()).or_default();
        if key.present == 0 {
            key.time = key.time.max(least);
        }
        key.present += 1;
        let account = Account {
            key: one.standing.key.clone(),
            prompt: one.prompt,
            tag: None,
            charged: 0.0,
            served: 0.0,
        };
        self.sequences.insert(one.seq, account);
    }

    fn started(&mut self, one: &Candidate) {
        let time = self.keys.get(&one.standing.key).map(|key| key.time);
        // Charged at once: of several that are let in together, each sees what those before it will cost.
        let cost = one.prompt as f64 + self.expected.min(one.max_tokens as f64);
        if let Some(account) = self.sequences.get_mut(&one.seq) {
            account.tag = time;
            account.charged = cost;
        }
        self.charge(&one.standing.key, cost);
    }

    fn served(&mut self, seq: SeqId, tokens: usize) {
        let Some(account) = self.sequences.get_mut(&seq) else {
            return;
        };
        account.served += tokens as f64;
        let more = account.served - account.charged;
        if more > 0.0 {
            account.charged = account.served;
            let key = account.key.clone();
            self.charge(&key, more);
        }
    }

    fn ended(&mut self, seq: SeqId) {
        let Some(account) = self.sequences.remove(&seq) else {
            return;
        };
        let output = account.served - account.prompt as f64;
        if output > 0.0 {
            self.expected += (output - self.expected) * NEWEST;
        }
        self.charge(&account.key, account.served - account.charged);
        if let Some(key) = self.keys.get_mut(&account.key) {
            key.present = key.present.saturating_sub(1);
            if key.present == 0 {
                self.left_at = self.left_at.max(key.time);
            }
        }
        // Those whose time all others have passed would start at the least of the present anyway.
        let least = self.least_present();
        self.keys
            .retain(|_, key| key.present > 0 || key.time > least);
    }
}
