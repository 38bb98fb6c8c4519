//! Tokens that a sequence may say next, guessed from what it has said before, so that the model can check several in
//! one step: prompt lookup (<https://github.com/apoorvumang/prompt-lookup-decoding>) with the acceptance rule of
//! speculative decoding (<https://arxiv.org/abs/2211.17192>) at its strictest. The sampler draws from the model's own
//! distribution at every position, with the same random numbers as one token at a time, and a guess counts only when
//! it is what was drawn; so guesses change how fast a text comes and not which.

mod lookup;
mod pace;

use crate::ids::TokenId;
use lookup::Lookup;
use pace::Pace;

/// Tokens that all rows of a step may have together when some of them are guesses: more are not computed beside each
/// other at the price of a few.
pub(super) const STEP_TOKENS: usize = 16;

/// Steps without a guess after the device has left one out.
const PAUSE: usize = 16;

/// Guesses for one sequence.
#[derive(Debug)]
pub(super) struct Drafter {
    lookup: Lookup,
    pace: Pace,
    /// What was expected to follow, and how long the text before it has stood in front of it already.
    expected: Option<Expected>,
    pause: usize,
}

#[derive(Debug)]
struct Expected {
    tokens: Vec<TokenId>,
    matched: usize,
    /// Whether the model was asked to check them.
    offered: bool,
}

impl Drafter {
    /// Guesses from `text`, what there is of the sequence.
    pub(super) fn new(text: &[TokenId]) -> Self {
        let mut lookup = Lookup::default();
        text.iter().for_each(|&token| lookup.push(token));
        Drafter {
            lookup,
            pace: Pace::default(),
            expected: None,
            pause: 0,
        }
    }

    /// At most `room` tokens that may follow, none of them in `stop`: what ends a text is not guessed.
    pub(super) fn propose(&mut self, room: usize, stop: &[TokenId]) -> Vec<TokenId> {
        self.expected = None;
        let Some(found) = self.lookup.find() else {
            return Vec::new();
        };
        let worth = match self.pause {
            0 => self.pace.worth(found.matched, room),
            _ => 0,
        };
        self.pause = self.pause.saturating_sub(1);
        let mut tokens = self.lookup.after(&found, worth.max(1));
        let end = tokens.iter().position(|token| stop.contains(token));
        tokens.truncate(end.unwrap_or(tokens.len()));
        let offered = if worth > 0 {
            tokens.clone()
        } else {
            Vec::new()
        };
        self.expected = Some(Expected {
            offered: !offered.is_empty(),
            matched: found.matched,
            tokens,
        });
        offered
    }

    /// Takes in the tokens that a step came to, after the model checked `checked` of those proposed. What was expected
    /// and not proposed is judged too: being wrong costs nothing then.
    pub(super) fn learn(&mut self, tokens: &[TokenId], checked: usize) {
        tokens.iter().for_each(|&token| self.lookup.push(token));
        self.pace.said(tokens.len());
        let Some(expected) = self.expected.take() else {
            return;
        };
        if expected.offered && checked == 0 {
            self.pause = PAUSE;
        }
        let right = expected.tokens.iter().zip(tokens);
        let right = right
            .take_while(|(expected, said)| expected == said)
            .count();
        let wrong = right < expected.tokens.len().min(tokens.len());
        self.pace.judge(expected.matched, right, wrong);
        if checked > 0 {
            self.pace.pay(checked, tokens.len().saturating_sub(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `text` to a drafter as a model that would say just that; steps, and guesses checked and right.
    fn copy(start: &[TokenId], text: &[TokenId], most: usize) -> (usize, usize, usize) {
        let mut drafter = Drafter::new(start);
        let (mut at, mut steps, mut checked, mut right) = (0, 0, 0, 0);
        while at < text.len() {
            let guess = drafter.propose(most.min(text.len() - at - 1), &[]);
            let good = guess
                .iter()
                .zip(&text[at..])
                .take_while(|(a, b)| a == b)
                .count();
            drafter.learn(&text[at..at + good + 1], guess.len());
            at += good + 1;
            steps += 1;
            checked += guess.len();
            right += good;
        }
        (steps, checked, right)
    }

    #[test]
    fn a_copied_text_takes_a_fraction_of_the_steps() {
        let text: Vec<TokenId> = (0..200).map(|i| i * i % 251 + 1).collect();
        let (steps, checked, right) = copy(&text, &text[2..], 15);
        assert!(steps < 40, "{steps} steps");
        assert!(right * 10 > checked * 9, "{right} of {checked}");
        assert_eq!(copy(&text, &text[2..], 0).0, text.len() - 2);
    }

    #[test]
    fn text_that_only_looks_familiar_costs_next_to_nothing() {
        // Pairs recur all the time, and what follows them is never the same.
        let mut state = 1u64;
        let text: Vec<TokenId> = (0..2000)
            .map(|_| {
                state = state
                    .wrapping_mul(6364136223846793005)
                    .wrapping_add(1442695040888963407);
                (state >> 60) as TokenId
            })
            .collect();
        let (steps, checked, right) = copy(&text[..200], &text[200..], 15);
        let lost = (checked as f32).mul_add(0.8, 0.0) - right as f32;
        assert!(
            lost < 0.05 * steps as f32,
            "{checked} checked, {right} right"
        );
    }

    #[test]
    fn no_guess_ends_a_text() {
        let text = [
            1, 2, 3, 4, 9, 5, 1, 2, 3, 4, 9, 5, 1, 2, 3, 4, 9, 5, 1, 2, 3,
        ];
        let mut drafter = Drafter::new(&text);
        assert_eq!(drafter.propose(8, &[9]), [4]);
        let mut drafter = Drafter::new(&text[..text.len() - 1]);
        assert!(drafter.propose(8, &[3]).is_empty());
    }

    #[test]
    fn a_device_that_checks_nothing_is_not_asked_each_time() {
        let text: Vec<TokenId> = (0..40).chain(0..20).collect();
        let mut drafter = Drafter::new(&text);
        let mut offers = 0;
        for token in 20..40 {
            offers += usize::from(!drafter.propose(8, &[]).is_empty());
            drafter.learn(&[token], 0);
        }
        assert_eq!(offers, 2);
    }
}
