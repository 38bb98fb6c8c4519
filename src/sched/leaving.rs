//! How sequences leave before they are complete: their callers go, their time is up, or the device is lost.

use std::time::{Duration, Instant};

use crate::ids::SeqId;

use super::Ended;
use super::request::{Event, Failure, FinishReason, Request, Usage};
use super::scheduler::Scheduler;
use super::sequence::Sequence;

impl Scheduler {
    /// Forgets a sequence, wherever it is. Returns its request's id and what it used, if it was here.
    pub fn cancel(&mut self, seq: SeqId, now: Instant) -> Option<(Request, Usage)> {
        let sequence = match self.take_started(seq) {
            Some(sequence) => {
                // What was left is not part of a conversation: a session stays as it was.
                self.ended.push(Ended::from(seq));
                sequence
            }
            None => {
                let place = self.waiting.iter().position(|s| s.id == seq)?;
                self.waiting.remove(place)
            }
        };
        self.forget(seq);
        let usage = sequence.usage(now);
        Some((sequence.request, usage))
    }

    /// Ends a running sequence as complete, since its caller has read enough. Returns what the caller is to be told, if
    /// it still ran. Its last token may have been fed or not: a session goes on from before it. A sequence that is in a
    /// step with guesses ends with that step: until then nobody knows what its cache holds.
    pub fn finish(&mut self, seq: SeqId, now: Instant) -> Option<(SeqId, Event)> {
        if let Some(sequence) = self.running.iter_mut().find(|s| s.id == seq)
            && sequence.drafting > 0
        {
            sequence.ending = true;
            return None;
        }
        let sequence = self.take_started(seq)?;
        self.forget(seq);
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

    /// Fails what has waited, gone without a first token, or taken longer than it may.
    pub fn expire(&mut self, now: Instant) -> Vec<(SeqId, Event)> {
        let limit = |limit: crate::units::Duration| (!limit.is_zero()).then_some(limit.get());
        let queue = limit(self.config.queue_timeout);
        let first = limit(self.config.first_token_timeout);
        let total = limit(self.config.total_timeout);
        let late = |sequence: &Sequence| {
            let age = now.saturating_duration_since(sequence.submitted);
            let over = |limit: Option<Duration>| limit.filter(|&limit| age > limit);
            let started = sequence.has_started();
            over(total)
                .map(Failure::TotalTimeout)
                .or_else(|| over(queue.filter(|_| !started)).map(Failure::QueueTimeout))
                .or_else(|| {
                    let silent = started && sequence.silent();
                    over(first.filter(|_| silent)).map(Failure::FirstTokenTimeout)
                })
        };
        let here = self.waiting.iter().chain(&self.running).chain(&self.paused);
        let late: Vec<(SeqId, Failure)> = here
            .filter_map(|sequence| Some((sequence.id, late(sequence)?)))
            .collect();
        late.into_iter()
            .filter_map(|(seq, failure)| {
                self.cancel(seq, now)?;
                Some((seq, Event::Failed(failure)))
            })
            .collect()
    }

    /// Fails all sequences that hold device memory, and those that wait for a session's: their device is gone. Others
    /// that wait stay.
    pub fn fail_running(&mut self, failure: &Failure) -> Vec<(SeqId, Event)> {
        let mut events = self.fail_started(failure);
        let (lost, fresh) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|s: &Sequence| s.continued().is_some());
        self.waiting = fresh;
        for sequence in lost {
            self.forget(sequence.id);
            if let Some(session) = sequence.continued().cloned() {
                events.push((sequence.id, Event::Failed(Failure::SessionLost(session))));
            }
        }
        events
    }

    /// Fails everything.
    pub fn fail_all(&mut self, failure: &Failure) -> Vec<(SeqId, Event)> {
        let mut events = self.fail_started(failure);
        for sequence in std::mem::take(&mut self.waiting) {
            self.forget(sequence.id);
            events.push((sequence.id, Event::Failed(failure.clone())));
        }
        events
    }

    fn fail_started(&mut self, failure: &Failure) -> Vec<(SeqId, Event)> {
        self.ended.clear();
        self.under_way = None;
        self.reading.clear();
        let mut started = std::mem::take(&mut self.running);
        started.append(&mut self.paused);
        let mut events = Vec::new();
        for sequence in started {
            self.forget(sequence.id);
            events.push((sequence.id, Event::Failed(failure.clone())));
        }
        events
    }

    /// Removes one that the device knows of.
    fn take_started(&mut self, seq: SeqId) -> Option<Sequence> {
        for queue in [&mut self.running, &mut self.paused] {
            if let Some(place) = queue.iter().position(|s| s.id == seq) {
                return Some(queue.remove(place));
            }
        }
        None
    }
}
