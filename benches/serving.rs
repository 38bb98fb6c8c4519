//! What serving many at once gains and costs, through the scheduler, in one process: ratios as JSON lines.
//!
//! `cargo bench --bench serving [-- TOKENS [PROMPT]]`; `LLAMAHOME_TEST_MODEL` names the model. `batch` is the decode throughput of 16
//! sequences over that of one, interleaved, median of the rounds. `arrival` is the 99 % quantile of the gaps between
//! tokens of 4 running streams from the submission of a long prompt to its first token, over the median of their gaps
//! before: for the prompt in one step, for chunks of fixed sizes, and for what keeps a step within the target time.

use std::time::Instant;

use llamahome::ids::{RequestId, SeqId, TokenId};
use llamahome::kv::Policy;
use llamahome::load::Sorted;
use llamahome::sample::SamplingParams;
use llamahome::sched::{
    BatcherKind, Config, Event, Limits, OfPrompt, Phase, Request, Scheduler, Standing, Stepper,
};
use serde_json::json;

mod engine;
use engine::Failure as Failed;

const ROUNDS: usize = 3;
const STREAMS: usize = 16;
/// Tokens of a short prompt, and of its answer.
const TOKENS: usize = 128;
/// Tokens of the long prompt.
const LONG: usize = 7000;

fn main() -> Result<(), Failed> {
    let engine::Engine {
        threads,
        compute,
        forward,
        ..
    } = engine::open()?;
    let mut engine = Engine {
        vocab: forward.model().config().vocab,
        stepper: Stepper::new(Box::new(forward)),
        salt: 0,
    };
    println!(
        "{}",
        json!({ "test": "machine", "threads": threads, "dtype": compute.dtype_name() })
    );
    // Cargo adds `--bench` to what is given.
    let mut sizes = std::env::args().skip(1).filter_map(|arg| arg.parse().ok());
    let (tokens, long) = (sizes.next().unwrap_or(TOKENS), sizes.next().unwrap_or(LONG));
    batch(&mut engine, tokens)?;
    for chunk in [Some(long), Some(512), Some(128), Some(32), None] {
        arrival(&mut engine, long, chunk)?;
    }
    Ok(())
}

/// A model, and what makes the next prompt another one.
struct Engine {
    stepper: Stepper,
    vocab: usize,
    salt: usize,
}

/// One scheduler on the engine, and when each sequence got its tokens.
struct Serving<'a> {
    engine: &'a mut Engine,
    scheduler: Scheduler,
    /// Per sequence, in the order of their submission.
    tokens: Vec<Vec<Instant>>,
}

impl Engine {
    /// Prompts in pieces of `chunk` tokens, or of what keeps a step within the target time.
    fn serve(&mut self, chunk: Option<usize>) -> Serving<'_> {
        let config = Config {
            max_batch: STREAMS,
            ..Config::default()
        };
        let config = match chunk {
            None => config,
            Some(chunk) => Config {
                batcher: BatcherKind::Fixed,
                prefill_tokens: chunk,
                step_tokens: chunk + STREAMS,
                ..config
            },
        };
        let limits = Limits {
            shape: self.stepper.kv_shape(),
            total_bytes: usize::MAX / 2,
        };
        let mut scheduler = Scheduler::new(config, limits).with_slices(self.stepper.slices());
        scheduler.grant(limits.total_bytes);
        Serving {
            engine: self,
            scheduler,
            tokens: Vec::new(),
        }
    }
}

impl Serving<'_> {
    /// Submits a prompt that none before it resembles.
    fn submit(&mut self, prompt: usize, max_tokens: usize) -> Result<SeqId, Failed> {
        self.engine.salt += 1;
        let (salt, vocab) = (self.engine.salt * 7919, self.engine.vocab);
        let token = |at: usize| ((at + salt).wrapping_mul(2_654_435_761) % vocab) as TokenId;
        let request = Request {
            id: RequestId::random(),
            prompt: (0..prompt).map(token).collect(),
            max_tokens,
            stop_ids: Vec::new(),
            sampling: SamplingParams::default(),
            policy: Policy::full(),
            tenant: None,
            session: None,
            standing: Standing::default(),
            of_prompt: OfPrompt::Nothing,
        };
        self.tokens.push(Vec::new());
        Ok(self.scheduler.submit(request, Instant::now())?)
    }

    /// One step. Returns whether there was work, and whether each of its rows was a decode.
    fn step(&mut self) -> Result<Option<bool>, Failed> {
        let Some(plan) = self.scheduler.plan(Instant::now()) else {
            return Ok(None);
        };
        let decode = plan.rows.iter().all(|row| row.phase == Phase::Decode);
        let slice = self.scheduler.slice();
        let drawn = self.engine.stepper.step(&plan, slice)?;
        let now = Instant::now();
        for (seq, event) in self.scheduler.commit(drawn, now) {
            if let (Event::Token { .. }, Some(times)) = (event, self.tokens.get_mut(seq.0 as usize))
            {
                times.push(now);
            }
        }
        Ok(Some(decode))
    }

    /// Ends all sequences and frees their memory.
    fn close(mut self) -> Result<(), Failed> {
        for seq in 0..self.tokens.len() as u64 {
            self.scheduler.cancel(SeqId(seq), Instant::now());
        }
        while self.step()?.is_some() {}
        Ok(())
    }
}

/// Tokens a second of `streams` sequences in steps that only decode, once all of them do.
fn decode(engine: &mut Engine, streams: usize, length: usize) -> Result<f64, Failed> {
    let mut serving = engine.serve(None);
    for _ in 0..streams {
        serving.submit(length, length)?;
    }
    let (mut seconds, mut tokens) = (0.0, 0);
    loop {
        let running = serving.scheduler.running();
        let begun = Instant::now();
        match serving.step()? {
            None => break,
            Some(true) if running == streams => {
                seconds += begun.elapsed().as_secs_f64();
                tokens += streams;
            }
            Some(_) => {}
        }
    }
    serving.close()?;
    Ok(f64::from(tokens as u32) / seconds)
}

fn batch(engine: &mut Engine, tokens: usize) -> Result<(), Failed> {
    decode(engine, 1, tokens)?;
    let (mut one, mut many, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (alone, together) = (decode(engine, 1, tokens)?, decode(engine, STREAMS, tokens)?);
        one.push(alone);
        many.push(together);
        ratios.push(together / alone);
    }
    println!(
        "{}",
        json!({
            "test": "batch",
            "streams": STREAMS,
            "tokens": tokens,
            "one_tokens_per_s": median(&one),
            "all_tokens_per_s": median(&many),
            "ratio": median(&ratios),
            "ratios": ratios,
        })
    );
    Ok(())
}

fn arrival(engine: &mut Engine, long: usize, chunk: Option<usize>) -> Result<(), Failed> {
    const RUNNING: usize = 4;
    const BEFORE: usize = 64;
    let mut serving = engine.serve(chunk);
    for _ in 0..RUNNING {
        serving.submit(TOKENS, 4096)?;
    }
    while serving.tokens.iter().any(|times| times.len() <= BEFORE) {
        serving.step()?;
    }
    let undisturbed = gaps(&serving.tokens);
    let seen: Vec<usize> = serving.tokens.iter().map(Vec::len).collect();
    let begun = Instant::now();
    serving.submit(long, 1)?;
    while serving.tokens.last().is_some_and(Vec::is_empty) {
        serving.step()?;
    }
    let first_token_s = begun.elapsed().as_secs_f64();
    // The last token before the arrival begins the first gap that it disturbs.
    let running: Vec<Vec<Instant>> = serving
        .tokens
        .iter()
        .zip(seen)
        .map(|(times, seen)| times.iter().skip(seen - 1).copied().collect())
        .collect();
    let disturbed = gaps(&running);
    serving.close()?;
    let base = undisturbed
        .quantile(0.5)
        .ok_or("no gaps before the arrival")?;
    let p99 = disturbed
        .quantile(0.99)
        .ok_or("no gaps during the arrival")?;
    println!(
        "{}",
        json!({
            "test": "arrival",
            "prompt": long,
            "running": RUNNING,
            "batcher": if chunk.is_some() { "fixed" } else { "dynamic" },
            "chunk": chunk,
            "undisturbed_median_ms": base * 1e3,
            "itl_p50_ms": disturbed.quantile(0.5).map(|gap| gap * 1e3),
            "itl_p99_ms": p99 * 1e3,
            "itl_max_ms": disturbed.quantile(1.0).map(|gap| gap * 1e3),
            "gaps": disturbed.values().len(),
            "prompt_first_token_s": first_token_s,
            "ratio": p99 / base,
        })
    );
    Ok(())
}

fn gaps(tokens: &[Vec<Instant>]) -> Sorted {
    let pairs = tokens.iter().flat_map(|times| times.windows(2));
    pairs
        .map(|pair| (pair[1] - pair[0]).as_secs_f64())
        .collect()
}

fn median(values: &[f64]) -> f64 {
    values
        .iter()
        .copied()
        .collect::<Sorted>()
        .quantile(0.5)
        .unwrap_or(f64::NAN)
}
