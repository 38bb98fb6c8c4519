//! Where the end of a text has occurred in it before: hash chains over pairs of tokens, as compressors keep them
//! (<https://www.rfc-editor.org/rfc/rfc1951#section-4>).

use std::collections::HashMap;
use std::num::NonZeroU32;

use crate::ids::TokenId;

/// Earlier places of a pair that are compared, newest first.
const TRIES: usize = 64;

/// Tokens that are compared at each: a longer match is as good as one of this length.
const LONGEST: usize = 32;

/// A text that grows, in constant time a token.
#[derive(Debug, Default)]
pub(super) struct Lookup {
    tokens: Vec<TokenId>,
    /// The newest place that follows a pair.
    newest: HashMap<[TokenId; 2], NonZeroU32>,
    /// For each place, the one before it that follows the same pair.
    older: Vec<Option<NonZeroU32>>,
}

/// An earlier place that the end of the text resembles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    /// Where what followed begins.
    at: usize,
    /// Tokens before it that are the last of the text, from 2 up to [`LONGEST`].
    pub(super) matched: usize,
}

impl Lookup {
    /// Adds a token.
    pub(super) fn push(&mut self, token: TokenId) {
        let place = u32::try_from(self.tokens.len())
            .ok()
            .and_then(NonZeroU32::new);
        // The last pair is known from here on: only now something follows it.
        let older = match (self.last_pair(), place) {
            (Some(pair), Some(place)) => self.newest.insert(pair, place),
            _ => None,
        };
        self.older.push(older);
        self.tokens.push(token);
    }

    fn last_pair(&self) -> Option<[TokenId; 2]> {
        self.tokens.last_chunk::<2>().copied()
    }

    /// The place whose past is longest like the end of the text; of equals, the newest.
    pub(super) fn find(&self) -> Option<Found> {
        let mut place = self.newest.get(&self.last_pair()?).copied();
        let mut best: Option<Found> = None;
        for _ in 0..TRIES {
            let Some(at) = place.map(|place| place.get() as usize) else {
                break;
            };
            let matched = self.matched(at);
            if best.is_none_or(|best| matched > best.matched) {
                best = Some(Found { at, matched });
            }
            if matched == LONGEST {
                break;
            }
            place = self.older.get(at).copied().flatten();
        }
        best
    }

    fn matched(&self, at: usize) -> usize {
        let past = self.tokens.get(..at).unwrap_or_default();
        let pairs = past.iter().rev().zip(self.tokens.iter().rev());
        pairs.take(LONGEST).take_while(|(a, b)| a == b).count()
    }

    /// What followed there, `count` tokens. A place so near that the text ends first goes on with itself.
    pub(super) fn after(&self, found: &Found, count: usize) -> Vec<TokenId> {
        let period = self.tokens.get(found.at..).unwrap_or_default();
        period.iter().copied().cycle().take(count).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(tokens: &[TokenId]) -> Lookup {
        let mut lookup = Lookup::default();
        tokens.iter().for_each(|&token| lookup.push(token));
        lookup
    }

    /// Compares every place.
    fn naive(tokens: &[TokenId]) -> Option<Found> {
        let common = |at: usize| {
            let pairs = tokens[..at].iter().rev().zip(tokens.iter().rev());
            pairs.take(LONGEST).take_while(|(a, b)| a == b).count()
        };
        let places = (1..tokens.len()).map(|at| Found {
            at,
            matched: common(at),
        });
        places
            .filter(|found| found.matched >= 2)
            .max_by_key(|found| (found.matched, found.at))
    }

    #[test]
    fn the_longest_match_wins_and_a_period_goes_on() {
        let cases: [(&[TokenId], &[TokenId]); 5] = [
            (&[], &[]),
            (&[7, 7], &[]),
            (&[1, 2, 3, 9, 2, 3, 4, 5, 1, 2, 3], &[9, 2, 3, 4]),
            (&[5, 1, 2, 6, 1, 2], &[6, 1, 2, 6]),
            (&[8, 3, 3, 3], &[3, 3, 3, 3]),
        ];
        for (text, expected) in cases {
            let lookup = of(text);
            let found = lookup.find();
            let after = found
                .map(|found| lookup.after(&found, 4))
                .unwrap_or_default();
            assert_eq!(after, expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn the_index_finds_what_a_scan_finds(tokens in prop::collection::vec(0u32..5, 0..60)) {
            prop_assert_eq!(of(&tokens).find(), naive(&tokens));
        }

        #[test]
        fn what_is_proposed_has_followed_the_same_tokens(tokens in prop::collection::vec(0u32..4, 2..200), count in 1usize..20) {
            let lookup = of(&tokens);
            let Some(found) = lookup.find() else { return Ok(()) };
            let after = lookup.after(&found, count);
            prop_assert_eq!(after.len(), count);
            let whole = [&tokens[..], &after].concat();
            let again = &whole[found.at..];
            prop_assert_eq!(&again[..after.len()], &after[..]);
            let end = tokens.len();
            prop_assert_eq!(&tokens[found.at - found.matched..found.at], &tokens[end - found.matched..]);
        }
    }
}
