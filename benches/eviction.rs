//! What scoring costs a decode step, and what eviction saves it: medians of interleaved steps in one run, as ratios.
//!
//! `cargo bench --bench eviction [-- DEPTH]`. One prompt is read once and forked into every case, so all start from the
//! same cache; forks of full attention share its memory, which flatters full attention where several run at once.

use std::time::Instant;

use llamahome::ids::{SeqId, TokenId};
use llamahome::kv::{Hybrid, Policy};
use llamahome::llama::LlamaForward;
use llamahome::sample::SamplingParams;
use llamahome::sched::{Forward, ForwardError, Open, Origin, Phase, Plan, Row, Want};

mod engine;

const STEPS: usize = 48;

struct Case {
    name: &'static str,
    seqs: Vec<SeqId>,
    times: Vec<f64>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let engine::Engine {
        threads,
        mut forward,
        ..
    } = engine::open()?;
    let vocab = forward.model().config().vocab;
    println!("{threads} threads, medians of {STEPS} interleaved steps, milliseconds");

    // Scoring: the same number of slots, read with and without a score for each.
    let depth = 4096;
    read(&mut forward, depth, vocab)?;
    let mut cases = vec![
        open(
            &mut forward,
            "no scores",
            1,
            depth,
            Policy::streaming(4, depth - 4)?,
        )?,
        open(
            &mut forward,
            "h2o scores",
            1,
            depth,
            Policy::h2o(depth / 2, depth / 2)?,
        )?,
        open(
            &mut forward,
            "hybrid scores",
            1,
            depth,
            Policy::hybrid(depth, Hybrid::default())?,
        )?,
    ];
    time(&mut forward, &mut cases, depth, vocab)?;
    report(&format!("scoring at depth {depth}"), &cases);
    close(&mut forward, &cases)?;

    // Eviction: a fifth of the depth against all of it, one sequence and eight.
    let depth = 7680;
    read(&mut forward, depth, vocab)?;
    let fifth = depth / 5;
    for count in [1, 8] {
        let mut cases = vec![
            open(&mut forward, "full", count, depth, Policy::full())?,
            open(
                &mut forward,
                "hybrid 20 %",
                count,
                depth,
                Policy::hybrid(fifth, Hybrid::default())?,
            )?,
            open(
                &mut forward,
                "h2o 20 %",
                count,
                depth,
                Policy::h2o(fifth / 2, fifth / 2)?,
            )?,
        ];
        time(&mut forward, &mut cases, depth, vocab)?;
        report(&format!("depth {depth}, {count} sequence(s)"), &cases);
        close(&mut forward, &cases)?;
    }
    Ok(())
}

fn token(position: usize, vocab: usize) -> TokenId {
    (position.wrapping_mul(2_654_435_761) % vocab) as TokenId
}

const BASE: SeqId = SeqId(0);

/// Reads all but the last of `depth` tokens once.
fn read(forward: &mut LlamaForward, depth: usize, vocab: usize) -> Result<(), ForwardError> {
    forward.forward(&Plan {
        rows: Vec::new(),
        paused: Vec::new(),
        ended: vec![BASE.into()],
    })?;
    let mut at = 0;
    while at + 1 < depth {
        let end = (at + 512).min(depth - 1);
        let row = Row {
            seq: BASE,
            open: (at == 0).then(|| Open {
                policy: Policy::observer(32),
                sampling: SamplingParams::default(),
                origin: Origin::Empty,
            }),
            tokens: (at..end).map(|p| token(p, vocab)).collect(),
            start: at,
            want: Want::Nothing,
            phase: Phase::Prompt { left: depth - end },
        };
        forward.forward(&Plan {
            rows: vec![row],
            paused: Vec::new(),
            ended: Vec::new(),
        })?;
        at = end;
    }
    Ok(())
}

/// Forks `count` sequences, each of which reads the prompt's last token and is cut to its budget.
fn open(
    forward: &mut LlamaForward,
    name: &'static str,
    count: usize,
    depth: usize,
    policy: Policy,
) -> Result<Case, ForwardError> {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    let mut seqs = Vec::new();
    for _ in 0..count {
        let seq = SeqId(NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        let row = Row {
            seq,
            open: Some(Open {
                policy: policy.clone(),
                sampling: SamplingParams::default(),
                origin: Origin::Fork(BASE),
            }),
            tokens: vec![1],
            start: depth - 1,
            want: Want::Nothing,
            phase: Phase::Prompt { left: 0 },
        };
        forward.forward(&Plan {
            rows: vec![row],
            paused: Vec::new(),
            ended: Vec::new(),
        })?;
        seqs.push(seq);
    }
    Ok(Case {
        name,
        seqs,
        times: Vec::new(),
    })
}

/// One step of each case in turn, again and again: what disturbs the machine disturbs all alike.
fn time(
    forward: &mut LlamaForward,
    cases: &mut [Case],
    depth: usize,
    vocab: usize,
) -> Result<(), ForwardError> {
    for step in 0..STEPS + 2 {
        for case in cases.iter_mut() {
            let rows = case.seqs.iter().map(|&seq| Row {
                seq,
                open: None,
                tokens: vec![token(depth + step, vocab)],
                start: depth + step,
                want: Want::Last,
                phase: Phase::Decode,
            });
            let plan = Plan {
                rows: rows.collect(),
                paused: Vec::new(),
                ended: Vec::new(),
            };
            let begun = Instant::now();
            forward.forward(&plan)?;
            // The first steps copy what was shared.
            if step >= 2 {
                case.times.push(begun.elapsed().as_secs_f64() * 1e3);
            }
        }
    }
    Ok(())
}

fn report(title: &str, cases: &[Case]) {
    println!("\n{title}");
    let median = |times: &[f64]| {
        let mut sorted = times.to_vec();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    };
    let base = median(&cases[0].times);
    for case in cases {
        let own = median(&case.times);
        println!(
            "{:<16} {own:>9.2} ms  {:>6.3} of {}",
            case.name,
            own / base,
            cases[0].name
        );
    }
}

fn close(forward: &mut LlamaForward, cases: &[Case]) -> Result<(), ForwardError> {
    let ended = cases.iter().flat_map(|case| &case.seqs);
    forward
        .forward(&Plan {
            rows: Vec::new(),
            paused: Vec::new(),
            ended: ended.map(|&seq| seq.into()).collect(),
        })
        .map(drop)
}
