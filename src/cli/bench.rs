//! `bench`: prefill and decode speed, by depth of context and by sequences side by side, and as shares of what the machine
//! allows.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use sysinfo::{CpuRefreshKind, Pid, ProcessRefreshKind, ProcessesToUpdate, RefreshKind, System};

use super::exit::Exit;
use super::flags::{Global, ModelFlags};
use super::host::Host;
use super::output;
use crate::config::Overrides;
use crate::kv::{KvChoice, Policy};
use crate::llama::{
    BenchLine, BenchSpec, Limits, LlamaForward, Machine, ModelConfig, bench, set_threads,
};
use crate::sched::Forward;

/// The flags of `bench`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The model; runtime.default_model if none is named
    model: Option<String>,
    /// Tokens of the prefill tests; 0 leaves them out
    #[arg(short, long, value_name = "N,...", num_args = 1.., value_delimiter = ',', default_values_t = [512])]
    prompt: Vec<usize>,
    /// Tokens of the decode tests; 0 leaves them out
    #[arg(short = 'n', long, value_name = "N,...", num_args = 1.., value_delimiter = ',', default_values_t = [128])]
    r#gen: Vec<usize>,
    /// Tokens that are in the cache before
    #[arg(short, long, value_name = "N,...", num_args = 1.., value_delimiter = ',', default_values_t = [0])]
    depth: Vec<usize>,
    /// Sequences side by side; their tokens count together
    #[arg(short, long, value_name = "N,...", num_args = 1.., value_delimiter = ',', default_values_t = [1], value_parser = at_least_one)]
    batch: Vec<usize>,
    /// Timed runs of each test
    #[arg(short, long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    repeat: u16,
    /// Say what the machine is and allows, and time no model
    #[arg(long, conflicts_with_all = ["model", "prompt", "gen", "depth", "batch", "repeat", "md", "csv"])]
    machine: bool,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    /// Print a Markdown table
    #[arg(long, conflicts_with = "json")]
    md: bool,
    /// Print comma-separated values
    #[arg(long, conflicts_with_all = ["json", "md"])]
    csv: bool,
    #[command(flatten)]
    flags: ModelFlags,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".to_owned()),
        Ok(count) => Ok(count),
        Err(error) => Err(format!("{error}")),
    }
}

/// What is the same for all lines.
struct Run {
    model: String,
    quantization: String,
    dtype: &'static str,
    threads: usize,
    policy: Policy,
}

/// How lines are written.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    Text,
    Json,
    Markdown,
    Csv,
}

/// Runs the command.
///
/// # Errors
/// When the model cannot be had, a test does not fit the context, or the computation fails.
pub(super) fn run(global: &Global, args: &Args) -> Result<Exit> {
    let mut overrides = Overrides::new();
    args.flags.add_to(&mut overrides);
    let mut host = Host::open(global, overrides)?;
    host.start_log()?;
    let settings = host.settings();
    if args.machine {
        let (threads, _) = set_threads(&settings.model);
        return machine(&Machine::measure(threads)?, args.json);
    }
    let name = args
        .model
        .clone()
        .unwrap_or_else(|| settings.runtime.default_model.clone());
    host.ensure(&name)?;
    let (models, threads, _) = host.models();
    let (model, mut forward) = models.load(&name)?;
    let context = forward.model().context();
    let longest = |tests: &[usize]| tests.iter().copied().max().unwrap_or(0);
    for &depth in &args.depth {
        let most = depth.max(1) + longest(&args.prompt).max(longest(&args.r#gen));
        ensure!(
            most <= context,
            "depth {depth} with its test needs {most} positions, the context of {name} has {context}"
        );
    }
    let policy = KvChoice::default().resolve(&settings.kv, context, forward.kv_shape())?;
    let spec = BenchSpec {
        prompts: args.prompt.clone(),
        generate: args.r#gen.clone(),
        depths: args.depth.clone(),
        batches: args.batch.clone(),
        repeat: usize::from(args.repeat),
        policy: policy.clone(),
        vocab: forward.model().config().vocab,
        chunk: settings.model.prefill_chunk,
    };
    let form = match args {
        Args { json: true, .. } => Form::Json,
        Args { md: true, .. } => Form::Markdown,
        Args { csv: true, .. } => Form::Csv,
        _ => Form::Text,
    };
    let compute = forward.model().compute();
    let limits = Limits::measure(threads, compute.prompts)?;
    let shares = Shares::new(&forward, limits);
    let run = Run {
        model: name,
        quantization: model.summary.quantization.clone(),
        dtype: compute.dtype_name(),
        threads,
        policy,
    };
    head(form, &run)?;
    let mut written = Ok(());
    bench(&mut forward, &spec, &mut |line| {
        if written.is_ok() {
            written = tell(form, &run, &line, shares.of(&line));
        }
    })?;
    written?;
    let resident = resident();
    match form {
        Form::Json => output::json_line(&json!({ "test": "resident", "bytes": resident }))?,
        Form::Text => {
            if let Some(bytes) = resident {
                output::line(format!("resident memory {}", output::size(bytes)))?;
            }
        }
        Form::Markdown | Form::Csv => {}
    }
    Ok(Exit::Done)
}

/// How much of what the machine allows a test came to.
struct Shares {
    limits: Limits,
    config: ModelConfig,
    weights: usize,
    slot: usize,
}

impl Shares {
    fn new(forward: &LlamaForward, limits: Limits) -> Self {
        Shares {
            limits,
            config: forward.model().config().clone(),
            weights: forward.weight_bytes(),
            slot: forward.kv_shape().slot_bytes(),
        }
    }

    fn of(&self, line: &BenchLine) -> f64 {
        let limit = match line.prefill {
            true => self.limits.prefill(&self.config, line.tokens, line.depth),
            false => {
                // On average, half of what was generated is there to be read.
                let grown = line.kv_tokens.saturating_sub(line.depth).min(line.tokens);
                let cached = (line.kv_tokens - grown.min(line.kv_tokens) / 2) * self.slot;
                self.limits.decode(self.weights, cached, line.batch)
            }
        };
        line.tokens_per_s / limit
    }
}

const COLUMNS: [&str; 11] = [
    "engine",
    "model",
    "dtype",
    "threads",
    "kv_policy",
    "kv_budget",
    "test",
    "depth",
    "batch",
    "tokens_per_s",
    "share_of_limit",
];

fn head(form: Form, run: &Run) -> Result<()> {
    match form {
        Form::Json => Ok(()),
        Form::Text => {
            output::line(format!(
                "{}: {}, {}, {} threads, policy {}",
                run.model,
                run.quantization,
                run.dtype,
                run.threads,
                run.policy.name()
            ))?;
            output::line(format!(
                "{:>8} {:>8} {:>6} {:>12} {:>9} {:>12}  RUNS",
                "TEST", "DEPTH", "BATCH", "TOKENS/S", "OF LIMIT", "KV"
            ))
        }
        Form::Markdown => {
            output::line(format!("| {} |", COLUMNS.join(" | ")))?;
            output::line(format!("|{}", "---|".repeat(COLUMNS.len())))
        }
        Form::Csv => output::line(COLUMNS.join(",")),
    }
}

fn tell(form: Form, run: &Run, line: &BenchLine, share: f64) -> Result<()> {
    if form == Form::Text {
        let runs: Vec<_> = line.runs.iter().map(|run| format!("{run:.2}")).collect();
        let kv = output::size(line.kv_bytes as u64);
        return output::line(format!(
            "{:>8} {:>8} {:>6} {:>12.2} {:>8.0}% {kv:>12}  {}",
            line.test,
            line.depth,
            line.batch,
            line.tokens_per_s,
            share * 100.0,
            runs.join(" ")
        ));
    }
    let mut value = serde_json::to_value(line)?;
    if let Some(fields) = value.as_object_mut() {
        fields.insert("engine".to_owned(), "llamahome".into());
        fields.insert("kv_policy".to_owned(), run.policy.name().into());
        fields.insert("kv_budget".to_owned(), run.policy.capacity().into());
        fields.insert("threads".to_owned(), run.threads.into());
        fields.insert("share_of_limit".to_owned(), share.into());
        fields.insert("model".to_owned(), run.model.as_str().into());
        fields.insert("dtype".to_owned(), run.dtype.into());
        fields.insert("resident_bytes".to_owned(), resident().into());
    }
    if form == Form::Json {
        return output::json_line(&value);
    }
    let cells = COLUMNS.map(|column| match &value[column] {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
            Some(number) => format!("{number:.3}"),
            None => number.to_string(),
        },
        other => other.to_string(),
    });
    match form {
        Form::Markdown => output::line(format!("| {} |", cells.join(" | "))),
        _ => {
            let mut writer = csv::Writer::from_writer(Vec::new());
            writer.write_record(&cells)?;
            output::line(String::from_utf8(writer.into_inner()?)?.trim_end())
        }
    }
}

fn machine(machine: &Machine, json: bool) -> Result<Exit> {
    let refresh = RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing());
    let system = System::new_with_specifics(refresh).ok();
    let all = system.as_ref().map_or(&[][..], System::cpus);
    let processor = all.first().map_or("unknown", |cpu| cpu.brand());
    if json {
        let mut value = serde_json::to_value(machine)?;
        if let Some(fields) = value.as_object_mut() {
            fields.insert("processor".to_owned(), processor.into());
            fields.insert("cpus".to_owned(), all.len().into());
        }
        output::json_line(&value)?;
        return Ok(Exit::Done);
    }
    let levels: Vec<_> = machine.levels.iter().map(|level| level.name()).collect();
    output::line(format!("{:<16}{processor}", "processor"))?;
    let quota = machine.quota.map_or("no quota".to_owned(), |quota| {
        format!("a quota of {quota:.2}")
    });
    let (allowed, cpus) = (machine.allowed, all.len());
    output::line(format!("{:<16}{allowed} of {cpus}, {quota}", "cpus"))?;
    output::line(format!(
        "{:<16}{} (of {})",
        "instructions",
        machine.level.name(),
        levels.join(", ")
    ))?;
    for cache in &machine.caches {
        let name = format!("L{} {}", cache.level, cache.kind.to_lowercase());
        output::line(format!("{name:<16}{}", cache.size))?;
    }
    for read in &machine.read {
        let name = "read";
        let plural = if read.threads == 1 { "" } else { "s" };
        let rate = read.bytes_per_s / 1e9;
        output::line(format!(
            "{name:<16}{rate:.1} GB/s by {} thread{plural}",
            read.threads
        ))?;
    }
    for products in &machine.products {
        let rate = products.operations_per_s / 1e12;
        output::line(format!(
            "{:<16}{rate:.2} T operations/s in products of 512 rows",
            products.kind
        ))?;
    }
    Ok(Exit::Done)
}

/// Bytes of memory that this process has, where the system can be asked.
pub(super) fn resident() -> Option<u64> {
    let pid = Pid::from_u32(std::process::id());
    let mut system = System::new().ok()?;
    let what = ProcessRefreshKind::nothing().with_memory();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), true, what);
    Some(system.process(pid)?.memory())
}
