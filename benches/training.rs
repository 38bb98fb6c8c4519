//! Training steps beside those of another program, in turns in one run: 4 rows of 256 random tokens, AdamW, a loss over all
//! of them.
//!
//! `cargo bench --bench training -- --model M.gguf [--peer "PYTHON hf_bench.py"] [--rounds 3] [--threads 2] [--json]`. A peer is a
//! command that takes a model and `--threads`, and prints one JSON object a line: `test` (`full fp32`, `full bf16 ...`,
//! `lora ...`), `tokens_per_s` and, where it knows it, `peak_bytes`. Each of our measurements is a process of its own, so that its
//! peak of resident memory is its own, too. Prints every row, those that are lost too.

use std::collections::BTreeMap;
use std::error::Error;
use std::process::{Command, Stdio};
use std::time::Instant;

use llamahome::ids::TokenId;
use llamahome::store::Model;
use llamahome::train::network::{LoraSpec, Moment, Network, NetworkOptions, Pass, Precision};
use llamahome::train::optimizer::{Optimizer, OptimizerSpec, Rates};
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

type Failed = Box<dyn Error>;

const ROWS: usize = 4;
const LENGTH: usize = 256;
/// Timed steps of a process, after one that is not.
const STEPS: usize = 3;

/// What is measured, by how the peer's names of it begin.
const TESTS: [&str; 3] = ["full fp32", "full bf16", "lora"];

struct Asked {
    model: String,
    peer: Option<String>,
    rounds: usize,
    threads: usize,
    json: bool,
    /// One test in this process.
    only: Option<String>,
}

fn main() -> Result<(), Failed> {
    let asked = asked()?;
    match &asked.only {
        Some(test) => measure(&asked, test),
        None => compare(&asked),
    }
}

fn asked() -> Result<Asked, Failed> {
    let mut asked = Asked {
        model: String::new(),
        peer: None,
        rounds: 3,
        threads: 2,
        json: false,
        only: None,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            "--model" => asked.model = value()?,
            "--peer" => asked.peer = Some(value()?),
            "--rounds" => asked.rounds = value()?.parse()?,
            "--threads" => asked.threads = value()?.parse()?,
            "--only" => asked.only = Some(value()?),
            "--json" => asked.json = true,
            "--bench" => {}
            other => return Err(format!("unknown flag {other}").into()),
        }
    }
    match asked.model.is_empty() {
        true => Err("--model names a model file".into()),
        false => Ok(asked),
    }
}

/// Times one test and prints its line.
fn measure(asked: &Asked, test: &str) -> Result<(), Failed> {
    let lora = LoraSpec {
        rank: 8,
        alpha: 32.0,
        dropout: 0.0,
        targets: vec!["q_proj".to_owned(), "v_proj".to_owned()],
    };
    let options = NetworkOptions {
        precision: match test {
            "full fp32" => Precision::Float32,
            _ => Precision::Bfloat16,
        },
        lora: (test == "lora").then_some(lora),
        context: Some(LENGTH),
        threads: asked.threads,
        ..NetworkOptions::default()
    };
    let model = Model::open(asked.model.as_ref())?;
    let mut network = Network::open(&model.checkpoint, options)?;
    let processor = network.processor().clone();
    let mut optimizer = Optimizer::new(OptimizerSpec::default(), &network.parameters(), processor)?;
    let vocab = network.config().vocab as TokenId;
    let mut random = rand::rngs::SmallRng::seed_from_u64(1);
    let samples: Vec<Vec<TokenId>> = (0..ROWS)
        .map(|_| (0..LENGTH).map(|_| random.random_range(0..vocab)).collect())
        .collect();
    let samples: Vec<&[TokenId]> = samples.iter().map(Vec::as_slice).collect();
    let pass = Pass::next_tokens(&samples);
    let rates = Rates {
        lr: 1e-5,
        matrix_lr: 1e-5,
        weight_decay: 0.01,
        momentum: 0.95,
    };
    let mut runs = Vec::new();
    for step in 0..=STEPS as u64 {
        let begun = Instant::now();
        network.zero_gradients();
        let moment = Moment {
            step,
            micro_step: 0,
        };
        let cost = network.learn(&pass, moment)?;
        let scale = 1.0 / cost.weight;
        let clipped = optimizer.clip(&network.parameters(), scale, None);
        optimizer.step(&mut network.parameters_mut(), rates, clipped.scale)?;
        if step > 0 {
            runs.push((ROWS * LENGTH) as f64 / begun.elapsed().as_secs_f64());
        }
    }
    let line = json!({
        "engine": "llamahome", "test": test, "tokens_per_s": median(&mut runs.clone()), "runs": runs,
        "peak_bytes": peak(),
    });
    println!("{line}");
    Ok(())
}

/// The most memory that this process had resident, in bytes.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

/// What one engine's runs of one test gave.
#[derive(Default)]
struct Seen {
    rates: Vec<f64>,
    peak: Option<u64>,
}

fn compare(asked: &Asked) -> Result<(), Failed> {
    let mut seen: BTreeMap<(bool, usize), Seen> = BTreeMap::new();
    let ourselves = std::env::current_exe()?;
    for _ in 0..asked.rounds {
        for test in TESTS {
            let mut command = Command::new(&ourselves);
            command.args(["--only", test, "--model", &asked.model]);
            take(&mut seen, true, command, asked)?;
        }
        if let Some(peer) = &asked.peer {
            let mut words = peer.split_whitespace();
            let mut command = Command::new(words.next().ok_or("--peer names a command")?);
            command.args(words).arg(&asked.model);
            take(&mut seen, false, command, asked)?;
        }
    }
    if asked.json {
        return Ok(());
    }
    println!(
        "{:<12} {:>10} {:>10} {:>6} {:>12} {:>12} {:>6}",
        "test", "ours tok/s", "peer tok/s", "ratio", "ours MiB", "peer MiB", "ratio"
    );
    let mib = |bytes: Option<u64>| bytes.map(|bytes| bytes as f64 / f64::from(1 << 20));
    let shown =
        |value: Option<f64>, digits| value.map_or("-".to_owned(), |v| format!("{v:.digits$}"));
    let divided = |a: Option<f64>, b: Option<f64>| Some(a? / b?);
    for (index, test) in TESTS.iter().enumerate() {
        let of = |ours: bool| {
            let found = seen.get(&(ours, index));
            let rate = found.map(|seen| median(&mut seen.rates.clone()));
            (rate, mib(found.and_then(|seen| seen.peak)))
        };
        let ((ours, our_peak), (peer, peer_peak)) = (of(true), of(false));
        println!(
            "{test:<12} {:>10} {:>10} {:>6} {:>12} {:>12} {:>6}",
            shown(ours, 0),
            shown(peer, 0),
            shown(divided(ours, peer), 2),
            shown(our_peak, 0),
            shown(peer_peak, 0),
            shown(divided(our_peak, peer_peak), 2)
        );
    }
    Ok(())
}

/// Runs a command and takes in the lines that it prints.
fn take(
    seen: &mut BTreeMap<(bool, usize), Seen>,
    ours: bool,
    mut command: Command,
    asked: &Asked,
) -> Result<(), Failed> {
    command.args(["--threads", &asked.threads.to_string()]);
    let ran = command.stderr(Stdio::inherit()).output()?;
    if !ran.status.success() {
        return Err(format!("{command:?} ended with {}", ran.status).into());
    }
    for line in String::from_utf8(ran.stdout)?.lines() {
        let Ok(value) = serde_json::from_str::<Value>(line) else {
            continue;
        };
        let name = value["test"].as_str().unwrap_or_default();
        let Some(index) = TESTS.iter().position(|test| name.starts_with(test)) else {
            continue;
        };
        if asked.json {
            println!("{line}");
        }
        let one = seen.entry((ours, index)).or_default();
        one.rates.extend(value["tokens_per_s"].as_f64());
        one.peak = one.peak.max(value["peak_bytes"].as_u64());
    }
    Ok(())
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
