//! Who got what of a run with several keys, for its report.

use serde::Serialize;

use super::drive::{Order, Run};
use super::key::Key;
use super::quantile::{Sorted, Summary};
use super::record::{Outcome, Record};
use super::report::per_second;
use super::window::{Served, Share, Window, served, shares, windows};

/// Who got what.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fairness {
    /// The length of a window.
    pub window_s: f64,
    /// From when to when windows lie: from the first token to the end of the arrivals.
    pub span_s: (f64, f64),
    /// Requests and tokens by key.
    pub keys: Vec<KeyReport>,
    /// Tokens of each key (in the order of `keys`) in windows that follow each other.
    pub windows: Vec<WindowReport>,
}

/// What one key got.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KeyReport {
    /// Its name.
    pub name: String,
    /// Requests that were sent.
    pub sent: usize,
    /// Requests that were served.
    pub served: usize,
    /// Tokens of prompts and answers.
    pub tokens: u64,
    /// Its share of all tokens; absent for a run that is shorter than a window.
    pub share: Option<Share>,
    /// From the intended arrival to the first text.
    pub ttft_s: Summary,
}

/// Tokens in one window.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WindowReport {
    /// Its beginning.
    pub from_s: f64,
    /// Tokens by key.
    pub tokens: Vec<u64>,
    /// Shares by key; zeros for a window without tokens.
    pub shares: Vec<f64>,
}

impl Fairness {
    /// What the keys of `order` got in `run`, over windows of `window_s` seconds.
    pub fn new(order: &Order, run: &Run, window_s: f64) -> Self {
        let tokens: Vec<Served> = run.records.iter().flat_map(served).collect();
        let first = tokens
            .iter()
            .map(|one| one.at)
            .fold(f64::INFINITY, f64::min);
        let span = (first.min(run.arrival_s), run.arrival_s);
        let count = order.keys.len();
        let shares = shares(&tokens, count, window_s, span);
        let key = |(number, key): (usize, &Key)| {
            let own = || run.records.iter().filter(move |r| r.origin.key == number);
            let sum: f64 = tokens
                .iter()
                .filter(|one| one.key == number)
                .map(|one| one.tokens)
                .sum();
            KeyReport {
                name: key.name.clone(),
                sent: own().count(),
                served: own().filter(|r| r.outcome == Outcome::Served).count(),
                tokens: sum.round() as u64,
                share: shares
                    .as_ref()
                    .and_then(|shares| shares.get(number))
                    .copied(),
                ttft_s: own().filter_map(Record::ttft).collect::<Sorted>().summary(),
            }
        };
        let window = |window: Window| {
            let sum: f64 = window.tokens.iter().sum();
            WindowReport {
                from_s: window.from_s,
                tokens: window
                    .tokens
                    .iter()
                    .map(|tokens| tokens.round() as u64)
                    .collect(),
                shares: window
                    .tokens
                    .iter()
                    .map(|tokens| per_second(*tokens, sum))
                    .collect(),
            }
        };
        Fairness {
            window_s,
            span_s: span,
            keys: order.keys.iter().enumerate().map(key).collect(),
            windows: windows(&tokens, count, window_s, span)
                .into_iter()
                .map(window)
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::record::testing::served as answered;
    use crate::load::report::testing::order;

    #[test]
    fn keys_are_told_apart() {
        let mut second = answered(1.52, 30);
        second.origin.key = 1;
        let records = vec![answered(0.0, 10), second];
        let run = Run {
            records,
            arrival_s: 10.0,
            whole_s: 20.0,
            ..Run::default()
        };
        let fairness = Fairness::new(&order(&["a=1", "b=1"]), &run, 2.0);
        let tokens: Vec<_> = fairness
            .keys
            .iter()
            .map(|key| (key.name.as_str(), key.tokens))
            .collect();
        assert_eq!(tokens, [("a", 20), ("b", 40)]);
        assert_eq!(fairness.windows.len(), 4);
        assert_eq!(fairness.windows[0].tokens, [20, 20]);
        // Windows after the last token are empty, so no share can be told of each.
        assert!(fairness.keys[0].share.is_none());
    }
}
