//! What the scheduler did step by step, recorded on demand and written as trace events that `chrome://tracing` and
//! Perfetto read (<https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU>).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::StepCount;

/// The most steps of one recording; what comes after is counted and not kept.
const STEPS: usize = 20_000;
/// The most rows of all its steps.
const ROWS: usize = 100_000;

/// One row of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepRow {
    /// The sequence.
    pub seq: u64,
    /// Whether its prompt was read; otherwise it was generated for.
    pub prompt: bool,
    /// The position of its first token.
    pub start: usize,
    /// Its tokens.
    pub tokens: usize,
}

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub struct StepEvent {
    /// The model.
    pub model: String,
    /// When it was sent to the device.
    pub started: Instant,
    /// How long until its outcome was there.
    pub took: Duration,
    /// What it computed.
    pub rows: Vec<StepRow>,
    /// Sequences whose memory was freed with it.
    pub ended: usize,
    /// Requests that waited when it was sent.
    pub waiting: usize,
    /// Sequences in the batch when it was sent.
    pub running: usize,
    /// Bytes of keys and values that they held.
    pub kv_bytes: usize,
    /// Whether it failed.
    pub failed: bool,
}

/// The place that engines tell their steps to. Clones share it. Costs a look at a flag while nobody records.
#[derive(Debug, Clone, Default)]
pub struct Steps(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    on: AtomicBool,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    events: Vec<StepEvent>,
    rows: usize,
    dropped: usize,
}

/// A recording is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a trace is being recorded already: wait until it ends")]
pub struct StepsBusy;

impl Steps {
    /// Begins a recording.
    ///
    /// # Errors
    /// When one is under way: both would pay for the other's memory.
    pub fn record(&self) -> Result<Recording, StepsBusy> {
        if self.0.on.swap(true, Ordering::AcqRel) {
            return Err(StepsBusy);
        }
        Ok(Recording {
            steps: self.clone(),
            started: Instant::now(),
        })
    }

    /// Whether anybody records: only then an event is worth making.
    pub fn on(&self) -> bool {
        self.0.on.load(Ordering::Acquire)
    }

    /// A step came to its end.
    pub fn tell(&self, event: StepEvent) {
        if !self.on() {
            return;
        }
        let mut kept = self.kept();
        if kept.events.len() >= STEPS || kept.rows + event.rows.len() > ROWS {
            kept.dropped += 1;
            return;
        }
        kept.rows += event.rows.len();
        kept.events.push(event);
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A recording. Dropping it ends it and frees what was kept.
#[derive(Debug)]
#[must_use = "the recording ends when this is dropped"]
pub struct Recording {
    steps: Steps,
    started: Instant,
}

impl Recording {
    /// Ends it. Returns the trace as one JSON object; times are microseconds since the recording began.
    pub fn end(self) -> Value {
        let kept = std::mem::take(&mut *self.steps.kept());
        trace(&kept, self.started)
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        *self.steps.kept() = Kept::default();
        self.steps.0.on.store(false, Ordering::Release);
    }
}

fn trace(kept: &Kept, started: Instant) -> Value {
    let mut threads: BTreeMap<&str, usize> = BTreeMap::new();
    for event in &kept.events {
        let next = threads.len() + 1;
        threads.entry(&event.model).or_insert(next);
    }
    let named = |name: &str, tid: usize, text: &str| json!({"name": name, "ph": "M", "pid": 1, "tid": tid, "args": {"name": text}});
    let mut events = vec![named("process_name", 0, "llamahome")];
    events.extend(
        threads
            .iter()
            .map(|(model, &tid)| named("thread_name", tid, model)),
    );
    for event in &kept.events {
        let tid = threads.get(event.model.as_str()).copied().unwrap_or(0);
        let at = micros(event.started.saturating_duration_since(started));
        events.push(step(event, at, tid));
        events.push(
            json!({"name": format!("queue {}", event.model), "ph": "C", "pid": 1, "ts": at,
            "args": {"waiting": event.waiting, "running": event.running}}),
        );
    }
    json!({
        "traceEvents": events,
        "displayTimeUnit": "ms",
        "otherData": {"steps": kept.events.len(), "dropped": kept.dropped},
    })
}

fn step(event: &StepEvent, at: f64, tid: usize) -> Value {
    let count = StepCount::of(&event.rows);
    let name = match count.phase() {
        "none" => "free",
        phase => phase,
    };
    let rows = event.rows.iter().map(|row| {
        let phase = if row.prompt { "prefill" } else { "decode" };
        json!({"seq": row.seq, "phase": phase, "start": row.start, "tokens": row.tokens})
    });
    json!({
        "name": name, "cat": "step", "ph": "X", "pid": 1, "tid": tid, "ts": at, "dur": micros(event.took),
        "args": {
            "rows": count.rows(), "tokens": count.tokens(), "prefill_rows": count.prompt_rows,
            "decode_rows": count.decode_rows, "ended": event.ended, "waiting": event.waiting,
            "running": event.running, "kv_bytes": event.kv_bytes, "failed": event.failed,
            "sequences": rows.collect::<Vec<Value>>(),
        },
    })
}

fn micros(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(model: &str, rows: usize) -> StepEvent {
        let row = |seq| StepRow {
            seq,
            prompt: seq == 0,
            start: 0,
            tokens: 3,
        };
        StepEvent {
            model: model.to_owned(),
            started: Instant::now(),
            took: Duration::from_millis(2),
            rows: (0..rows as u64).map(row).collect(),
            ended: 0,
            waiting: 4,
            running: rows,
            kv_bytes: 10,
            failed: false,
        }
    }

    #[test]
    fn a_recording_has_one_complete_event_a_step() {
        let steps = Steps::default();
        steps.tell(event("a", 1));
        let recording = steps.record().unwrap();
        assert_eq!(steps.record().err(), Some(StepsBusy));
        steps.tell(event("a", 2));
        steps.tell(event("b", 0));
        let trace = recording.end();
        let all = trace["traceEvents"].as_array().unwrap();
        let of = |kind: &str| all.iter().filter(|e| e["ph"] == kind).collect::<Vec<_>>();
        assert_eq!((of("M").len(), of("C").len()), (3, 2));
        let complete = of("X");
        assert_eq!(complete.len(), 2);
        assert_eq!(complete[0]["name"], "mixed");
        assert_eq!(complete[0]["dur"], 2000.0);
        assert!(complete[0]["ts"].as_f64().unwrap() >= 0.0);
        assert_eq!(complete[0]["args"]["tokens"], 6);
        assert_eq!(complete[0]["args"]["sequences"][1]["phase"], "decode");
        assert_eq!(complete[1]["name"], "free");
        assert_ne!(complete[0]["tid"], complete[1]["tid"]);
        // It is over, and nothing is kept for the next one.
        assert!(!steps.on());
        let next = steps.record().unwrap();
        assert_eq!(next.end()["otherData"]["steps"], 0);
    }

    #[test]
    fn memory_is_bounded_and_what_was_left_out_is_told() {
        let steps = Steps::default();
        let recording = steps.record().unwrap();
        let big = event("a", ROWS / 2);
        for _ in 0..3 {
            steps.tell(big.clone());
        }
        let trace = recording.end();
        assert_eq!(trace["otherData"], json!({"steps": 2, "dropped": 1}));
    }
}
