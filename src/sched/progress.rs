//! How far a sequence is: tokens that are staged for a step, tokens that were processed, and what was appended since.

use super::ranges::{BadRun, Mark, RangeTracker};

/// A sequence's tokens, its prompt's first and its outputs behind them, staged and processed in order.
#[derive(Debug, Clone)]
pub struct Progress {
    prompt: usize,
    tokens: RangeTracker,
    staged: usize,
    processed: usize,
}

/// A count that a sequence's tokens do not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadProgress {
    /// More than there are left.
    #[error("{count} tokens cannot be staged: {left} are left")]
    Stage {
        /// How many were to be.
        count: usize,
        /// How many could be.
        left: usize,
    },
    /// More than were staged.
    #[error("{count} tokens cannot have been processed: {staged} were staged")]
    Process {
        /// How many were said to be.
        count: usize,
        /// How many could be.
        staged: usize,
    },
    /// An output before the prompt was read.
    #[error("nothing follows a prompt of which {processed} of {prompt} tokens were processed")]
    Append {
        /// Tokens of the prompt that were.
        processed: usize,
        /// All tokens of the prompt.
        prompt: usize,
    },
    /// Never, as long as the counts are right.
    #[error(transparent)]
    Run(#[from] BadRun),
}

impl Progress {
    /// Nothing of a prompt of so many tokens was staged.
    pub fn new(prompt: usize) -> Self {
        Progress {
            prompt,
            tokens: RangeTracker::new(prompt),
            staged: 0,
            processed: 0,
        }
    }

    /// Tokens that no step has taken up.
    pub fn left(&self) -> usize {
        self.tokens.len() - self.staged
    }

    /// Tokens that a step has taken up, processed or not: where the next one begins.
    pub fn staged(&self) -> usize {
        self.staged
    }

    /// Tokens that are in the cache.
    pub fn processed(&self) -> usize {
        self.processed
    }

    /// Tokens of the prompt that no step has taken up.
    pub fn prompt_left(&self) -> usize {
        self.prompt.saturating_sub(self.staged)
    }

    /// Takes up `count` tokens.
    ///
    /// # Errors
    /// When fewer are left.
    pub fn stage(&mut self, count: usize) -> Result<(), BadProgress> {
        let left = self.left();
        if count > left {
            return Err(BadProgress::Stage { count, left });
        }
        let end = self.staged + count;
        self.tokens.set(self.staged, end, Mark::Staged)?;
        self.staged = end;
        Ok(())
    }

    /// The first `count` of those that are staged were processed.
    ///
    /// # Errors
    /// When fewer are staged.
    pub fn process(&mut self, count: usize) -> Result<(), BadProgress> {
        let staged = self.staged - self.processed;
        if count > staged {
            return Err(BadProgress::Process { count, staged });
        }
        let end = self.processed + count;
        self.tokens.set(self.processed, end, Mark::Done)?;
        self.processed = end;
        Ok(())
    }

    /// All that is staged was processed.
    ///
    /// # Errors
    /// Never, as long as the counts are right.
    pub fn settle(&mut self) -> Result<(), BadProgress> {
        self.process(self.staged - self.processed)
    }

    /// A cache holds the tokens before `upto` already: they count as processed. Returns how many those are; none when
    /// something is staged.
    ///
    /// # Errors
    /// When there are not as many.
    pub fn skip_to(&mut self, upto: usize) -> Result<usize, BadProgress> {
        if self.staged != self.processed || upto <= self.processed {
            return Ok(0);
        }
        let count = upto - self.processed;
        self.stage(count)?;
        self.process(count)?;
        Ok(count)
    }

    /// `count` outputs were drawn.
    ///
    /// # Errors
    /// When the prompt was not processed to its end.
    pub fn append(&mut self, count: usize) -> Result<(), BadProgress> {
        if self.processed < self.prompt {
            return Err(BadProgress::Append {
                processed: self.processed,
                prompt: self.prompt,
            });
        }
        self.tokens.append(count);
        Ok(())
    }

    /// How many runs of like tokens are tracked.
    pub fn runs(&self) -> usize {
        self.tokens.runs().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v5_a_sequence_is_staged_processed_and_appended_to() {
        let mut progress = Progress::new(5);
        assert_eq!(progress.left(), 5);
        progress.stage(2).unwrap();
        assert_eq!(progress.left(), 3);
        progress.process(1).unwrap();
        assert_eq!(progress.left(), 3);
        progress.stage(3).unwrap();
        assert_eq!(progress.left(), 0);
        progress.process(4).unwrap();
        assert_eq!((progress.left(), progress.processed()), (0, 5));
        progress.append(2).unwrap();
        assert_eq!((progress.left(), progress.processed()), (2, 5));
        progress.stage(2).unwrap();
        progress.process(2).unwrap();
        assert_eq!(progress.processed(), 7);
    }

    #[test]
    fn v5_what_the_counts_do_not_allow_is_refused() {
        let refused = |work: &dyn Fn(&mut Progress) -> Result<(), BadProgress>| {
            work(&mut Progress::new(5)).unwrap_err()
        };
        assert_eq!(
            refused(&|p| p.stage(10)),
            BadProgress::Stage { count: 10, left: 5 }
        );
        assert_eq!(
            refused(&|p| p.stage(4).and_then(|()| p.stage(2))),
            BadProgress::Stage { count: 2, left: 1 }
        );
        assert_eq!(
            refused(&|p| {
                p.stage(5)?;
                p.process(4)?;
                p.process(2)
            }),
            BadProgress::Process {
                count: 2,
                staged: 1
            }
        );
        let staged_is_not_enough = refused(&|p| p.stage(5).and_then(|()| p.append(1)));
        assert_eq!(
            staged_is_not_enough,
            BadProgress::Append {
                processed: 0,
                prompt: 5
            }
        );
    }

    #[test]
    fn what_a_cache_holds_is_skipped_once() {
        let mut progress = Progress::new(10);
        progress.stage(2).unwrap();
        assert_eq!(progress.skip_to(6), Ok(0), "a step is under way");
        progress.settle().unwrap();
        assert_eq!(progress.skip_to(6), Ok(4));
        assert_eq!(progress.skip_to(6), Ok(0));
        assert_eq!((progress.processed(), progress.prompt_left()), (6, 4));
        assert!(progress.skip_to(11).is_err());
    }

    #[test]
    fn v12_ten_thousand_appends_are_tracked_in_as_much_room_as_one() {
        let mut progress = Progress::new(7);
        progress.stage(7).unwrap();
        progress.settle().unwrap();
        // Each touches the last runs only, and there are never more of them: 10,000 take as long as 10,000 times one.
        for _ in 0..10_000 {
            progress.append(1).unwrap();
            assert!(progress.runs() <= 2);
            progress.stage(1).unwrap();
            assert!(progress.runs() <= 2);
            progress.settle().unwrap();
            assert_eq!(progress.runs(), 1);
        }
        assert_eq!(progress.processed(), 10_007);
    }
}
