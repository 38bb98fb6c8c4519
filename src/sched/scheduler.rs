//! The queue and the batch of one engine: what is taken in, what a step came to, and what the memory is. Who runs in
//! the next step is in `planning`, how sequences leave in `leaving`.

use std::time::{Duration, Instant};

use crate::ids::{SeqId, SessionId};

use super::batch::{Batcher, Pace, Predictor, StepCost, batcher};
use super::draft::STEP_TOKENS;
use super::memory::{Limits, Memory};
use super::priority::{Prioritizer, prioritizer};
use super::request::{Busy, Event, Failure, Request};
use super::sequence::Sequence;
use super::stepper::Stepped;
use super::{Config, Ended, LiveTokens, Phase, PolicyKind, Row, Speculate};

/// Outputs that are expected of a request before any has ended.
const FIRST_GUESS: f64 = 128.0;
/// How much the newest answer's length changes what is expected of the next.
const NEWEST: f64 = 0.1;

/// The queue and the batch of one engine.
pub struct Scheduler {
    pub(super) config: Config,
    pub(super) memory: Memory,
    pub(super) prioritizer: Box<dyn Prioritizer>,
    pub(super) batcher: Box<dyn Batcher>,
    pub(super) predictor: Predictor,
    pace: Pace,
    /// In the order of arrival.
    pub(super) waiting: Vec<Sequence>,
    /// In the order of arrival.
    pub(super) running: Vec<Sequence>,
    /// Sequences that gave way: parked on the device, without memory of their own.
    pub(super) paused: Vec<Sequence>,
    /// Sequences whose device memory is to be freed with the next plan.
    pub(super) ended: Vec<Ended>,
    /// Steps so far.
    pub(super) steps: u64,
    /// The step that is under way: what it computes, and since when.
    pub(super) under_way: Option<(StepCost, Instant)>,
    /// How long prompts compute in it, if not to their ends.
    pub(super) slice: Option<Duration>,
    /// Sequences whose prompts' rows are computed over several steps; one set at a time.
    pub(super) reading: Vec<SeqId>,
    /// What those rows cost, and how long they have taken so far.
    pub(super) read: (StepCost, Duration),
    /// The step since which the memory that the next one waits for could be leased and was not.
    pub(super) short_since: Option<u64>,
    /// How long an answer is, on average.
    expected_output: f64,
    next: u64,
    draining: bool,
}

impl Scheduler {
    /// An empty scheduler that holds no memory yet.
    pub fn new(config: Config, limits: Limits) -> Self {
        Scheduler {
            memory: Memory::new(&config, limits),
            prioritizer: prioritizer(&config),
            batcher: batcher(&config),
            config,
            predictor: Predictor::default(),
            pace: Pace::default(),
            waiting: Vec::new(),
            running: Vec::new(),
            paused: Vec::new(),
            ended: Vec::new(),
            steps: 0,
            under_way: None,
            slice: None,
            reading: Vec::new(),
            read: (StepCost::default(), Duration::ZERO),
            short_since: None,
            expected_output: FIRST_GUESS,
            next: 0,
            draining: false,
        }
    }

    /// For a device that can put rows of prompts off in so many places.
    #[must_use]
    pub fn with_slices(mut self, slices: usize) -> Self {
        self.predictor = Predictor::with_slices(slices);
        self
    }

    /// How long rows of prompts may compute in the step that was planned last; `None` = to their ends.
    pub fn slice(&self) -> Option<Duration> {
        self.slice
    }

    /// Sequences whose prompts the step that was planned last computes further or begins, if it may put them off, and the
    /// positions of what it computes.
    pub fn reading(&self) -> impl Iterator<Item = (SeqId, usize)> {
        let running = self.running.iter();
        let reading = running.filter(|s| self.reading.contains(&s.id));
        reading.map(|s| (s.id, s.fed()))
    }

    /// Queues a request, or says why not.
    pub fn submit(&mut self, request: Request, now: Instant) -> Result<SeqId, Busy> {
        if self.draining {
            return Err(Busy::Draining);
        }
        let needed = self.memory.worst(&request);
        if !self.memory.could_hold(needed) {
            return Err(Busy::TooLarge {
                needed: self.memory.bytes(needed),
                total: self.memory.limit(),
            });
        }
        let waiting = self.waiting.len();
        let position = waiting + 1;
        if waiting >= self.config.max_queue {
            return Err(Busy::QueueFull {
                waiting,
                limit: self.config.max_queue,
                position,
                wait: self.wait(),
            });
        }
        // Without it a key that sends more than is answered would fill the queue, and others would find no place in it:
        // a key may hold as many places as it leaves free ("Dynamic queue length thresholds for shared-memory packet
        // switches", https://doi.org/10.1109/90.664262).
        if self.config.policy == PolicyKind::Fair {
            let key = &request.standing.key;
            let own = |other: &&Sequence| other.request.standing.key == *key;
            let own = self.waiting.iter().filter(own).count();
            let free = self.config.max_queue - waiting;
            if own >= free {
                return Err(Busy::ShareFull {
                    waiting: own,
                    free,
                    position,
                    wait: self.wait(),
                });
            }
        }
        let tokens = self.waiting_tokens();
        if waiting > 0 && tokens + request.prompt.len() > self.config.max_queue_tokens {
            return Err(Busy::TokensFull {
                waiting: tokens,
                limit: self.config.max_queue_tokens,
                position,
                wait: self.wait(),
            });
        }
        let id = SeqId(self.next);
        self.next += 1;
        let chunk = self.config.prefill_tokens;
        let prefill = self.predictor.prompt(request.prompt.len(), chunk);
        let sequence = Sequence::new(id, request, prefill, now);
        self.prioritizer.arrived(&sequence.candidate());
        self.waiting.push(sequence);
        Ok(id)
    }

    /// How long all that is here takes at the pace of late: about when a request that comes now would be started.
    fn wait(&self) -> Option<Duration> {
        let output = self.expected_output as usize;
        let here = self.running.iter().chain(&self.paused).chain(&self.waiting);
        self.pace
            .time_for(here.map(|sequence| sequence.work_left(output)).sum())
    }

    /// Adds guesses to a step that only decodes, evenly over its rows.
    pub(super) fn draft(&mut self, rows: &mut [Row], cost: &mut StepCost) {
        let decodes = rows.iter().all(|row| row.phase == Phase::Decode);
        if self.config.speculate == Speculate::Off || !decodes {
            return;
        }
        let mut spare = STEP_TOKENS.saturating_sub(rows.len());
        let count = rows.len();
        for (index, row) in rows.iter_mut().enumerate() {
            let share = (spare / (count - index)).min(self.config.draft_tokens);
            if let Some(sequence) = self.running.iter_mut().find(|s| s.id == row.seq) {
                let kept = sequence.kept();
                let guesses = sequence.draft(row, share.min(self.memory.room(row.seq, kept)));
                cost.add_decode(guesses, kept);
                spare -= guesses;
                // They take memory until it is known which of them stay. There is room, as was just asked.
                let fitted = self.memory.fit(row.seq, kept + guesses);
                debug_assert!(fitted.is_ok(), "guesses without memory");
            }
        }
    }

    /// Takes in what a step drew, and says what each caller is to be told.
    pub fn commit(&mut self, stepped: Stepped, now: Instant) -> Vec<(SeqId, Event)> {
        self.learn(&stepped, now);
        let drawn = stepped.drawn;
        let mut events = Vec::new();
        for row in drawn {
            // A sequence that was cancelled while the step ran is gone from here already.
            let Some(place) = self.running.iter().position(|s| s.id == row.seq) else {
                continue;
            };
            let sequence = &mut self.running[place];
            if let Some(stuck) = row.stuck {
                let sequence = self.running.remove(place);
                self.forget(sequence.id);
                // What has failed is not part of a conversation: a session stays as it was.
                self.ended.push(Ended::from(sequence.id));
                events.push((sequence.id, Event::Failed(Failure::Stuck(stuck))));
                continue;
            }
            if !row.told.is_empty() {
                events.push((row.seq, Event::Prompt(row.told.clone())));
            }
            if !row.states.is_empty() {
                let tokens = row.kv.tokens_seen.saturating_sub(sequence.fed());
                events.push((row.seq, Event::States(tokens, row.states.clone())));
            }
            let before = sequence.computed();
            let (send, reason) = sequence.take(&row, now);
            let served = sequence.computed() - before;
            self.prioritizer.served(row.seq, served);
            for choice in row.choices.into_iter().take(send) {
                events.push((
                    row.seq,
                    Event::Token {
                        token: choice.token,
                        logprob: choice.logprob,
                    },
                ));
            }
            if let Some(reason) = reason {
                let sequence = self.running.remove(place);
                let outputs = sequence.outputs() as f64;
                self.expected_output += (outputs - self.expected_output) * NEWEST;
                self.forget(sequence.id);
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
        events
    }

    /// What the step took, for those to come.
    fn learn(&mut self, stepped: &Stepped, now: Instant) {
        let drawn = &stepped.drawn;
        let Some((mut cost, since)) = self.under_way.take() else {
            return;
        };
        let took = now.saturating_duration_since(since);
        let cached: usize = drawn.iter().map(|row| row.cached).sum();
        let without = |cost: &mut StepCost| {
            if cached > 0 && cost.prefill > 0 {
                let computed = cost.prefill.saturating_sub(cached);
                cost.attended *= computed as f64 / cost.prefill as f64;
                cost.prefill = computed;
            }
        };
        if self.reading.is_empty() {
            without(&mut cost);
            self.predictor.observe(&cost, took);
            self.pace.observe(cost.tokens(), took);
            return;
        }
        // Of a step with a slice of a prompt, what is beyond the answers is the prompt's.
        let prompts = stepped
            .prompts
            .unwrap_or_else(|| took.saturating_sub(self.predictor.step(&cost).unwrap_or_default()));
        if stepped.prompts.is_some() {
            self.predictor.observe(&cost, took.saturating_sub(prompts));
        }
        let (read, so_far) = &mut self.read;
        *so_far += prompts;
        self.reading
            .retain(|seq| !drawn.iter().any(|row| row.seq == *seq));
        let mut tokens = cost.tokens();
        if self.reading.is_empty() {
            without(read);
            self.predictor.observe_prompts(read, *so_far);
            tokens += read.prefill;
            self.read = (StepCost::default(), Duration::ZERO);
        }
        self.pace.observe(tokens, took);
    }

    /// Closes the accounts of a sequence that is over.
    pub(super) fn forget(&mut self, seq: SeqId) {
        self.reading.retain(|other| *other != seq);
        self.memory.free(seq);
        self.prioritizer.ended(seq);
    }

    /// Takes in no more; what is here is finished.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// Records a lease of `bytes` more.
    pub fn grant(&mut self, bytes: usize) {
        self.memory.grant(bytes);
    }

    /// Bytes that are missing to let the next one in, if memory is what it waits for, or for those that run to grow.
    /// None for one that must wait for those that run, since all there is would not be enough for both.
    pub fn shortfall(&self, now: Instant) -> Option<usize> {
        let full = self.running.len() >= self.config.max_batch;
        let next = self.next_in(now).filter(|_| !full);
        let blocks = next.map_or(0, |next| self.blocks_to_join(next));
        let beside = self.memory.accounts().used() + blocks;
        let blocks = if self.memory.could_hold(beside) {
            blocks
        } else {
            0
        };
        self.memory.missing(blocks)
    }

    /// Gives up leased bytes that no sequence has reserved, at most `wanted`. Returns how many.
    pub fn release(&mut self, wanted: usize) -> usize {
        self.memory.release(wanted)
    }

    /// The sequence that is a turn of this session and has begun, and its tokens so far.
    pub fn turn_of(&self, session: &SessionId) -> Option<(SeqId, LiveTokens)> {
        let mut started = self.running.iter().chain(&self.paused);
        let turn = started.find(|sequence| sequence.is_turn_of(session))?;
        Some((turn.id, turn.live()))
    }

    /// Requests that wait to be started.
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

    /// Sequences that gave way to others.
    pub fn paused(&self) -> usize {
        self.paused.len()
    }

    /// The memory of the engine.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Whether nothing waits, runs, is paused, or is still to be freed on the device.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty()
            && self.running.is_empty()
            && self.paused.is_empty()
            && self.ended.is_empty()
    }

    /// KV bytes of the batch, as last reported.
    pub fn kv_bytes(&self) -> usize {
        self.running.iter().map(Sequence::kv_bytes).sum()
    }

    /// Checks what must always hold; for tests and debug builds.
    ///
    /// # Panics
    /// When an invariant is broken.
    pub fn check(&self) {
        assert!(self.running.len() <= self.config.max_batch);
        self.memory.check();
        let accounts = self.memory.accounts();
        let held: usize = self.running.iter().map(|s| accounts.table(s.id)).sum();
        assert_eq!(held, accounts.used(), "only what runs holds memory");
        assert_eq!(accounts.free_blocks() + accounts.used(), accounts.total());
        for queue in [&self.waiting, &self.running] {
            assert!(queue.windows(2).all(|w| w[0].id < w[1].id));
        }
        let here = || self.running.iter().chain(&self.paused);
        assert!(here().all(|s| !self.ended.iter().any(|e| e.seq == s.id)));
        assert!(here().all(Sequence::has_started));
        let runs = |seq: &SeqId| self.running.iter().any(|s| s.id == *seq);
        assert!(self.reading.iter().all(runs));
    }
}
