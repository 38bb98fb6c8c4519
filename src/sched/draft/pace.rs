//! How many guesses are worth a sequence's while: from how often they came true, and from what they have cost so far.

/// What a step with guesses costs more than one without, in steps: once, and for each guess. Products with several
/// rows lose the short cut of a single one, and are soon bound by arithmetic; measured on two cores
/// (docs/performance.md). Where memory is the bound both are smaller, and fewer guesses than best are made. Constants,
/// since a measured price would let the time of day decide how products are rounded.
const STEP_COST: f32 = 0.5;
const TOKEN_COST: f32 = 0.22;

/// The least gain for which guesses are made.
const LEAST_GAIN: f32 = 1.1;

/// Steps that may be lost at first, for each token said, and in all at most before they are won back.
const FIRST_CREDIT: f32 = 1.5;
const CREDIT_PER_TOKEN: f32 = 0.02;
const MOST_CREDIT: f32 = 6.0;

/// What a verdict leaves of those before it.
const MEMORY: f32 = 0.95;

/// Verdicts that a first assumption counts as.
const PRIOR: f32 = 2.0;

/// Matched lengths that share an account begin here, and what is assumed of each at first: a pair of tokens says
/// little about a third, a long passage nearly everything.
const LENGTHS: [(usize, f32); 4] = [(2, 0.4), (3, 0.5), (4, 0.75), (8, 0.92)];

/// The accounts of one sequence.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    odds: [Odds; LENGTHS.len()],
    credit: f32,
}

/// How often the next token was as guessed.
#[derive(Debug, Clone, Copy, Default)]
struct Odds {
    right: f32,
    all: f32,
}

impl Default for Pace {
    fn default() -> Self {
        Pace {
            odds: [Odds::default(); LENGTHS.len()],
            credit: FIRST_CREDIT,
        }
    }
}

fn account(matched: usize) -> usize {
    let later = LENGTHS.iter().skip(1);
    later.take_while(|(from, _)| matched >= *from).count()
}

fn extra(guesses: usize) -> f32 {
    STEP_COST + TOKEN_COST * guesses as f32
}

impl Pace {
    /// How many guesses, at most `room`, to make after a match of so many tokens; 0 when none pay.
    ///
    /// Of all numbers, the one with the most tokens for the time: of `k` guesses that are each right with probability
    /// `p`, `(1 - p^(k + 1)) / (1 - p)` tokens are expected.
    pub(super) fn worth(&self, matched: usize, room: usize) -> usize {
        let account = account(matched);
        let p = self.odds[account].estimate(LENGTHS[account].1);
        let (mut best, mut most) = (0, LEAST_GAIN);
        let (mut expected, mut power) = (1.0, 1.0);
        for guesses in 1..=room {
            power *= p;
            expected += power;
            let gain = expected / (1.0 + extra(guesses));
            if gain > most && extra(guesses) <= self.credit {
                (best, most) = (guesses, gain);
            }
        }
        best
    }

    /// After a match of so many tokens, `right` guesses came true and then, if `wrong`, one did not.
    pub(super) fn judge(&mut self, matched: usize, right: usize, wrong: bool) {
        let odds = &mut self.odds[account(matched)];
        for verdict in std::iter::repeat_n(1.0, right).chain(wrong.then_some(0.0)) {
            odds.right = odds.right * MEMORY + verdict;
            odds.all = odds.all * MEMORY + 1.0;
        }
    }

    /// So many tokens were said: as time passes, a little of it may be risked.
    pub(super) fn said(&mut self, tokens: usize) {
        self.gain(CREDIT_PER_TOKEN * tokens as f32);
    }

    /// A step checked `guesses`, of which `right` saved a step each.
    pub(super) fn pay(&mut self, guesses: usize, right: usize) {
        self.gain(right as f32 - extra(guesses));
    }

    fn gain(&mut self, steps: f32) {
        self.credit = (self.credit + steps).min(MOST_CREDIT);
    }
}

impl Odds {
    fn estimate(&self, assumed: f32) -> f32 {
        (self.right + assumed * PRIOR) / (self.all + PRIOR)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn long_matches_are_trusted_at_first_and_short_ones_must_earn_it() {
        let mut pace = Pace::default();
        assert_eq!((pace.worth(2, 15), pace.worth(3, 15)), (0, 0));
        assert!(pace.worth(4, 15) >= 2);
        assert_eq!(pace.worth(20, 15), 4, "no more than the first credit");
        assert_eq!(pace.worth(20, 2), 2);
        pace.judge(2, 30, false);
        assert!(pace.worth(2, 15) >= 4);
        assert_eq!(
            pace.worth(3, 15),
            0,
            "other lengths have accounts of their own"
        );
    }

    #[test]
    fn accepted_guesses_lead_to_longer_ones_and_wrong_ones_to_none() {
        let mut pace = Pace::default();
        for _ in 0..20 {
            let guesses = pace.worth(8, 15);
            pace.judge(8, guesses, false);
            pace.pay(guesses, guesses);
        }
        assert_eq!(pace.worth(8, 15), 15);
        for _ in 0..6 {
            pace.judge(8, 0, true);
        }
        assert!(pace.worth(8, 15) < 8);
        for _ in 0..20 {
            pace.judge(8, 0, true);
        }
        assert_eq!(pace.worth(8, 15), 0);
    }

    proptest! {
        /// Whatever is asked for and however it turns out, no more is lost than the credit.
        #[test]
        fn losses_are_bounded(turns in prop::collection::vec((2usize..40, 0usize..16, 0usize..16), 1..300)) {
            let mut pace = Pace::default();
            let (mut steps, mut plain) = (0.0f32, 0.0f32);
            for (matched, room, luck) in turns {
                let guesses = pace.worth(matched, room);
                let right = luck.min(guesses);
                pace.said(right + 1);
                pace.judge(matched, right, right < guesses);
                plain += right as f32 + 1.0;
                steps += 1.0;
                if guesses > 0 {
                    pace.pay(guesses, right);
                    steps += extra(guesses);
                }
                let allowed = FIRST_CREDIT + CREDIT_PER_TOKEN * plain;
                prop_assert!(steps <= plain + allowed + 1e-3 * plain, "{steps} steps for {plain} tokens");
            }
        }
    }
}
