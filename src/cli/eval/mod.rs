//! `eval`: what bounding the cache costs, measured; and, in `suite`, what models can do.

mod dialogue;
mod engine;
mod questions;
mod suite;
mod text;

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use clap::Subcommand as _;
use indicatif::ProgressBar;

use super::exit::Exit;
use super::flags::{Global, ModelFlags};
use super::host::Host;
use super::{output, progress};
use crate::config::Overrides;
use crate::eval::{
    FULL, Haystack, KeptResults, Results, Row, Table, Task, TaskSet, Wording, figures, gate, html,
};
use crate::kv::{self, Budget, KvChoice, Policy, PolicyKind};
use crate::llama::LlamaForward;
use crate::llama::eval::Variant;
use crate::sched::Forward;
use crate::store::Model;

/// What `eval` is told.
#[derive(Debug)]
pub(super) enum Eval {
    /// What to measure of the cache.
    Bounded(Box<Args>),
    /// A subcommand.
    Other(Other),
}

// By hand: an optional `flatten` is always absent where the flags have flags flattened in themselves.
impl clap::FromArgMatches for Eval {
    fn from_arg_matches(matches: &clap::ArgMatches) -> clap::error::Result<Self> {
        Ok(match matches.subcommand_name() {
            Some(_) => Eval::Other(Other::from_arg_matches(matches)?),
            None => Eval::Bounded(Box::new(Args::from_arg_matches(matches)?)),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &clap::ArgMatches) -> clap::error::Result<()> {
        *self = Eval::from_arg_matches(matches)?;
        Ok(())
    }
}

impl clap::Args for Eval {
    fn augment_args(command: clap::Command) -> clap::Command {
        Other::augment_subcommands(Args::augment_args(command))
            .subcommand_required(false)
            .arg_required_else_help(false)
            .subcommand_negates_reqs(true)
            .args_conflicts_with_subcommands(true)
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Eval::augment_args(command)
    }
}

/// What else can be measured.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Other {
    /// Measure what models can do, and compare them: sums, spelling, copying, and the tasks of task files
    Suite(suite::Args),
}

/// The flags of `eval` on the cache.
#[derive(Debug, clap::Args)]
#[command(after_help = "TASKS\n  \
    ppl          perplexity over a text, token by token, for every policy and budget at once\n  \
    kld          divergence from full attention, token by token\n  \
    needle       needle-single, needle-multikey, needle-multivalue, passkey\n  \
    ruler        niah_single_1/2/3, niah_multikey_1/2, vt, cwe, fwe\n  \
    multiturn    five questions about one compressed context\n  \
    instruction  a rule of the system prompt, after many turns")]
pub(super) struct Args {
    /// What to measure: one task, several with commas between them, or a group
    #[arg(value_name = "TASK")]
    tasks: TaskSet,
    /// The model: an installed name, one of the catalogue, or a path
    model: String,
    /// The text of ppl and kld, or the haystack of the others; without it, sentences of our own
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Tokens of a text or a context
    #[arg(long, value_name = "N", default_value_t = 4096)]
    tokens: usize,
    /// Count only the last so many predictions of a text
    #[arg(long, value_name = "N")]
    tail: Option<usize>,
    /// Policies to compare, with commas between them
    #[arg(
        long,
        value_name = "P,...",
        value_delimiter = ',',
        default_value = "full,streaming,h2o,hybrid"
    )]
    policies: Vec<PolicyKind>,
    /// Budgets, as shares of the tokens, with commas between them
    #[arg(
        long,
        value_name = "B,...",
        value_delimiter = ',',
        default_value = "0.5,0.2,0.1"
    )]
    budgets: Vec<f64>,
    /// Compare these instead: a JSON list of {"name", "share", "query_aware", "kv": keys of the [kv] section}
    #[arg(long, value_name = "FILE", conflicts_with_all = ["policies", "budgets"])]
    variants: Option<PathBuf>,
    /// Contexts of these lengths instead of --tokens, for the tasks that have one
    #[arg(long, value_name = "N,...", value_delimiter = ',')]
    lengths: Vec<usize>,
    /// Where needles stand, 0 to 1, with commas between them; without it, at random
    #[arg(long, value_name = "D,...", value_delimiter = ',')]
    depths: Vec<f32>,
    /// Samples of a cell
    #[arg(long, value_name = "N", default_value_t = 20)]
    samples: usize,
    /// The seed of the first sample
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Read the question before anything is evicted; else the context is compressed without it
    #[arg(long)]
    query_aware: bool,
    /// Let the question recall so many evicted tokens per KV head, under policies that evict
    #[arg(long, value_name = "N", default_value_t = 0)]
    recall: u32,
    /// Ask in other words than the needle's
    #[arg(long)]
    paraphrase: bool,
    /// Write results.json, the plots and one page with all of it into this folder
    #[arg(long, value_name = "FOLDER")]
    report: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    flags: ModelFlags,
}

/// What the tasks run on.
struct Bench<'a> {
    model: &'a Model,
    forward: &'a mut LlamaForward,
    settings: &'a kv::Config,
    chunk: usize,
    args: &'a Args,
    haystack: Haystack,
    quiet: bool,
}

/// A variant of a file.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    name: String,
    /// Of the tokens; without it, the budget is that of the keys.
    #[serde(default)]
    share: Option<f64>,
    /// Whether questions are read before anything is evicted; without it, as the command line says.
    #[serde(default)]
    query_aware: Option<bool>,
    #[serde(default)]
    kv: serde_json::Map<String, serde_json::Value>,
}

fn full() -> Variant {
    Variant {
        name: FULL.to_owned(),
        share: None,
        policy: Policy::full(),
        query_aware: false,
    }
}

/// Runs the command.
///
/// # Errors
/// When a model, text or task cannot be read, a budget is no share, a sample cannot be made, or a model fails.
pub(super) fn run(global: &Global, eval: &Eval) -> Result<Exit> {
    match eval {
        Eval::Bounded(args) => bounded(global, args),
        Eval::Other(Other::Suite(args)) => suite::run(global, args),
    }
}

/// Measures what bounding the cache costs.
fn bounded(global: &Global, args: &Args) -> Result<Exit> {
    for &share in &args.budgets {
        ensure!(
            is_share(share),
            "--budgets {share}: a budget is a share of the tokens, above 0 and at most 1"
        );
    }
    ensure!(
        args.samples > 0,
        "--samples 0 measures nothing: give at least 1"
    );
    let mut overrides = Overrides::new();
    args.flags.add_to(&mut overrides);
    let mut host = Host::open(global, overrides)?;
    host.start_log()?;
    host.ensure(&args.model)?;
    let haystack = match &args.file {
        None => Haystack::bundled(),
        Some(file) if args.tasks.tasks().iter().all(|task| is_text(*task)) => {
            // The text itself is what is measured.
            ensure!(file.exists(), "there is no file {}", file.display());
            Haystack::bundled()
        }
        Some(file) => {
            let text = std::fs::read_to_string(file)
                .with_context(|| format!("cannot read {}", file.display()))?;
            Haystack::from_text(&text)?
        }
    };
    let (models, ..) = host.models();
    let (model, mut forward) = models.load(&args.model)?;
    let settings = host.settings().clone();
    let mut bench = Bench {
        model: &model,
        forward: &mut forward,
        settings: &settings.kv,
        chunk: settings.scheduler.prefill_tokens,
        args,
        haystack,
        quiet: host.quiet(),
    };
    let mut rows = Vec::new();
    let tasks = args.tasks.tasks();
    let texts: Vec<Task> = tasks
        .iter()
        .copied()
        .filter(|task| is_text(*task))
        .collect();
    if !texts.is_empty() {
        rows.extend(text::run(&mut bench, &texts)?);
    }
    for &task in tasks.iter().filter(|task| !is_text(**task)) {
        rows.extend(match task {
            Task::Instruction => dialogue::run(&mut bench)?,
            _ => questions::run(&mut bench, task)?,
        });
    }
    gate(&mut rows);
    let results = Results {
        rows,
        command: command_line(),
        model: args.model.clone(),
        seed: args.seed,
        samples: args.samples,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    if let Some(folder) = &args.report {
        write_report(folder, &results)?;
    }
    let kept = KeptResults::new(host.home().evaluations()).keep(&results)?;
    if !host.quiet() {
        eprintln!("the results are kept as evaluation {kept}");
    }
    if args.json {
        output::json(&serde_json::to_value(&results)?)?;
    } else {
        output::line(Table::of(&results.rows).to_string())?;
    }
    Ok(Exit::Done)
}

/// Whether a budget can be this part of the tokens.
fn is_share(share: f64) -> bool {
    share > 0.0 && share <= 1.0
}

/// This part of so many tokens, at least one.
fn budget(share: f64, tokens: usize) -> Budget {
    Budget::Tokens(((share * tokens as f64) as u32).max(1))
}

fn is_text(task: Task) -> bool {
    matches!(task, Task::Perplexity | Task::Divergence)
}

impl Bench<'_> {
    /// Full attention first, then the named ones of a file.
    fn named_variants(&self, file: &std::path::Path, tokens: usize) -> Result<Vec<Variant>> {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read {}", file.display()))?;
        let named: Vec<Named> = serde_json::from_str(&text)
            .with_context(|| format!("{} is no list of variants", file.display()))?;
        let mut variants = vec![full()];
        for Named {
            name,
            share,
            query_aware,
            kv,
        } in named
        {
            let mut settings = serde_json::to_value(self.settings)?;
            if let Some(fields) = settings.as_object_mut() {
                fields.extend(kv);
            }
            let settings: kv::Config = serde_json::from_value(settings)
                .with_context(|| format!("{}: variant {name:?}", file.display()))?;
            if settings.policy == PolicyKind::Full {
                // It is measured in any case, as the first.
                continue;
            }
            if let Some(share) = share {
                ensure!(
                    is_share(share),
                    "{}: variant {name:?}: share {share} is not above 0 and at most 1",
                    file.display()
                );
            }
            let choice = KvChoice {
                budget: share.map(|share| budget(share, tokens)),
                recent: settings.recent,
                ..KvChoice::default()
            };
            let context = self.forward.model().context();
            let policy = choice.resolve(&settings, context, self.forward.kv_shape())?;
            variants.push(Variant {
                name,
                share,
                policy,
                query_aware: query_aware.unwrap_or(self.args.query_aware),
            });
        }
        Ok(variants)
    }

    /// Full attention first, then every policy at every budget of `tokens`.
    fn variants(&self, tokens: usize) -> Result<Vec<Variant>> {
        if let Some(file) = &self.args.variants {
            return self.named_variants(file, tokens);
        }
        let mut variants = vec![full()];
        for &kind in self
            .args
            .policies
            .iter()
            .filter(|&&k| k != PolicyKind::Full)
        {
            for &share in &self.args.budgets {
                let recalls = self.args.recall > 0 && kind != PolicyKind::Quest;
                let choice = KvChoice {
                    policy: Some(kind),
                    budget: Some(budget(share, tokens)),
                    spill: recalls.then_some(kv::Spill::Memory),
                    recall: recalls.then_some(self.args.recall),
                    ..KvChoice::default()
                };
                let context = self.forward.model().context();
                let policy = choice.resolve(self.settings, context, self.forward.kv_shape())?;
                variants.push(Variant {
                    name: kind.name().to_owned(),
                    share: Some(share),
                    policy,
                    query_aware: self.args.query_aware,
                });
            }
        }
        Ok(variants)
    }

    /// The lengths of contexts that were asked for.
    fn lengths(&self) -> Vec<usize> {
        match self.args.lengths.is_empty() {
            true => vec![self.args.tokens],
            false => self.args.lengths.clone(),
        }
    }

    fn wording(&self) -> Wording {
        match self.args.paraphrase {
            true => Wording::Paraphrased,
            false => Wording::Literal,
        }
    }

    /// The progress of a task, under its name.
    fn bar(&self, name: &str, steps: usize, unit: &str) -> ProgressBar {
        let bar = progress::counter(steps, unit, self.quiet);
        bar.set_message(format!("{name} "));
        bar
    }
}

/// The row of a variant, with what its cache was.
fn row(task: Task, variant: &Variant, kv: &kv::KvReport) -> Row {
    let mut row = Row::new(task, &variant.name, variant.share);
    row.kv_bytes = Some(kv.bytes as u64);
    row.tokens_per_head = Some(kv.tokens_kept as f64);
    row
}

/// As it can be typed again, without the folder of the program.
fn command_line() -> String {
    let words = std::env::args().skip(1);
    let quoted = words.map(|word| match word.contains(char::is_whitespace) {
        true => format!("\"{word}\""),
        false => word,
    });
    format!("llamahome {}", quoted.collect::<Vec<_>>().join(" "))
}

fn write_report(folder: &std::path::Path, results: &Results) -> Result<()> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let write = |name: &str, content: &str| {
        let path = folder.join(name);
        std::fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))
    };
    write("results.json", &serde_json::to_string_pretty(results)?)?;
    for figure in figures(&results.rows)? {
        write(&format!("{}.svg", figure.name), &figure.svg)?;
    }
    write("report.html", &html(results)?)?;
    if results.rows.is_empty() {
        bail!("nothing was measured");
    }
    Ok(())
}
