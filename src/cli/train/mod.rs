//! `train`: runs of training, each from one file.

mod drive;
mod look;
mod problems;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args as ClapArgs, Subcommand};

use super::exit::Exit;
use super::flags::Global;
use super::host::Host;
use crate::config::Overrides;
use crate::train::recipe::Recipe;
use crate::train::runs::Request;

/// The flags of `train`.
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Begin a run; Ctrl-C saves a checkpoint and stops it
    Run(RunArgs),
    /// Go on with a run from its last checkpoint, or let a paused one go on
    Resume(ResumeArgs),
    /// List the runs
    Ls {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show a run: its state, its last steps and evaluations
    Show {
        /// The run, as `train ls` names it
        id: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Save a checkpoint of a run and end it
    Stop {
        /// The run
        id: String,
    },
    /// Hold a run after its present step, until `train resume`
    Pause {
        /// The run
        id: String,
    },
    /// Save a checkpoint of a run that goes on
    Save {
        /// The run
        id: String,
    },
    /// Check a recipe and all of its data without training; exit code 1 when something is wrong
    Validate {
        /// The recipe
        recipe: PathBuf,
        /// Keys of it, as section.key=value
        overrides: Vec<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show what a recipe's samples are as tokens, and which of them are learnt
    Preview {
        /// The recipe
        recipe: PathBuf,
        /// Keys of it, as section.key=value
        overrides: Vec<String>,
        /// How many samples
        #[arg(long, short = 'n', default_value_t = 3)]
        samples: usize,
        /// Show at most so many tokens of each
        #[arg(long, default_value_t = 200)]
        tokens: usize,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print problems of a task of the stage rl with their right answers, a conversation a line, to fine-tune on before
    Problems(problems::Args),
    /// Install the model of a run's last checkpoint under its name
    Export {
        /// The run
        id: String,
    },
    /// Write a page of one run, or one that compares several
    Report {
        /// The runs
        #[arg(required = true)]
        ids: Vec<String>,
        /// Where to; `report.html` in the folder of the first run unless given
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

#[derive(Debug, ClapArgs)]
struct RunArgs {
    /// The recipe, such as .config/train/pretrain-shakespeare.toml
    recipe: PathBuf,
    /// Keys of it, as section.key=value
    overrides: Vec<String>,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, ClapArgs)]
struct ResumeArgs {
    /// The run, as `train ls` names it
    id: String,
    #[command(flatten)]
    how: How,
}

/// How a run is computed and shown.
#[derive(Debug, ClapArgs)]
struct How {
    /// Compute threads; 0 takes all cores
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,
    /// Print the log on standard output, a JSON object a line
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// What is wrong with the recipe, the data or the run, with its place and what to do.
pub(super) fn run(global: &Global, args: &Args) -> Result<Exit> {
    let mut host = Host::open(global, Overrides::new())?;
    host.start_log()?;
    match &args.command {
        Command::Run(args) => drive::begin(&host, &args.recipe, &args.overrides, &args.how),
        Command::Resume(args) => drive::resume(&host, &args.id, &args.how),
        Command::Ls { json } => look::ls(&host, *json),
        Command::Show { id, json } => look::show(&host, id, *json),
        Command::Stop { id } => drive::post(&host, id, Request::Stop),
        Command::Pause { id } => drive::post(&host, id, Request::Pause),
        Command::Save { id } => drive::post(&host, id, Request::Save),
        Command::Validate {
            recipe,
            overrides,
            json,
        } => look::validate(recipe, overrides, *json),
        Command::Preview {
            recipe,
            overrides,
            samples,
            tokens,
            json,
        } => look::preview(&host, recipe, overrides, (*samples, *tokens), *json),
        Command::Problems(args) => problems::print(args),
        Command::Export { id } => drive::export(&host, id),
        Command::Report { ids, output } => look::report(&host, ids, output.as_deref()),
    }
}

/// Pulls the model that a recipe begins with, if it is one of the catalogue and not installed.
fn ensure_base(host: &Host, recipe: &Recipe) -> Result<()> {
    if let Some(base) = recipe.model.base_name() {
        host.ensure(base)?;
    }
    Ok(())
}
