//! Which tokens of a sequence wait, are under way, or are done: runs of like tokens, merged where they meet.

/// What became of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Nobody has taken it up.
    Waiting,
    /// A step that is under way computes it.
    Staged,
    /// It is in the cache.
    Done,
}

/// A run of tokens, `start..end`, of one mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The first.
    pub start: usize,
    /// One past the last.
    pub end: usize,
    /// What became of them.
    pub mark: Mark,
}

/// A run that is not inside of what is tracked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("tokens {start} to {end} are not a run inside of the {len} that there are")]
pub struct BadRun {
    /// The first.
    pub start: usize,
    /// One past the last.
    pub end: usize,
    /// How many tokens are tracked.
    pub len: usize,
}

/// The tokens of one sequence. Neighbouring runs differ, so reading in order keeps at most three of them however long
/// the sequence grows.
#[derive(Debug, Clone, Default)]
pub struct RangeTracker {
    runs: Vec<Run>,
}

impl RangeTracker {
    /// `len` tokens that wait.
    pub fn new(len: usize) -> Self {
        let mut tracker = RangeTracker::default();
        tracker.append(len);
        tracker
    }

    /// How many tokens are tracked.
    pub fn len(&self) -> usize {
        self.runs.last().map_or(0, |run| run.end)
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The runs in order.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// `count` more tokens that wait.
    pub fn append(&mut self, count: usize) {
        let start = self.len();
        self.push(Run {
            start,
            end: start + count,
            mark: Mark::Waiting,
        });
    }

    /// Says what became of the tokens `start..end`, whatever they were before.
    ///
    /// # Errors
    /// [`BadRun`] when they are not all there; nothing has changed then.
    pub fn set(&mut self, start: usize, end: usize, mark: Mark) -> Result<(), BadRun> {
        let len = self.len();
        if start > end || end > len {
            return Err(BadRun { start, end, len });
        }
        if start == end {
            return Ok(());
        }
        let first = self.runs.partition_point(|run| run.end <= start);
        let tail = self.runs.split_off(first);
        let keep = |run: &Run, start: usize, end: usize| Run {
            start,
            end,
            mark: run.mark,
        };
        let mut put = false;
        for run in tail {
            if run.start < start {
                self.push(keep(&run, run.start, start));
            }
            if !put {
                self.push(Run { start, end, mark });
                put = true;
            }
            if run.end > end {
                self.push(keep(&run, run.start.max(end), run.end));
            }
        }
        Ok(())
    }

    /// The first run that waits.
    pub fn next(&self) -> Option<Run> {
        let waits = |run: &&Run| run.mark == Mark::Waiting;
        self.runs.iter().find(waits).copied()
    }

    /// How many tokens have this mark.
    pub fn count(&self, mark: Mark) -> usize {
        let of = self.runs.iter().filter(|run| run.mark == mark);
        of.map(|run| run.end - run.start).sum()
    }

    /// Appends a run, or what it adds to the last one. The last may end before it only where `set` takes it apart.
    fn push(&mut self, run: Run) {
        if run.start == run.end {
            return;
        }
        match self.runs.last_mut() {
            Some(last) if last.mark == run.mark => last.end = last.end.max(run.end),
            _ => self.runs.push(run),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Mark::{Done, Staged, Waiting};

    fn runs(tracker: &RangeTracker) -> Vec<(usize, usize, Mark)> {
        let of = |run: &Run| (run.start, run.end, run.mark);
        tracker.runs().iter().map(of).collect()
    }

    fn next(tracker: &RangeTracker) -> Option<(usize, usize)> {
        tracker.next().map(|run| (run.start, run.end))
    }

    #[test]
    fn v6_runs_merge_and_the_next_one_is_known() {
        let mut tracker = RangeTracker::new(10);
        tracker.set(0, 5, Done).unwrap();
        tracker.set(3, 8, Done).unwrap();
        assert_eq!(next(&tracker), Some((8, 10)));
        let mut alone = RangeTracker::new(10);
        alone.set(2, 5, Done).unwrap();
        assert_eq!(alone.runs().len(), 3);
        let mut closing = RangeTracker::new(10);
        for (start, end, left) in [(0, 3, 2), (7, 10, 3), (3, 7, 1)] {
            closing.set(start, end, Done).unwrap();
            assert_eq!(closing.runs().len(), left, "after {start}..{end}");
        }
        assert_eq!(next(&RangeTracker::new(0)), None);
        closing.append(5);
        assert_eq!(next(&closing), Some((10, 15)));
        let bad = BadRun {
            start: 14,
            end: 16,
            len: 15,
        };
        assert_eq!(closing.set(14, 16, Done), Err(bad));
    }

    #[test]
    fn v7_a_run_replaces_what_it_covers() {
        let mut tracker = RangeTracker::new(15);
        tracker.set(5, 10, Done).unwrap();
        tracker.set(10, 15, Staged).unwrap();
        assert_eq!(
            runs(&tracker),
            [(0, 5, Waiting), (5, 10, Done), (10, 15, Staged)]
        );
        tracker.set(3, 12, Done).unwrap();
        assert_eq!(
            runs(&tracker),
            [(0, 3, Waiting), (3, 12, Done), (12, 15, Staged)]
        );
        let mut tracker = RangeTracker::new(20);
        tracker.set(0, 5, Staged).unwrap();
        tracker.set(10, 15, Staged).unwrap();
        tracker.set(7, 12, Done).unwrap();
        assert_eq!(tracker.runs().len(), 5);
        assert_eq!(next(&tracker), Some((5, 7)));
        tracker.set(5, 7, Done).unwrap();
        assert_eq!(next(&tracker), Some((15, 20)));
        assert_eq!(tracker.count(Done), 7);
    }

    proptest::proptest! {
        #[test]
        fn runs_say_of_each_token_what_was_said_last(
            len in 0usize..40,
            sets in proptest::collection::vec((0usize..44, 0usize..44, 0usize..3), 0..30),
        ) {
            let mut tracker = RangeTracker::new(len);
            let mut plain = vec![Waiting; len];
            for (a, b, mark) in sets {
                let (start, end, mark) = (a.min(b), a.max(b), [Waiting, Staged, Done][mark]);
                let set = tracker.set(start, end, mark);
                proptest::prop_assert_eq!(set.is_ok(), end <= len);
                if set.is_ok() {
                    plain[start..end].fill(mark);
                }
            }
            let mut told = Vec::new();
            for run in tracker.runs() {
                proptest::prop_assert!(run.start == told.len() && run.end > run.start);
                told.resize(run.end, run.mark);
            }
            proptest::prop_assert_eq!(&told, &plain);
            let apart = tracker.runs().windows(2).all(|pair| pair[0].mark != pair[1].mark);
            proptest::prop_assert!(apart);
        }
    }
}
