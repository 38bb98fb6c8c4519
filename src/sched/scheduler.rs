//! Who runs in the next step: running sequences first, then partial prompts, then admissions, inside one token
//! budget; first come, first served.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::ids::SeqId;
use crate::kv::KvShape;

use super::request::{Busy, Event, Failure, FinishReason, Request};
use super::sequence::Sequence;
use super::stepper::Drawn;
use super::{Config, Ended, Plan};

/// What bounds a scheduler's memory.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// What a token costs.
    pub shape: KvShape,
    /// All KV bytes that there could ever be.
    pub total_bytes: usize,
}

/// The queue and the batch of one engine.
pub struct Scheduler {
    config: Config,
    limits: Limits,
    /// KV bytes that the engine holds a lease on.
    granted: usize,
    waiting: VecDeque<Sequence>,
    running: Vec<Sequence>,
    /// Sequences whose device memory is to be freed with the next plan.
    ended: Vec<Ended>,
    next: u64,
    draining: bool,
}

impl Scheduler {
    /// An empty scheduler that holds no memory yet.
    pub fn new(config: Config, limits: Limits) -> Self {
        Scheduler {
            config,
            limits,
            granted: 0,
            waiting: VecDeque::new(),
            running: Vec::new(),
            ended: Vec::new(),
            next: 0,
            draining: false,
        }
    }

    /// Queues a request, or says why not.
    pub fn submit(&mut self, request: Request, now: Instant) -> Result<SeqId, Busy> {
        if self.draining {
            return Err(Busy::Draining);
        }
        let seen = request.session.as_ref().map_or(0, |s| s.seen);
        let resumed = request
            .policy
            .budget()
            .map_or(seen, |budget| seen.min(budget));
        let needed = self.limits.shape.worst_case_bytes(
            &request.policy,
            // A session comes back with what its policy kept, or with all it has seen.
            resumed + request.prompt.len(),
            request.max_tokens,
            self.config.prefill_tokens,
        );
        if needed > self.limits.total_bytes {
            return Err(Busy::TooLarge {
                needed,
                total: self.limits.total_bytes,
            });
        }
        let idle = self.waiting.is_empty();
        if self.waiting.len() >= self.config.max_queue {
            return Err(Busy::QueueFull {
                waiting: self.waiting.len(),
                limit: self.config.max_queue,
            });
        }
        let tokens = self.waiting_tokens();
        if !idle && tokens + request.prompt.len() > self.config.max_queue_tokens {
            return Err(Busy::TokensFull {
                waiting: tokens,
                limit: self.config.max_queue_tokens,
            });
        }
        let id = SeqId(self.next);
        self.next += 1;
        self.waiting
            .push_back(Sequence::new(id, request, needed, now));
        Ok(id)
    }

    /// The next step's work, or `None` when there is none.
    ///
    /// Chunks of a prompt end at multiples of `prefill_tokens`, wherever the batch is: the first one of a step always
    /// fits, a further one when the step's budget has room for all of it.
    pub fn plan(&mut self, now: Instant) -> Option<Plan> {
        let grid = self.config.prefill_tokens;
        let mut budget = grid;
        let mut rows = Vec::new();
        for sequence in self.running.iter_mut().filter(|s| s.decoding()) {
            rows.push(sequence.row(grid, now));
        }
        for sequence in self.running.iter_mut() {
            if rows.iter().any(|row| row.seq == sequence.id) || sequence.chunk(grid) > budget {
                continue;
            }
            let row = sequence.row(grid, now);
            budget -= row.tokens.len();
            rows.push(row);
        }
        while self.admissible()
            && self
                .waiting
                .front()
                .is_some_and(|s| s.chunk(grid) <= budget)
        {
            let Some(mut sequence) = self.waiting.pop_front() else {
                break;
            };
            let row = sequence.row(grid, now);
            budget -= row.tokens.len();
            rows.push(row);
            self.running.push(sequence);
        }
        if rows.is_empty() && self.ended.is_empty() {
            return None;
        }
        Some(Plan {
            rows,
            ended: std::mem::take(&mut self.ended),
        })
    }

    /// Takes in what a step drew, and says what each caller is to be told.
    pub fn commit(&mut self, drawn: Vec<Drawn>, now: Instant) -> Vec<(SeqId, Event)> {
        let mut events = Vec::new();
        for row in drawn {
            // A sequence that was cancelled while the step ran is gone from here already.
            let Some(place) = self.running.iter().position(|s| s.id == row.seq) else {
                continue;
            };
            let (send, reason) = self.running[place].take(&row, now);
            if let (true, Some(choice)) = (send, row.choice) {
                events.push((
                    row.seq,
                    Event::Token {
                        token: choice.token,
                        logprob: choice.logprob,
                    },
                ));
            }
            if let Some(reason) = reason {
                let sequence = self.running.swap_remove(place);
                self.ended.push(sequence.end());
                events.push((
                    sequence.id,
                    Event::Finished {
                        reason,
                        usage: sequence.usage(now),
                        kv: sequence.kv(),
                    },
                ));
            }
        }
        // swap_remove disturbed the order of arrival.
        self.running.sort_by_key(|s| s.id);
        events
    }

    /// Forgets a sequence, wherever it is. Returns its request's id and what it used, if it was here.
    pub fn cancel(&mut self, seq: SeqId, now: Instant) -> Option<(Request, super::Usage)> {
        let sequence = if let Some(place) = self.running.iter().position(|s| s.id == seq) {
            // What was left is not part of a conversation: a session stays as it was.
            self.ended.push(Ended::from(seq));
            self.running.remove(place)
        } else {
            let place = self.waiting.iter().position(|s| s.id == seq)?;
            self.waiting.remove(place)?
        };
        let usage = sequence.usage(now);
        Some((sequence.request, usage))
    }

    /// Ends a running sequence as complete, since its caller has read enough. Returns what the caller is to be told, if
    /// it still ran. Its last token may have been fed or not: a session goes on from before it.
    pub fn finish(&mut self, seq: SeqId, now: Instant) -> Option<(SeqId, Event)> {
        let place = self.running.iter().position(|s| s.id == seq)?;
        let sequence = self.running.remove(place);
        self.ended.push(sequence.end());
        let event = Event::Finished {
            reason: FinishReason::Stop,
            usage: sequence.usage(now),
            kv: sequence.kv(),
        };
        Some((seq, event))
    }

    /// Has the cache of a sequence that just ended freed and not parked: nobody was left to be told of the end, so
    /// nobody knows that its session has moved.
    pub fn abandon(&mut self, seq: SeqId) {
        if let Some(ended) = self.ended.iter_mut().find(|ended| ended.seq == seq) {
            ended.park = None;
        }
    }

    /// Fails what has waited longer than the queue timeout.
    pub fn expire(&mut self, now: Instant) -> Vec<(SeqId, Event)> {
        let limit = Duration::from(self.config.queue_timeout);
        let (stale, fresh): (Vec<_>, VecDeque<_>) = self
            .waiting
            .drain(..)
            .partition_in(|s| now.saturating_duration_since(s.submitted) > limit);
        self.waiting = fresh;
        stale
            .into_iter()
            .map(|s| (s.id, Event::Failed(Failure::QueueTimeout(limit))))
            .collect()
    }

    /// Fails all sequences that hold device memory, and those that wait for a session's: their device is gone. Others
    /// that wait stay.
    pub fn fail_running(&mut self, failure: &Failure) -> Vec<(SeqId, Event)> {
        let mut events = self.fail_batch(failure);
        let (lost, fresh): (Vec<_>, VecDeque<_>) = self
            .waiting
            .drain(..)
            .partition_in(|s| s.continued().is_some());
        self.waiting = fresh;
        events.extend(lost.into_iter().filter_map(|s| {
            let session = s.continued()?.clone();
            Some((s.id, Event::Failed(Failure::SessionLost(session))))
        }));
        events
    }

    fn fail_batch(&mut self, failure: &Failure) -> Vec<(SeqId, Event)> {
        self.ended.clear();
        self.running
            .drain(..)
            .map(|s| (s.id, Event::Failed(failure.clone())))
            .collect()
    }

    /// Fails everything.
    pub fn fail_all(&mut self, failure: &Failure) -> Vec<(SeqId, Event)> {
        let mut events = self.fail_batch(failure);
        events.extend(
            self.waiting
                .drain(..)
                .map(|s| (s.id, Event::Failed(failure.clone()))),
        );
        events
    }

    /// Takes in no more; what is here is finished.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// Records a lease of `bytes` more.
    pub fn grant(&mut self, bytes: usize) {
        self.granted += bytes;
    }

    /// Bytes that are missing to admit the next request, if memory is what it waits for.
    pub fn shortfall(&self) -> Option<usize> {
        let next = self.waiting.front()?;
        if self.running.len() >= self.config.max_batch {
            return None;
        }
        let needed = self.reserved() + next.reserved;
        needed
            .checked_sub(self.granted)
            .filter(|&missing| missing > 0)
    }

    /// Gives up leased bytes that no sequence has reserved, at most `wanted`. Returns how many.
    pub fn release(&mut self, wanted: usize) -> usize {
        let spare = self.granted.saturating_sub(self.reserved()).min(wanted);
        self.granted -= spare;
        spare
    }

    /// Requests that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Prompt tokens that wait.
    pub fn waiting_tokens(&self) -> usize {
        self.waiting.iter().map(|s| s.request.prompt.len()).sum()
    }

    /// Sequences in the batch.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Whether nothing waits, runs, or is still to be freed on the device.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty() && self.ended.is_empty()
    }

    /// KV bytes that running sequences hold, as last reported.
    pub fn kv_bytes(&self) -> usize {
        self.running.iter().map(|s| s.kv().bytes).sum()
    }

    /// Checks what must always hold; for tests and debug builds.
    ///
    /// # Panics
    /// When an invariant is broken.
    pub fn check(&self) {
        assert!(self.running.len() <= self.config.max_batch);
        assert!(
            self.reserved() <= self.granted,
            "reserved more than was leased"
        );
        assert!(self.running.windows(2).all(|w| w[0].id < w[1].id));
        assert!(
            self.running
                .iter()
                .all(|s| !self.ended.iter().any(|e| e.seq == s.id))
        );
    }

    fn reserved(&self) -> usize {
        self.running.iter().map(|s| s.reserved).sum()
    }

    fn admissible(&self) -> bool {
        self.running.len() < self.config.max_batch
            && self
                .waiting
                .front()
                .is_some_and(|next| self.reserved() + next.reserved <= self.granted)
    }
}

/// `partition` into two kinds of collection.
trait PartitionIn<T> {
    fn partition_in(self, test: impl Fn(&T) -> bool) -> (Vec<T>, VecDeque<T>);
}

impl<T, I: Iterator<Item = T>> PartitionIn<T> for I {
    fn partition_in(self, test: impl Fn(&T) -> bool) -> (Vec<T>, VecDeque<T>) {
        let (mut yes, mut no) = (Vec::new(), VecDeque::new());
        for item in self {
            if test(&item) {
                yes.push(item);
            } else {
                no.push_back(item);
            }
        }
        (yes, no)
    }
}
