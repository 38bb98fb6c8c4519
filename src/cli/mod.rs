//! The commands: what is typed becomes settings and one call of a lower module.
//!
//! [`main`] parses and dispatches; each command is one file with its flags beside its work. `host` is the one place
//! that loads settings, starts the log and boots the actors. Data goes to standard output, all else to standard error.

use std::ffi::OsString;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

mod bench;
mod calibrate;
mod chat;
mod chat_monitor;
mod chat_runs;
mod commands;
mod config;
mod conversation;
mod daemon;
mod doctor;
mod eval;
mod exit;
mod flags;
mod generate;
mod host;
mod keeper;
mod kept;
mod keys;
mod lines;
mod loadtest;
mod log;
mod man;
mod models;
mod output;
mod perplexity;
mod progress;
mod ps;
mod run;
mod serve;
mod signals;
mod tokenize;
mod train;

use exit::Exit;
use flags::Global;

const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (",
    env!("LLAMAHOME_COMMIT"),
    ")"
);

/// The first argument of this program where it is to guard itself and become the program of a code task.
const SANDBOX: &str = "__sandbox";

const AFTER_HELP: &str = "\
Examples:
  llamahome                                     talk to the default model
  echo 'What is the capital of France?' | llamahome
  llamahome run smollm2 'Write a haiku' --max-tokens 40
  llamahome run -c 'And one about rain'         go on with what was said last
  llamahome serve --model smollm2 --port 8085   the OpenAI API on http://127.0.0.1:8085/v1
  llamahome pull hf:owner/repo --as mine        fetch a model
  llamahome run mine - --kv-policy h2o --kv-heavy 256 --kv-recent 256 < question.txt
  llamahome doctor                              what is wrong on this machine

Exit codes:
  0  done    1  failed    2  the command line is wrong    130, 143  ended by SIGINT, SIGTERM
  `serve` that is ended by either drains and exits with 0; a second signal ends it at once.

Settings come from files, LLAMAHOME_SECTION__KEY variables and flags: see `llamahome config show --origin`.";

/// Runs Llama-family models on this machine, with a KV cache that is bounded by heavy-hitter eviction.
///
/// Without a command: a chat with the default model, or one answer per line of piped input.
#[derive(Debug, Parser)]
#[command(name = "llamahome", version = VERSION, after_help = AFTER_HELP, max_term_width = 110)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Talk to a model; /help lists what can be typed
    Chat(chat::Args),
    /// Answer one prompt
    Run(run::Args),
    /// Serve the HTTP APIs until SIGTERM or Ctrl-C
    Serve(serve::Args),
    /// Show the models that the running server has loaded
    Ps(ps::Args),
    /// Fetch a model by its catalogue name or from a source
    Pull(models::PullArgs),
    /// List the installed models
    List(models::ListArgs),
    /// Show what is known of a model
    Show(models::ShowArgs),
    /// Hash a model's files against the record of its pull; exit code 1 when they differ
    Verify(models::VerifyArgs),
    /// Remove an installed model
    Rm(models::RmArgs),
    /// Turn text on standard input into token ids
    Tokenize(tokenize::TokenizeArgs),
    /// Turn messages (JSON on standard input) into the prompt that the model's chat template makes
    Template(tokenize::TemplateArgs),
    /// Measure how well a model predicts a text
    Perplexity(perplexity::Args),
    /// Find out which KV heads need how much of the cache, and write it down
    Calibrate(calibrate::Args),
    /// Measure what bounding the KV cache costs (perplexity, needles, RULER, dialogues), or what models can do (suite)
    Eval(eval::Eval),
    /// Train a model from a recipe, and look at and steer the runs
    Train(train::Args),
    /// Time prefill and decoding
    Bench(bench::Args),
    /// Put a server of the OpenAI API under load; exit code 1 when a goal is broken
    Loadtest(Box<loadtest::Args>),
    /// List, search, show and remove what `run` and `chat` were asked and answered
    Log(log::Args),
    /// Make, list and revoke the keys of the server's clients
    Keys(keys::Args),
    /// Show or check the settings
    Config(config::Args),
    /// Check this machine and say what to do; exit code 1 when something fails
    Doctor(doctor::Args),
    /// Write the manual pages
    Man(man::Args),
    /// Print the completion script of a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// Runs the program on the arguments of this process, and ends it.
pub fn main() -> ! {
    crate::runtime::one_arena();
    if std::env::args_os()
        .nth(1)
        .is_some_and(|first| first == SANDBOX)
    {
        // It comes back only to say why the program did not start.
        eprintln!("{}", crate::eval::suite::enter());
        std::process::exit(1);
    }
    let code = match Cli::try_parse_from(std::env::args_os()) {
        Ok(cli) => exit::report(dispatch(cli)),
        Err(error) => {
            // Fails only when nobody reads it.
            let _ = error.print();
            u8::try_from(error.exit_code()).unwrap_or(2)
        }
    };
    exit::at_once(code)
}

fn dispatch(Cli { global, command }: Cli) -> anyhow::Result<Exit> {
    match command {
        None => chat::run(&global, chat::Args::default()),
        Some(Command::Chat(args)) => chat::run(&global, args),
        Some(Command::Run(args)) => run::run(&global, args),
        Some(Command::Serve(args)) => serve::run(&global, args),
        Some(Command::Ps(args)) => ps::run(&global, &args),
        Some(Command::Pull(args)) => models::pull(&global, args),
        Some(Command::List(args)) => models::list(&global, &args),
        Some(Command::Show(args)) => models::show(&global, &args),
        Some(Command::Verify(args)) => models::verify(&global, &args),
        Some(Command::Rm(args)) => models::rm(&global, &args),
        Some(Command::Tokenize(args)) => tokenize::tokenize(&global, &args),
        Some(Command::Template(args)) => tokenize::template(&global, &args),
        Some(Command::Perplexity(args)) => perplexity::run(&global, &args),
        Some(Command::Calibrate(args)) => calibrate::run(&global, &args),
        Some(Command::Eval(args)) => eval::run(&global, &args),
        Some(Command::Train(args)) => train::run(&global, &args),
        Some(Command::Bench(args)) => bench::run(&global, &args),
        Some(Command::Loadtest(args)) => loadtest::run(&global, &args),
        Some(Command::Log(args)) => log::run(&global, args),
        Some(Command::Keys(args)) => keys::run(&global, &args),
        Some(Command::Man(args)) => man::run(Cli::command(), &args),
        Some(Command::Config(args)) => config::run(&global, &args),
        Some(Command::Doctor(args)) => doctor::run(&global, &args),
        Some(Command::Completions { shell }) => completions(shell),
    }
}

fn completions(shell: Shell) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "llamahome", &mut script);
    output::bytes(&script)?;
    Ok(Exit::Done)
}

/// Looks a variable of the environment up, as the store asks for it.
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_may_follow_the_prompt() {
        let line = [
            "llamahome",
            "run",
            "m",
            "two",
            "words",
            "--json",
            "--kv-policy",
            "full",
        ];
        let cli = Cli::try_parse_from(line).unwrap();
        assert!(matches!(cli.command, Some(Command::Run(_))));
        let bad = ["llamahome", "run", "m", "x", "--kv-policy", "some"];
        assert_eq!(Cli::try_parse_from(bad).unwrap_err().exit_code(), 2);
    }
}
