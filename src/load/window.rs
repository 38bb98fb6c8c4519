//! Who got how many tokens, over windows of time: whether a server is fair.

use serde::Serialize;

use super::record::Record;

/// Tokens that one caller was served at one time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Served {
    /// Seconds from the start.
    pub at: f64,
    /// The number of the caller's key.
    pub key: usize,
    /// How many.
    pub tokens: f64,
}

/// Tokens of every key in one window.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Window {
    /// Its beginning.
    pub from_s: f64,
    /// Tokens by number of the key.
    pub tokens: Vec<f64>,
}

/// The part of all tokens that a key got.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Share {
    /// Over the whole span.
    pub overall: f64,
    /// In the window, begun at any whole second, in which it was least.
    pub least: f64,
    /// In the one in which it was most.
    pub most: f64,
}

/// The tokens of `record`: those of its prompt when its first part came, and those of its answer spread evenly over its
/// parts.
pub fn served(record: &Record) -> impl Iterator<Item = Served> {
    let key = record.origin.key;
    let each = record.output_tokens() as f64 / record.parts.len().max(1) as f64;
    let prompt = record.counted.map_or(0, |counted| counted.prompt) as f64;
    let prompt = record.parts.first().map(|&at| (at, prompt));
    let parts = record.parts.iter().map(move |&at| (at, each));
    prompt
        .into_iter()
        .chain(parts)
        .map(move |(at, tokens)| Served { at, key, tokens })
}

/// Tokens a key in windows of `length` seconds that follow each other from `from` on, the last one whole before `to`.
pub fn windows(served: &[Served], keys: usize, length: f64, (from, to): (f64, f64)) -> Vec<Window> {
    let count = windows_before(to - from, length);
    let mut windows: Vec<Window> = (0..count)
        .map(|at| Window {
            from_s: from + at as f64 * length,
            tokens: vec![0.0; keys],
        })
        .collect();
    for one in served.iter().filter(|one| one.at >= from) {
        let at = ((one.at - from) / length) as usize;
        let cell = windows
            .get_mut(at)
            .and_then(|window| window.tokens.get_mut(one.key));
        if let Some(tokens) = cell {
            *tokens += one.tokens;
        }
    }
    windows
}

fn windows_before(span: f64, length: f64) -> usize {
    if length > 0.0 && span >= length {
        (span / length + 1e-9) as usize
    } else {
        0
    }
}

/// The share of each key over windows of `length` seconds that begin at each second of the span. `None` where the span
/// is shorter than a window, or a window has no tokens.
pub fn shares(served: &[Served], keys: usize, length: f64, span: (f64, f64)) -> Option<Vec<Share>> {
    let seconds = windows(served, keys, 1.0, span);
    let width = length.round().max(1.0) as usize;
    let of = |windows: &[Window], key: usize| -> Option<f64> {
        let of_key: f64 = windows
            .iter()
            .filter_map(|window| window.tokens.get(key))
            .sum();
        let of_all: f64 = windows.iter().flat_map(|window| &window.tokens).sum();
        (of_all > 0.0).then(|| of_key / of_all)
    };
    let share = |key: usize| {
        let sliding: Option<Vec<f64>> = seconds
            .windows(width)
            .map(|window| of(window, key))
            .collect();
        let sliding = sliding.filter(|sliding| !sliding.is_empty())?;
        Some(Share {
            overall: of(&seconds, key)?,
            least: sliding.iter().copied().fold(1.0, f64::min),
            most: sliding.iter().copied().fold(0.0, f64::max),
        })
    };
    (0..keys).map(share).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::record::testing;
    use proptest::prelude::*;

    fn at(at: f64, key: usize, tokens: f64) -> Served {
        Served { at, key, tokens }
    }

    #[test]
    fn tokens_fall_into_their_windows() {
        let all = [
            at(0.5, 0, 9.0),
            at(1.0, 0, 1.0),
            at(2.9, 1, 2.0),
            at(3.0, 1, 4.0),
            at(7.0, 0, 8.0),
        ];
        let windows = windows(&all, 2, 2.0, (1.0, 6.9));
        let tokens: Vec<_> = windows
            .iter()
            .map(|w| (w.from_s, w.tokens.clone()))
            .collect();
        assert_eq!(tokens, [(1.0, vec![1.0, 2.0]), (3.0, vec![0.0, 4.0])]);
    }

    #[test]
    fn a_key_that_starves_for_a_while_is_seen() {
        // Two keys share evenly, but for 10 seconds in which the second gets a quarter.
        let all: Vec<Served> = (0..60)
            .flat_map(|second| {
                let own = if (20..30).contains(&second) { 1.0 } else { 3.0 };
                [at(f64::from(second), 0, 3.0), at(f64::from(second), 1, own)]
            })
            .collect();
        let shares = shares(&all, 2, 10.0, (0.0, 60.0)).unwrap();
        assert!((shares[1].least - 0.25).abs() < 1e-9 && (shares[1].most - 0.5).abs() < 1e-9);
        assert!((shares[0].most - 0.75).abs() < 1e-9);
        assert!(shares[1].overall > 0.4 && shares[1].overall < 0.5);
        assert!((shares[0].overall + shares[1].overall - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_short_run_has_no_shares() {
        assert_eq!(shares(&[at(0.0, 0, 1.0)], 1, 30.0, (0.0, 29.0)), None);
        assert_eq!(shares(&[], 1, 30.0, (0.0, 90.0)), None);
    }

    #[test]
    fn a_request_gives_its_prompt_and_its_parts() {
        let record = testing::served(1.0, 4);
        let all: Vec<Served> = served(&record).collect();
        assert_eq!(all.len(), 5);
        assert_eq!(all.iter().map(|one| one.tokens).sum::<f64>(), 14.0);
        assert_eq!(served(&testing::refused(1.0)).count(), 0);
    }

    proptest! {
        #[test]
        fn shares_sum_to_one(tokens in prop::collection::vec((0.0_f64..40.0, 0_usize..3, 1.0_f64..50.0), 1..200)) {
            let mut all: Vec<Served> = tokens.into_iter().map(|(time, key, tokens)| at(time, key, tokens)).collect();
            all.extend((0..40).map(|second| at(f64::from(second), 0, 1.0)));
            let shares = shares(&all, 3, 10.0, (0.0, 40.0)).unwrap();
            let sum: f64 = shares.iter().map(|share| share.overall).sum();
            prop_assert!((sum - 1.0).abs() < 1e-9);
            for share in shares {
                prop_assert!(share.least <= share.overall + 1e-9 || share.most >= share.overall - 1e-9);
                prop_assert!(0.0 <= share.least && share.least <= share.most && share.most <= 1.0);
            }
        }
    }
}
