//! `bench`: prefill and decode speed, by depth of context.

use anyhow::{Result, ensure};
use serde_json::json;
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};

use super::exit::Exit;
use super::flags::{Global, ModelFlags};
use super::host::Host;
use super::output;
use crate::config::Overrides;
use crate::kv::KvChoice;
use crate::llama::{BenchLine, BenchSpec, bench};
use crate::sched::Forward;

/// The flags of `bench`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The model; runtime.default_model if none is named
    model: Option<String>,
    /// Tokens of the prefill test; 0 leaves it out
    #[arg(long, value_name = "N", default_value_t = 512)]
    prompt: usize,
    /// Tokens of the decode test; 0 leaves it out
    #[arg(long, value_name = "N", default_value_t = 128)]
    r#gen: usize,
    /// Tokens that are in the cache before; several for several tests
    #[arg(long, value_name = "N", num_args = 1.., default_values_t = [0])]
    depth: Vec<usize>,
    /// Timed runs of each test
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    repeat: u16,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    flags: ModelFlags,
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
    let name = args
        .model
        .clone()
        .unwrap_or_else(|| settings.runtime.default_model.clone());
    host.ensure(&name)?;
    let (models, threads, _) = host.models();
    let (model, mut forward) = models.load(&name)?;
    let (context, dtype) = (
        forward.model().context(),
        forward.model().compute().dtype_name(),
    );
    for &depth in &args.depth {
        let most = depth.max(1) + args.prompt.max(args.r#gen);
        ensure!(
            most <= context,
            "depth {depth} with its test needs {most} positions, the context of {name} has {context}"
        );
    }
    let spec = BenchSpec {
        prompt: args.prompt,
        generate: args.r#gen,
        depths: args.depth.clone(),
        repeat: usize::from(args.repeat),
        policy: KvChoice::default().resolve(&settings.kv, context, forward.kv_shape())?,
        vocab: forward.model().config().vocab,
        chunk: settings.model.prefill_chunk,
    };
    if !args.json {
        output::line(format!(
            "{name}: {}, {dtype}, {threads} threads, policy {}",
            model.summary.quantization,
            spec.policy.name()
        ))?;
        output::line(format!(
            "{:>8} {:>8} {:>12} {:>12}  RUNS",
            "TEST", "DEPTH", "TOKENS/S", "KV"
        ))?;
    }
    let mut written = Ok(());
    bench(&mut forward, &spec, &mut |line| {
        let next = if args.json {
            json_line(&line, &name, dtype, threads)
        } else {
            text_line(&line)
        };
        if written.is_ok() {
            written = next;
        }
    })?;
    written?;
    let resident = resident();
    if args.json {
        output::json_line(&json!({ "test": "resident", "bytes": resident }))?;
    } else if let Some(bytes) = resident {
        output::line(format!("resident memory {}", output::size(bytes)))?;
    }
    Ok(Exit::Done)
}

fn json_line(line: &BenchLine, model: &str, dtype: &str, threads: usize) -> Result<()> {
    let mut value = serde_json::to_value(line)?;
    if let Some(fields) = value.as_object_mut() {
        fields.insert("model".to_owned(), model.into());
        fields.insert("dtype".to_owned(), dtype.into());
        fields.insert("threads".to_owned(), threads.into());
        fields.insert("resident_bytes".to_owned(), resident().into());
    }
    output::json_line(&value)
}

fn text_line(line: &BenchLine) -> Result<()> {
    let runs: Vec<_> = line.runs.iter().map(|run| format!("{run:.2}")).collect();
    let kv = output::size(line.kv_bytes as u64);
    output::line(format!(
        "{:>8} {:>8} {:>12.2} {kv:>12}  {}",
        line.test,
        line.depth,
        line.tokens_per_s,
        runs.join(" ")
    ))
}

/// Bytes of memory that this process has, where the system can be asked.
pub(super) fn resident() -> Option<u64> {
    let pid = Pid::from_u32(std::process::id());
    let mut system = System::new().ok()?;
    let what = ProcessRefreshKind::nothing().with_memory();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), true, what);
    Some(system.process(pid)?.memory())
}
