//! llamahome beside other engines on the same file and the same cores: turn by turn in one run, since machines and their
//! neighbours differ by the hour. Prints every row, those that are lost too.
//!
//! `cargo bench --bench compare -- --model M.gguf --llama-cpp "PYTHON llamacpp_bench.py" --openvino "PYTHON openvino_bench.py"
//! [--rounds 3] [--threads 2] [--json]`. A peer is a command that takes a model, `--threads` and `--repeat`, and prints one
//! JSON object a line: `test`, `depth` and `runs` in tokens a second. What is left out is not compared.
//!
//! `-- --model M.gguf --check` measures llamahome alone, and fails when a share of what the machine allows is below two
//! thirds of what `shares.json` beside this file says: a loss of speed, whatever the machine and the hour.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

type Failed = Box<dyn Error>;

const LLAMAHOME: &str = env!("CARGO_BIN_EXE_llamahome");

/// Of a stored share, what a run must reach.
const TOLERANCE: f64 = 2.0 / 3.0;

/// What is compared: a name, our test and arguments, and the peers' tests with their least depths.
struct Row {
    name: &'static str,
    ours: (&'static str, &'static [&'static str]),
    peers: &'static [(&'static str, usize)],
}

const ROWS: [Row; 6] = [
    Row {
        name: "prefill 512",
        ours: ("pp512", &["-p", "512", "-n", "0", "--kv-policy", "full"]),
        peers: &[("pp512", 0)],
    },
    Row {
        name: "prefill 7,400",
        ours: ("pp7400", &["-p", "7400", "-n", "0", "--kv-policy", "full"]),
        peers: &[("pp7400", 0)],
    },
    Row {
        name: "decode 128",
        ours: ("tg128", &["-p", "0", "-n", "128", "--kv-policy", "full"]),
        peers: &[("tg128", 0)],
    },
    Row {
        name: "decode at depth 7,400, full attention",
        ours: (
            "tg64",
            &["-p", "0", "-n", "64", "-d", "7400", "--kv-policy", "full"],
        ),
        peers: &[("tg64", 7_000)],
    },
    Row {
        name: "decode at depth 7,400, 672 tokens kept",
        ours: (
            "tg64",
            &[
                "-p",
                "0",
                "-n",
                "64",
                "-d",
                "7400",
                "--kv-policy",
                "hybrid",
                "--kv-budget",
                "672",
            ],
        ),
        peers: &[("tg64 evict 672", 7_000)],
    },
    Row {
        name: "16 sequences decoding",
        ours: (
            "tg128",
            &[
                "-p",
                "0",
                "-n",
                "128",
                "-d",
                "128",
                "-b",
                "16",
                "--kv-policy",
                "full",
            ],
        ),
        peers: &[("tg128x16", 0), ("tg64x16", 0)],
    },
];

/// Loads a model through llama-cpp-python, feeds it a short prompt, and prints when it has the next token.
const FIRST_TOKEN: &str = "import sys, ctypes, llama_cpp as L
q = L.llama_log_callback(lambda *_: None); L.llama_log_set(q, ctypes.c_void_p(0)); L.llama_backend_init()
p = L.llama_model_default_params(); p.use_extra_bufts = len(sys.argv) < 4; m = L.llama_model_load_from_file(sys.argv[1].encode(), p)
c = L.llama_context_default_params(); c.n_ctx = 2048; c.n_threads = c.n_threads_batch = int(sys.argv[2])
x = L.llama_init_from_model(m, c); t = (L.llama_token * 32)(*range(100, 132))
assert L.llama_decode(x, L.llama_batch_get_one(t, 32)) == 0
L.llama_synchronize(x); print(L.llama_get_logits_ith(x, -1)[0], flush=True)";

struct Options {
    model: String,
    threads: String,
    rounds: usize,
    llama_cpp: Option<String>,
    openvino: Option<String>,
    json: bool,
    check: bool,
}

fn main() -> Result<(), Failed> {
    let options = options()?;
    if options.check {
        return check(&options);
    }
    let mut found: BTreeMap<(usize, &str), Vec<f64>> = BTreeMap::new();
    let mut shares = [0.0; ROWS.len()];
    for round in 0..options.rounds {
        eprintln!("round {} of {}", round + 1, options.rounds);
        for (index, row) in ROWS.iter().enumerate() {
            let line = ours(&options, row)?;
            shares[index] = line["share_of_limit"].as_f64().unwrap_or(0.0);
            eprintln!("llamahome: {}: {:.2}", row.name, line["tokens_per_s"]);
            let runs = found.entry((index, "llamahome")).or_default();
            runs.extend(line["tokens_per_s"].as_f64());
        }
        let mut take = |engine: &'static str, lines: Vec<Value>| {
            for (index, row) in ROWS.iter().enumerate() {
                let same = |line: &&Value| {
                    let depth = line["depth"].as_u64().unwrap_or(0) as usize;
                    let least = row.peers.iter().find(|(test, _)| line["test"] == **test);
                    least.is_some_and(|(_, least)| depth >= *least)
                };
                for line in lines.iter().filter(same) {
                    let runs = line["runs"].as_array().into_iter().flatten();
                    let runs = runs.filter_map(Value::as_f64);
                    eprintln!("{engine}: {}: {}", row.name, line["runs"]);
                    found.entry((index, engine)).or_default().extend(runs);
                }
            }
        };
        if let Some(peer) = &options.llama_cpp {
            for tests in [
                "--prompt 512 --gen 128 --parallel 16",
                "--prompt 7400 --gen 0",
                "--prompt 0 --gen 64 --depth 7400",
            ] {
                take(
                    "llama.cpp",
                    lines(&mut peer_command(peer, &options, tests))?,
                );
            }
        }
        if let Some(peer) = &options.openvino {
            take("openvino", lines(&mut peer_command(peer, &options, ""))?);
        }
    }
    for (index, row) in ROWS.iter().enumerate() {
        let of = |engine| found.get(&(index, engine)).map(|runs| median(runs));
        let Some(ours) = of("llamahome") else {
            continue;
        };
        let peers: Vec<_> = ["llama.cpp", "openvino"]
            .into_iter()
            .filter_map(|engine| Some((engine, of(engine)?)))
            .collect();
        tell(&options, row.name, ours, &peers, "tokens/s", false);
        if !options.json {
            println!(
                "{:<42} {:.0} % of what the machine allows",
                "",
                shares[index] * 100.0
            );
        }
    }
    beyond_speed(&options)
}

/// What is no speed of a test: memory, the time to a first token, and how a busy neighbour is borne.
fn beyond_speed(options: &Options) -> Result<(), Failed> {
    let args = [
        "-p",
        "0",
        "-n",
        "1",
        "-d",
        "2048",
        "-r",
        "1",
        "--kv-policy",
        "full",
        "--json",
    ];
    let all = lines(bench(options).args(args))?;
    let bytes = all.iter().find(|line| line["test"] == "resident");
    let resident = bytes.and_then(|line| line["bytes"].as_f64()).unwrap_or(0.0) / 1e6;
    let mut peers = Vec::new();
    if let Some(peer) = &options.llama_cpp {
        let tests = "--prompt 0 --gen 1 --depth 2048";
        let mut command = peer_command(peer, options, tests);
        peers.push(("llama.cpp", most_resident(&mut command)? / 1e6));
    }
    tell(
        options,
        "resident at depth 2,048",
        resident,
        &peers,
        "MB",
        true,
    );

    let (mut own, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds.max(3) {
        let mut command = Command::new(LLAMAHOME);
        command.args(["run", &options.model, "Say hello.", "--max-tokens", "1"]);
        command.args(["--threads", &options.threads]);
        own.push(first_byte(&mut command)?);
        if let Some(python) = options.llama_cpp.as_ref().and_then(|p| p.split(' ').next()) {
            let mut command = Command::new(python);
            command.args(["-c", FIRST_TOKEN, &options.model, &options.threads]);
            // On some processors its repacked weights end in a segmentation fault.
            let took = first_byte(&mut command).or_else(|_| first_byte(command.arg("plain")));
            theirs.push(took?);
        }
    }
    let peers = match theirs.is_empty() {
        true => Vec::new(),
        false => vec![("llama.cpp", median(&theirs))],
    };
    tell(
        options,
        "start to first token",
        median(&own),
        &peers,
        "s",
        true,
    );

    let decode = [
        "-p",
        "0",
        "-n",
        "128",
        "--kv-policy",
        "full",
        "-r",
        "1",
        "--json",
    ];
    let speed = |threads: &str| -> Result<f64, Failed> {
        let mut command = Command::new(LLAMAHOME);
        command
            .args(["bench", &options.model, "--threads", threads])
            .args(decode);
        let all = lines(&mut command)?;
        Ok(all
            .first()
            .and_then(|line| line["tokens_per_s"].as_f64())
            .unwrap_or(0.0))
    };
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds.max(3) {
        alone.push(speed("1")?);
        let busy = Busy::start()?;
        beside.push(speed(&options.threads)?);
        drop(busy);
    }
    let one = [("one thread, alone", median(&alone))];
    tell(
        options,
        "decode beside a busy process",
        median(&beside),
        &one,
        "tokens/s",
        false,
    );
    Ok(())
}

fn options() -> Result<Options, Failed> {
    let mut options = Options {
        model: String::new(),
        threads: "2".to_owned(),
        rounds: 3,
        llama_cpp: None,
        openvino: None,
        json: false,
        check: false,
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} needs a value"));
        match arg.as_str() {
            "--model" => options.model = value()?,
            "--threads" => options.threads = value()?,
            "--rounds" => options.rounds = value()?.parse()?,
            "--llama-cpp" => options.llama_cpp = Some(value()?),
            "--openvino" => options.openvino = Some(value()?),
            "--json" => options.json = true,
            "--check" => options.check = true,
            // Cargo's own.
            "--bench" => {}
            other => {
                return Err(
                    format!("{other} is no option: see the top of benches/compare.rs").into(),
                );
            }
        }
    }
    if options.model.is_empty() {
        return Err("name a GGUF file: cargo bench --bench compare -- --model M.gguf".into());
    }
    Ok(options)
}

fn bench(options: &Options) -> Command {
    let mut command = Command::new(LLAMAHOME);
    command.args(["bench", &options.model, "--threads", &options.threads]);
    command
}

/// One row of ours.
fn ours(options: &Options, row: &Row) -> Result<Value, Failed> {
    let (test, args) = row.ours;
    let all = lines(bench(options).args(args).args(["-r", "1", "--json"]))?;
    let line = all.into_iter().find(|line| line["test"] == test);
    line.ok_or_else(|| format!("no {test}").into())
}

fn peer_command(peer: &str, options: &Options, tests: &str) -> Command {
    let mut words = peer.split(' ');
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words).arg(&options.model);
    command.args(["--threads", &options.threads, "--repeat", "1"]);
    command.args(tests.split_whitespace());
    command
}

/// What a command prints, line by line.
fn lines(command: &mut Command) -> Result<Vec<Value>, Failed> {
    let output = command.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("{command:?} failed: {}", output.status).into());
    }
    let text = String::from_utf8(output.stdout)?;
    let lines = text.lines().filter(|line| line.starts_with('{'));
    Ok(lines.map(serde_json::from_str).collect::<Result<_, _>>()?)
}

/// Seconds until a command prints something.
fn first_byte(command: &mut Command) -> Result<f64, Failed> {
    let started = Instant::now();
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut byte = [0];
    let output = child.stdout.as_mut().ok_or("no output")?;
    output.read_exact(&mut byte)?;
    let took = started.elapsed().as_secs_f64();
    child.wait()?;
    Ok(took)
}

/// The most resident bytes that a command had.
fn most_resident(command: &mut Command) -> Result<f64, Failed> {
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let status = format!("/proc/{}/status", child.id());
    let mut most = 0.0f64;
    while child.try_wait()?.is_none() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
        most = most.max(kib.unwrap_or(0.0) * 1024.0);
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(most)
}

/// A process that keeps one core busy.
struct Busy(Child);

impl Busy {
    fn start() -> Result<Self, Failed> {
        let child = Command::new("sh")
            .args(["-c", "while :; do :; done"])
            .spawn()?;
        Ok(Busy(child))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

fn tell(options: &Options, name: &str, ours: f64, peers: &[(&str, f64)], unit: &str, less: bool) {
    let best = peers.iter().map(|(_, value)| *value).reduce(match less {
        true => f64::min,
        false => f64::max,
    });
    let ratio = best.map(|best| ours / best);
    if options.json {
        let all: BTreeMap<_, _> = peers.iter().copied().collect();
        let line =
            json!({ "row": name, "unit": unit, "llamahome": ours, "peers": all, "ratio": ratio });
        println!("{line}");
        return;
    }
    let all: Vec<_> = peers
        .iter()
        .map(|(name, value)| format!("{name} {value:.2}"))
        .collect();
    let ratio = ratio.map_or_else(String::new, |ratio| format!("ratio {ratio:.2}"));
    println!(
        "{name:<42} {ours:>9.2} {unit:<9} {:<44} {ratio}",
        all.join(", ")
    );
}

/// Shares of what the machine allows beside those that are stored.
fn check(options: &Options) -> Result<(), Failed> {
    let stored: BTreeMap<String, f64> = serde_json::from_str(include_str!("shares.json"))?;
    let mut lost = Vec::new();
    for row in &ROWS {
        let Some(stored) = stored.get(row.name) else {
            continue;
        };
        let mut runs = Vec::new();
        for _ in 0..options.rounds {
            runs.extend(ours(options, row)?["share_of_limit"].as_f64());
        }
        let share = median(&runs);
        println!(
            "{:<42} {share:.2} of the limit, {stored:.2} stored",
            row.name
        );
        if share < stored * TOLERANCE {
            lost.push(row.name);
        }
    }
    match lost.is_empty() {
        true => Ok(()),
        false => Err(format!("slower than what is stored: {}", lost.join(", ")).into()),
    }
}
