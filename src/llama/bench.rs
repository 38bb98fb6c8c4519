//! Prefill and decode speed of a model on this machine, by depth of context.

use std::time::Instant;

use serde::Serialize;

use crate::ids::{SeqId, TokenId};
use crate::kv::{KvReport, Policy};
use crate::sample::SamplingParams;
use crate::sched::{Forward, ForwardError, Open, Origin, Phase, Plan, Row, Want};

/// What to time.
#[derive(Debug, Clone)]
pub struct BenchSpec {
    /// Prompt tokens that a prefill test reads; 0 leaves it out.
    pub prompt: usize,
    /// Tokens that a decode test generates; 0 leaves it out.
    pub generate: usize,
    /// Tokens that are in the cache already, one pair of tests each.
    pub depths: Vec<usize>,
    /// Timed runs; one more warms up.
    pub repeat: usize,
    /// How the cache is bounded.
    pub policy: Policy,
    /// Tokens of the vocabulary.
    pub vocab: usize,
    /// Tokens of one forward pass of a prompt.
    pub chunk: usize,
}

/// One test's result.
#[derive(Debug, Clone, Serialize)]
pub struct BenchLine {
    /// `pp512` for a prefill of 512 tokens, `tg128` for 128 decode steps.
    pub test: String,
    /// Tokens in the cache before.
    pub depth: usize,
    /// The median.
    pub tokens_per_s: f64,
    /// Every run.
    pub runs: Vec<f64>,
    /// Bytes of the sequence's cache at the end.
    pub kv_bytes: usize,
}

/// Times prefill and decode as `spec` says; `report` gets each line when it is known.
pub fn bench(
    model: &mut dyn Forward,
    spec: &BenchSpec,
    report: &mut dyn FnMut(BenchLine),
) -> Result<(), ForwardError> {
    for &depth in &spec.depths {
        if spec.prompt > 0 {
            timed(
                model,
                spec,
                depth,
                format!("pp{}", spec.prompt),
                spec.prompt,
                report,
                |s| s.prefill(spec.prompt, spec.chunk),
            )?;
        }
        if spec.generate > 0 {
            timed(
                model,
                spec,
                depth,
                format!("tg{}", spec.generate),
                spec.generate,
                report,
                |s| (0..spec.generate).try_for_each(|_| s.feed(1, Phase::Decode)),
            )?;
        }
    }
    Ok(())
}

fn timed(
    model: &mut dyn Forward,
    spec: &BenchSpec,
    depth: usize,
    test: String,
    tokens: usize,
    report: &mut dyn FnMut(BenchLine),
    work: impl Fn(&mut Session<'_>) -> Result<(), ForwardError>,
) -> Result<(), ForwardError> {
    let mut runs = Vec::with_capacity(spec.repeat);
    let mut kv_bytes = 0;
    for run in 0..=spec.repeat {
        let mut session = Session::open(model, spec);
        // A cache is never empty when decoding starts.
        let before = if test.starts_with("tg") {
            depth.max(1)
        } else {
            depth
        };
        session.prefill(before, spec.chunk)?;
        let started = Instant::now();
        work(&mut session)?;
        let took = started.elapsed().as_secs_f64();
        kv_bytes = session.kv.as_ref().map_or(0, |kv| kv.bytes);
        session.close()?;
        if run > 0 {
            runs.push(tokens as f64 / took);
        }
    }
    let mut sorted = runs.clone();
    sorted.sort_by(f64::total_cmp);
    report(BenchLine {
        test,
        depth,
        tokens_per_s: sorted.get(sorted.len() / 2).copied().unwrap_or(0.0),
        runs,
        kv_bytes,
    });
    Ok(())
}

/// One sequence fed with numbers that follow no pattern.
struct Session<'a> {
    model: &'a mut dyn Forward,
    policy: Policy,
    vocab: usize,
    fed: usize,
    kv: Option<KvReport>,
}

const SEQ: SeqId = SeqId(u64::MAX);

impl<'a> Session<'a> {
    fn open(model: &'a mut dyn Forward, spec: &BenchSpec) -> Self {
        Session {
            model,
            policy: spec.policy.clone(),
            vocab: spec.vocab,
            fed: 0,
            kv: None,
        }
    }

    fn prefill(&mut self, tokens: usize, chunk: usize) -> Result<(), ForwardError> {
        let mut left = tokens;
        while left > 0 {
            let count = left.min(chunk.max(1));
            left -= count;
            self.feed(count, Phase::Prompt { left })?;
        }
        Ok(())
    }

    fn feed(&mut self, count: usize, phase: Phase) -> Result<(), ForwardError> {
        let token = |i: usize| (i.wrapping_mul(2_654_435_761) % self.vocab.max(1)) as TokenId;
        let row = Row {
            seq: SEQ,
            open: (self.fed == 0).then(|| Open {
                policy: self.policy.clone(),
                sampling: SamplingParams::default(),
                origin: Origin::Empty,
            }),
            tokens: (self.fed..self.fed + count).map(token).collect(),
            start: self.fed,
            want: match phase {
                Phase::Prompt { left } if left > 0 => Want::Nothing,
                _ => Want::Last,
            },
            phase,
        };
        self.fed += count;
        let outputs = self.model.forward(&Plan {
            rows: vec![row],
            paused: Vec::new(),
            ended: Vec::new(),
        })?;
        self.kv = outputs.rows.into_iter().next().map(|row| row.kv);
        Ok(())
    }

    fn close(self) -> Result<(), ForwardError> {
        let ended = vec![SEQ.into()];
        let rows = Vec::new();
        self.model
            .forward(&Plan {
                rows,
                paused: Vec::new(),
                ended,
            })
            .map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sched::FakeModel;

    #[test]
    fn every_depth_is_timed_and_the_cache_stays_within_its_budget() {
        let spec = BenchSpec {
            prompt: 10,
            generate: 4,
            depths: vec![0, 20],
            repeat: 2,
            policy: Policy::h2o(3, 3).unwrap(),
            vocab: 16,
            chunk: 4,
        };
        let mut lines = Vec::new();
        let mut model = FakeModel::new(16);
        bench(&mut model, &spec, &mut |line| lines.push(line)).unwrap();
        let names: Vec<_> = lines.iter().map(|l| (l.test.as_str(), l.depth)).collect();
        assert_eq!(names, [("pp10", 0), ("tg4", 0), ("pp10", 20), ("tg4", 20)]);
        let slot = model.kv_shape().slot_bytes();
        assert!(
            lines
                .iter()
                .all(|l| l.runs.len() == 2 && l.tokens_per_s > 0.0)
        );
        assert!(
            lines[2..].iter().all(|l| l.kv_bytes <= 7 * slot),
            "{lines:?}"
        );
    }
}
