//! Stop strings in a stream of text: nothing of one is ever shown, wherever pieces are cut.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use super::raw::BadParam;

/// Most stop strings of a request.
pub const MAX_STOPS: usize = 16;
/// Most bytes of one.
pub const MAX_STOP_BYTES: usize = 256;

/// What is known after a piece of text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopStep {
    /// Text that is certainly not part of a stop string.
    pub emit: String,
    /// The stop string that ended the text, as its place in the list.
    pub hit: Option<usize>,
}

/// Looks for stop strings in text that comes in pieces.
///
/// The text ends with the first character that completes a stop string; if that completes several,
/// the longest counts, of equals the first of the list.
#[derive(Debug, Clone)]
pub struct StopMatcher {
    stops: Vec<String>,
    /// The end of the text so far, if it may be the start of a stop string.
    held: String,
    hit: Option<usize>,
}

impl StopMatcher {
    /// A matcher at the start of a text.
    ///
    /// # Errors
    /// More than [`MAX_STOPS`] strings, or one that is empty or longer than [`MAX_STOP_BYTES`].
    pub fn new(stops: Vec<String>) -> Result<Self, BadParam> {
        let bad = |reason| BadParam {
            param: "stop",
            reason,
        };
        if stops.len() > MAX_STOPS {
            let reason = format!(
                "has {} strings, at most {MAX_STOPS} are allowed",
                stops.len()
            );
            return Err(bad(reason));
        }
        if let Some(stop) = stops
            .iter()
            .find(|s| s.is_empty() || s.len() > MAX_STOP_BYTES)
        {
            let reason = format!(
                "has a string of {} bytes, use 1 to {MAX_STOP_BYTES}",
                stop.len()
            );
            return Err(bad(reason));
        }
        Ok(StopMatcher {
            stops,
            held: String::new(),
            hit: None,
        })
    }

    /// Adds a piece of text. After a hit nothing more is emitted, and the hit is told again.
    pub fn push(&mut self, piece: &str) -> StopStep {
        if self.hit.is_some() {
            return StopStep {
                emit: String::new(),
                hit: self.hit,
            };
        }
        if self.stops.is_empty() {
            return StopStep {
                emit: piece.to_owned(),
                hit: None,
            };
        }
        for c in piece.chars() {
            self.held.push(c);
            if let Some((at, stop)) = self.complete() {
                self.hit = Some(at);
                self.held.truncate(self.held.len() - stop);
                return StopStep {
                    emit: std::mem::take(&mut self.held),
                    hit: self.hit,
                };
            }
        }
        let rest = self.held.split_off(self.certain());
        StopStep {
            emit: std::mem::replace(&mut self.held, rest),
            hit: None,
        }
    }

    /// The string that ended the text.
    pub fn met(&self) -> Option<&str> {
        self.stops.get(self.hit?).map(String::as_str)
    }

    /// What was held back, when no more text comes.
    pub fn flush(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// The stop string that the held text ends with: its place and its length in bytes.
    fn complete(&self) -> Option<(usize, usize)> {
        let ended = self
            .stops
            .iter()
            .enumerate()
            .filter(|(_, s)| self.held.ends_with(s.as_str()));
        ended
            .map(|(at, stop)| (at, stop.len()))
            .max_by_key(|(at, len)| (*len, usize::MAX - at))
    }

    /// How many bytes of the held text can no longer be part of a stop string.
    fn certain(&self) -> usize {
        let may_start = |start: &usize| {
            let tail = self.held.get(*start..).unwrap_or_default();
            self.stops.iter().any(|stop| stop.starts_with(tail))
        };
        let from = self.held.len().saturating_sub(MAX_STOP_BYTES);
        let starts = self
            .held
            .char_indices()
            .map(|(at, _)| at)
            .filter(|at| *at >= from);
        starts
            .into_iter()
            .find(may_start)
            .unwrap_or(self.held.len())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matcher(stops: &[&str]) -> StopMatcher {
        StopMatcher::new(stops.iter().map(|s| s.to_string()).collect()).unwrap()
    }

    fn run(stops: &[&str], pieces: &[&str]) -> (String, Option<usize>) {
        let mut matcher = matcher(stops);
        let mut shown = String::new();
        let mut hit = None;
        for piece in pieces {
            let step = matcher.push(piece);
            shown += &step.emit;
            hit = step.hit;
        }
        (shown + &matcher.flush(), hit)
    }

    /// For each end of the text in turn: does a stop string end there?
    fn naive(stops: &[&str], text: &str) -> (String, Option<usize>) {
        for end in (1..=text.len()).filter(|end| text.is_char_boundary(*end)) {
            let ended = stops
                .iter()
                .enumerate()
                .filter(|(_, s)| text[..end].ends_with(**s));
            let longest = ended.rev().max_by_key(|(_, s)| s.len());
            if let Some((at, stop)) = longest {
                return (text[..end - stop.len()].to_owned(), Some(at));
            }
        }
        (text.to_owned(), None)
    }

    #[test]
    fn stop_strings_are_found_across_pieces() {
        type Case = (
            &'static [&'static str],
            &'static [&'static str],
            &'static str,
            Option<usize>,
        );
        let cases: &[Case] = &[
            (&["END"], &["a E", "N", "D b"], "a ", Some(0)),
            (&["END"], &["a E", "Nd"], "a ENd", None),
            (&["abcd", "bc"], &["xab", "c", "d"], "xa", Some(1)),
            (&["b", "ab"], &["xab"], "x", Some(1)),
            (&["aab"], &["aaa", "b"], "a", Some(0)),
            (&["é\n"], &["caf", "é", "\n."], "caf", Some(0)),
            (&[], &["any", "thing"], "anything", None),
        ];
        for (stops, pieces, shown, hit) in cases {
            assert_eq!(
                run(stops, pieces),
                (shown.to_string(), *hit),
                "{stops:?} {pieces:?}"
            );
        }
    }

    #[test]
    fn text_comes_as_soon_as_it_is_certain() {
        let mut matcher = matcher(&["</s>"]);
        assert_eq!(matcher.push("a < b").emit, "a < b");
        assert_eq!(matcher.push("x </").emit, "x ");
        assert_eq!(matcher.push("p>").emit, "</p>");
    }

    #[test]
    fn too_many_or_too_long_strings_are_refused() {
        assert!(StopMatcher::new(vec!["x".into(); MAX_STOPS]).is_ok());
        assert!(StopMatcher::new(vec!["x".into(); MAX_STOPS + 1]).is_err());
        assert!(StopMatcher::new(vec![String::new()]).is_err());
        assert!(StopMatcher::new(vec!["x".repeat(MAX_STOP_BYTES + 1)]).is_err());
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(
            pieces in prop::collection::vec("[abé]{0,4}", 0..12),
            stops in prop::collection::vec("[abé]{1,4}", 0..4),
        ) {
            let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            let (shown, hit) = run(&stops, &pieces);
            prop_assert_eq!((shown, hit), naive(&stops, &pieces.concat()));
        }
    }
}
