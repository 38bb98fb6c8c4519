//! Prefill and decode speed of a model on this machine, by depth of context.

use std::time::Instant;

use serde::Serialize;

use crate::ids::{SeqId, TokenId};
use crate::kv::{KvReport, Policy};
use crate::sample::SamplingParams;
use crate::sched::{Ended, Forward, ForwardError, Open, Origin, Phase, Plan, Row, Want};

/// What to time.
#[derive(Debug, Clone)]
pub struct BenchSpec {
    /// Prompt tokens that prefill tests read; 0 is none.
    pub prompts: Vec<usize>,
    /// Tokens that decode tests generate; 0 is none.
    pub generate: Vec<usize>,
    /// Tokens that are in each cache already, a set of tests each.
    pub depths: Vec<usize>,
    /// Sequences that run side by side, likewise.
    pub batches: Vec<usize>,
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
    /// Tokens in each cache before.
    pub depth: usize,
    /// Sequences side by side.
    pub batch: usize,
    /// The median, of all sequences together.
    pub tokens_per_s: f64,
    /// Every run.
    pub runs: Vec<f64>,
    /// Tokens that a sequence read or generated.
    #[serde(skip)]
    pub tokens: usize,
    /// Whether it read them.
    #[serde(skip)]
    pub prefill: bool,
    /// Tokens of a sequence's cache at the end.
    pub kv_tokens: usize,
    /// Bytes of it.
    pub kv_bytes: usize,
}

/// Times prefill and decode as `spec` says; `report` gets each line when it is known.
pub fn bench(
    model: &mut dyn Forward,
    spec: &BenchSpec,
    report: &mut dyn FnMut(BenchLine),
) -> Result<(), ForwardError> {
    for &depth in &spec.depths {
        for &batch in &spec.batches {
            let prompts = spec.prompts.iter().map(|&tokens| (tokens, true));
            let answers = spec.generate.iter().map(|&tokens| (tokens, false));
            for (tokens, prefill) in prompts.chain(answers).filter(|(tokens, _)| *tokens > 0) {
                let test = Test {
                    depth,
                    batch,
                    tokens,
                    prefill,
                };
                report(timed(model, spec, test)?);
            }
        }
    }
    Ok(())
}

#[derive(Clone, Copy)]
struct Test {
    depth: usize,
    batch: usize,
    tokens: usize,
    prefill: bool,
}

fn timed(model: &mut dyn Forward, spec: &BenchSpec, test: Test) -> Result<BenchLine, ForwardError> {
    let Test {
        depth,
        batch,
        tokens,
        prefill,
    } = test;
    let mut runs = Vec::with_capacity(spec.repeat);
    let mut kv = KvReport::default();
    for run in 0..=spec.repeat {
        let mut sessions = Sessions::open(model, spec, batch);
        // A cache is never empty when decoding starts.
        sessions.prefill(if prefill { depth } else { depth.max(1) }, spec.chunk)?;
        let started = Instant::now();
        match prefill {
            true => sessions.prefill(tokens, spec.chunk)?,
            false => (0..tokens).try_for_each(|_| sessions.feed(1, Phase::Decode))?,
        }
        let took = started.elapsed().as_secs_f64();
        kv = sessions.kv.take().unwrap_or_default();
        sessions.close()?;
        if run > 0 {
            runs.push((batch * tokens) as f64 / took);
        }
    }
    let mut sorted = runs.clone();
    sorted.sort_by(f64::total_cmp);
    Ok(BenchLine {
        test: format!("{}{tokens}", if prefill { "pp" } else { "tg" }),
        depth,
        batch,
        tokens_per_s: sorted.get(sorted.len() / 2).copied().unwrap_or(0.0),
        runs,
        tokens,
        prefill,
        kv_tokens: kv.tokens_kept,
        kv_bytes: kv.bytes,
    })
}

/// Sequences fed side by side with numbers that follow no pattern.
struct Sessions<'a> {
    model: &'a mut dyn Forward,
    policy: Policy,
    vocab: usize,
    batch: usize,
    fed: usize,
    /// Of the first sequence.
    kv: Option<KvReport>,
}

/// The first of the sequences' numbers, far from any that a scheduler gives.
const SEQ: u64 = 1 << 63;

impl<'a> Sessions<'a> {
    fn open(model: &'a mut dyn Forward, spec: &BenchSpec, batch: usize) -> Self {
        Sessions {
            model,
            policy: spec.policy.clone(),
            vocab: spec.vocab,
            batch,
            fed: 0,
            kv: None,
        }
    }

    fn ids(&self) -> impl Iterator<Item = SeqId> + use<> {
        (SEQ..).take(self.batch).map(SeqId)
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
        let token = |seq: SeqId, i: usize| {
            let salted = i + (seq.0 - SEQ) as usize * 7919;
            (salted.wrapping_mul(2_654_435_761) % self.vocab.max(1)) as TokenId
        };
        let row = |seq: SeqId| Row {
            seq,
            open: (self.fed == 0).then(|| Open {
                policy: self.policy.clone(),
                sampling: SamplingParams::default(),
                origin: Origin::Empty,
            }),
            tokens: (self.fed..self.fed + count)
                .map(|i| token(seq, i))
                .collect(),
            start: self.fed,
            want: match phase {
                Phase::Prompt { left } if left > 0 => Want::Nothing,
                _ => Want::Last,
            },
            phase,
        };
        let plan = Plan {
            rows: self.ids().map(row).collect(),
            ..Plan::default()
        };
        self.fed += count;
        let outputs = self.model.forward(&plan)?;
        self.kv = outputs.rows.into_iter().next().map(|row| row.kv);
        Ok(())
    }

    fn close(self) -> Result<(), ForwardError> {
        let plan = Plan {
            ended: self.ids().map(Ended::from).collect(),
            ..Plan::default()
        };
        self.model.forward(&plan).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sched::FakeModel;

    #[test]
    fn every_depth_is_timed_and_the_cache_stays_within_its_budget() {
        let spec = BenchSpec {
            prompts: vec![10, 0],
            generate: vec![4],
            depths: vec![0, 20],
            batches: vec![1, 3],
            repeat: 2,
            policy: Policy::h2o(3, 3).unwrap(),
            vocab: 16,
            chunk: 4,
        };
        let mut lines = Vec::new();
        let mut model = FakeModel::new(16);
        bench(&mut model, &spec, &mut |line| lines.push(line)).unwrap();
        let names: Vec<_> = lines
            .iter()
            .map(|l| (l.test.as_str(), l.depth, l.batch))
            .collect();
        let expected: Vec<_> = [0, 20]
            .into_iter()
            .flat_map(|depth| [1, 3].map(|batch| [("pp10", depth, batch), ("tg4", depth, batch)]))
            .flatten()
            .collect();
        assert_eq!(names, expected);
        let slot = model.kv_shape().slot_bytes();
        assert!(
            lines
                .iter()
                .all(|l| l.runs.len() == 2 && l.tokens_per_s > 0.0)
        );
        assert!(
            lines[4..]
                .iter()
                .all(|l| l.kv_bytes <= 7 * slot && l.kv_tokens <= 6),
            "{lines:?}"
        );
    }
}
