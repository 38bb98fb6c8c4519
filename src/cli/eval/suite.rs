//! `eval suite`: what models can do, task by task, and how they differ.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use indicatif::ProgressBar;
use serde::Serialize;

use super::engine::Engine;
use crate::cli::exit::Exit;
use crate::cli::flags::Global;
use crate::cli::host::Host;
use crate::cli::{SANDBOX, output, progress};
use crate::config::Overrides;
use crate::eval::suite::{
    Catalogue, Comparison, Executor, Kind, Launcher, Limits, Progress, Sandbox, SuiteOptions,
    SuiteResults, TaskSpec, run_suite,
};
use crate::sched::Forward;
use crate::store::Model;

/// Where the task files of a project are.
const TASKS: &str = ".config/eval";

/// The flags of `eval suite`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The models: installed names, ones of the catalogue, or paths; the others are compared with the first
    #[arg(value_name = "MODEL", required = true)]
    models: Vec<String>,
    /// Tasks by name, with commas between them; without it, all that there are
    #[arg(long, value_name = "T,...", value_delimiter = ',')]
    tasks: Vec<String>,
    /// Task files (*.toml) beside the built-in tasks; without it, those of .config/eval, if it is there
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Items of each task at most
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Write the JSON into this file too
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// All that was measured.
#[derive(Debug, Serialize)]
struct Measured {
    version: &'static str,
    models: Vec<SuiteResults>,
    /// With two models or more.
    #[serde(skip_serializing_if = "Option::is_none")]
    comparison: Option<Comparison>,
}

/// Runs the command.
///
/// # Errors
/// A task that is not there or not as it must be, code tasks without a sandbox, a model that cannot be loaded or fails,
/// or a file that cannot be written.
pub(super) fn run(global: &Global, args: &Args) -> Result<Exit> {
    ensure!(
        args.limit != Some(0),
        "--limit 0 asks nothing: give at least 1"
    );
    if let Some(file) = &args.output {
        // Said before hours of work rather than after them.
        let folder = file.parent().filter(|folder| *folder != Path::new(""));
        ensure!(
            folder.is_none_or(Path::is_dir),
            "--output {}: its folder is not there: create it first",
            file.display()
        );
    }
    let tasks = tasks(args)?;
    let mut host = Host::open(global, Overrides::new())?;
    host.start_log()?;
    let coded = tasks
        .iter()
        .any(|task| matches!(task.kind, Kind::Code { .. }));
    let sandbox = coded.then(sandbox).transpose()?;
    for model in &args.models {
        host.ensure(model)?;
    }
    let mut models = Vec::with_capacity(args.models.len());
    for name in &args.models {
        models.push(measure(&host, name, &tasks, args, sandbox.as_ref())?);
    }
    let comparison = match models.len() {
        1 => None,
        _ => Some(Comparison::of(&models)?),
    };
    let measured = Measured {
        version: env!("CARGO_PKG_VERSION"),
        models,
        comparison,
    };
    if let Some(file) = &args.output {
        std::fs::write(file, serde_json::to_string_pretty(&measured)? + "\n")
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    match args.json {
        true => output::json(&measured)?,
        false => output::text(&tables(&measured))?,
    }
    Ok(Exit::Done)
}

/// The tasks that are asked for.
fn tasks(args: &Args) -> Result<Vec<TaskSpec>> {
    let mut catalogue = Catalogue::new();
    match &args.folder {
        Some(folder) => {
            let found = catalogue.add_folder(folder)?;
            ensure!(
                found > 0,
                "--folder {} has no task file (*.toml)",
                folder.display()
            );
        }
        None if Path::new(TASKS).is_dir() => {
            catalogue.add_folder(Path::new(TASKS))?;
        }
        None => {}
    }
    Ok(match args.tasks.is_empty() {
        true => catalogue.tasks().cloned().collect(),
        false => catalogue.select(&args.tasks)?,
    })
}

/// This program as the launcher of guarded ones.
fn sandbox() -> Result<Sandbox> {
    let launcher = Launcher {
        program: std::env::current_exe().context("cannot tell where this program is")?,
        arguments: vec![SANDBOX.to_owned()],
    };
    Sandbox::open(launcher, Limits::default()).context("cannot guard the programs of code tasks")
}

/// Whether a task asks through the chat template.
fn talks(task: &TaskSpec) -> bool {
    matches!(task.kind, Kind::Chat { .. } | Kind::Code { chat: true, .. })
}

/// The tasks that a model can be asked: without a chat template none that needs it, unless it was named.
fn askable(model: &Model, name: &str, tasks: &[TaskSpec], args: &Args) -> Result<Vec<TaskSpec>> {
    if model.template.is_some() {
        return Ok(tasks.to_vec());
    }
    let (left_out, asked): (Vec<TaskSpec>, Vec<TaskSpec>) = tasks.iter().cloned().partition(talks);
    let names: Vec<&str> = left_out.iter().map(|task| task.name.as_str()).collect();
    let names = names.join(", ");
    ensure!(
        left_out.is_empty() || args.tasks.is_empty(),
        "{name} has no chat template that could be used, which the tasks {names} need: leave them out of --tasks"
    );
    ensure!(
        !asked.is_empty(),
        "{name} has no chat template, and all tasks need one"
    );
    if !left_out.is_empty() {
        eprintln!("{name} has no chat template that could be used: {names} left out");
    }
    Ok(asked)
}

fn measure(
    host: &Host,
    name: &str,
    tasks: &[TaskSpec],
    args: &Args,
    sandbox: Option<&Sandbox>,
) -> Result<SuiteResults> {
    let (models, ..) = host.models();
    let (model, mut forward) = models.load(name)?;
    let tasks = askable(&model, name, tasks, args)?;
    let context = forward.model().context();
    let forward: &mut dyn Forward = &mut forward;
    let mut engine = Engine {
        forward,
        tokenizer: &model.tokenizer,
        template: model.template.as_ref(),
        ends: &model.eos,
        context,
        chunk: host.settings().model.prefill_chunk,
        drawn: 0,
    };
    let options = SuiteOptions {
        limit: args.limit,
        // The engine takes one after the other: the smaller, the steadier the progress.
        batch: 1,
        executor: sandbox.map(|sandbox| sandbox as &dyn Executor),
        ..SuiteOptions::new(name)
    };
    let lines = !host.quiet() && !std::io::stderr().is_terminal();
    let mut bar = ProgressBar::hidden();
    let results = run_suite(&mut engine, &tasks, &options, |at: Progress<'_>| {
        if at.done == 0 {
            bar.finish_and_clear();
            bar = progress::counter(at.items, "items", host.quiet());
            bar.set_message(format!("{name}: {} ", at.task));
            if lines {
                let (number, all) = (at.number + 1, at.tasks);
                eprintln!(
                    "{name}: task {number} of {all}, {}, {} items",
                    at.task, at.items
                );
            }
        }
        bar.set_position(at.done as u64);
    });
    bar.finish_and_clear();
    results.with_context(|| format!("model {name}"))
}

/// The table of each model, and that of their differences.
fn tables(measured: &Measured) -> String {
    let mut text = String::new();
    for model in &measured.models {
        if measured.comparison.is_some() {
            text.push_str(&format!("{}\n", model.model));
        }
        text.push_str(&model.table().to_string());
        if measured.comparison.is_some() {
            text.push('\n');
        }
    }
    if let (Some(comparison), Some(first)) = (&measured.comparison, measured.models.first()) {
        text.push_str(&format!(
            "compared with {}\n{}",
            first.model,
            comparison.table()
        ));
        for task in &comparison.unmatched {
            text.push_str(&format!("not compared: {task}\n"));
        }
    }
    text
}
