//! `chat`: a conversation on the terminal, or one answer a line of piped input.

use std::io::IsTerminal;
use std::time::Duration;

use anyhow::{Context, Result};

use super::commands::{self, Slash};
use super::conversation::{Conversation, Turn};
use super::exit::{Exit, describe};
use super::flags::{Global, HistoryFlags, ModelFlags, SamplingFlags};
use super::host::{self, Host};
use super::keeper::Keeper;
use super::kept;
use super::lines::{FENCE, Input, Lines, unfenced};
use super::output::{self, Closed};
use super::signals::Signals;
use super::{chat_monitor, chat_runs};
use crate::config::{Layer, Overrides};
use crate::runtime::Runtime;
use crate::sample::Defaults;

/// The flags of `chat`. The piped half is told in the help, since its temperature is another one.
#[derive(Debug, Default, clap::Args)]
#[command(after_help = "\
Piped input: each line that is not blank is answered in turn, in one conversation, answers only on standard output.
It is answered with the most likely tokens, so that a script gets the same answer each time, unless --temperature or a
setting asks for a temperature other than the built-in one.")]
pub(super) struct Args {
    /// The model; runtime.default_model if none is named
    model: Option<String>,
    /// Instructions before the conversation
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Print each answer as one line of JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    sampling: SamplingFlags,
    #[command(flatten)]
    history: HistoryFlags,
    #[command(flatten)]
    flags: ModelFlags,
}

/// Runs the command.
///
/// # Errors
/// When the model cannot be had.
pub(super) fn run(global: &Global, args: Args) -> Result<Exit> {
    let mut overrides = Overrides::new();
    args.flags.add_to(&mut overrides);
    let mut host = Host::open(global, overrides)?;
    let mut drawing = args.sampling.drawing(&host.settings().sampling)?;
    host.start_log()?;
    let (keeper, said) = Keeper::open(&host, &args.history)?;
    let before = said.as_ref().and_then(|said| said.model());
    let name = args
        .model
        .or_else(|| before.map(str::to_owned))
        .unwrap_or_else(|| host.settings().runtime.default_model.clone());
    let installed = host.ensure(&name)?;
    let name = host::lasting_name(&host.library, &installed);
    actix::System::new().block_on(async {
        let runtime = host.boot(None)?;
        let model = runtime.model(Some(&name)).await?;
        let typed_in = std::io::stdin().is_terminal();
        if !typed_in && drawing.raw.temperature.is_none() && !asks_for_temperature(&host) {
            drawing.raw.temperature = Some(0.0);
        }
        let mut conversation = Conversation::new(
            runtime.clone(),
            (model, name),
            drawing,
            args.json,
            args.system,
            keeper,
        );
        if let Some(said) = said {
            eprintln!(
                "going on with conversation {} of {} calls",
                said.id,
                said.calls.len()
            );
            conversation.go_on(said);
        }
        let exit = if typed_in {
            typed(&host, &runtime, &mut conversation).await?
        } else {
            piped(&host, &mut conversation).await?
        };
        if !matches!(exit, Exit::By(_)) {
            conversation.end().await;
            leave(&host, &runtime).await;
        }
        Ok(exit)
    })
}

/// Ends the actors; a run that was begun here is saved and stopped first.
async fn leave(host: &Host, runtime: &Runtime) {
    let Some(id) = runtime.runs().own().await else {
        runtime.shutdown(Duration::from_secs(1)).await;
        return;
    };
    eprintln!("run {id} is saved and stopped after its present step");
    let deadline = host.settings().runtime.drain_timeout.get();
    if runtime.shutdown(deadline).await {
        eprintln!("`llamahome train resume {id}` goes on with it");
    } else {
        eprintln!(
            "its step took longer than runtime.drain_timeout: `llamahome train resume {id}` goes on from its last checkpoint"
        );
    }
}

/// Whether somebody set a temperature. A project's files may only list the built-in values, as our own do.
fn asks_for_temperature(host: &Host) -> bool {
    let origin = host.loaded.origins.get("sampling.temperature");
    let by_someone = origin.is_some_and(|origin| origin.layer > Layer::Project);
    by_someone || host.settings().sampling.temperature != Defaults::default().temperature
}

/// Answers each line that is not blank. A turn that fails is told, and the next line is read.
async fn piped(host: &Host, conversation: &mut Conversation) -> Result<Exit> {
    let mut signals = Signals::listen().context("cannot listen for signals")?;
    let mut lines = Lines::piped()?;
    let mut exit = Exit::Done;
    loop {
        let input = tokio::select! {
            input = lines.next() => input,
            signal = signals.next() => return Ok(Exit::By(signal)),
        };
        let line = match input {
            Input::Line(line) => line,
            Input::Failed(reason) => anyhow::bail!("cannot read standard input: {reason}"),
            Input::End | Input::Interrupted => break,
        };
        if line.trim().is_empty() {
            continue;
        }
        match conversation.ask(line.trim(), &mut signals).await {
            Ok(Turn::Stopped(signal)) => return Ok(Exit::By(signal)),
            Ok(turn) => note(host, &turn),
            Err(error) if error.is::<Closed>() => return Err(error),
            Err(error) => {
                eprintln!("{}", describe(&error));
                exit = Exit::Failed;
            }
        }
    }
    lines.close();
    Ok(exit)
}

async fn typed(host: &Host, runtime: &Runtime, conversation: &mut Conversation) -> Result<Exit> {
    let mut signals = Signals::listen().context("cannot listen for signals")?;
    let installed = host
        .library
        .list()?
        .into_iter()
        .map(|model| model.id.to_string())
        .collect();
    let mut lines = Lines::edited(host.home().history().join("chat.txt"), installed)?;
    eprintln!(
        "{}: {}; /help lists what can be typed, Ctrl-D leaves",
        conversation.model.id, conversation.model.about
    );
    loop {
        let line = match lines.next().await {
            Input::Line(line) => line,
            Input::Interrupted => continue,
            Input::End => break,
            Input::Failed(reason) => anyhow::bail!("cannot read the terminal: {reason}"),
        };
        let fenced = line.trim_start().starts_with(FENCE);
        let text = unfenced(&line);
        let step = match text.strip_prefix('/').filter(|_| !fenced) {
            _ if text.is_empty() => Ok(Step::Next),
            Some(command) => slash(command, host, runtime, conversation, &mut signals).await,
            None => Ok(Step::Ask(text.to_owned())),
        };
        let done = match step {
            Ok(Step::Next) => Ok(()),
            Ok(Step::Leave) => break,
            Ok(Step::Ask(question)) => ask(&question, host, conversation, &mut signals).await,
            Err(error) => Err(error),
        };
        match done {
            Ok(()) => {}
            Err(error) if error.is::<Closed>() => return Err(error),
            Err(error) => eprintln!("{}", describe(&error)),
        }
    }
    lines.close();
    Ok(Exit::Done)
}

/// Answers a question, and says what became of the cache.
async fn ask(
    question: &str,
    host: &Host,
    conversation: &mut Conversation,
    signals: &mut Signals,
) -> Result<()> {
    let turn = conversation.ask(question, signals).await?;
    note(host, &turn);
    let told = !host.quiet() && !matches!(turn, Turn::Stopped(_));
    if let Some(moved) = conversation.moved().filter(|_| told) {
        aside(&format!("({moved})"));
    }
    Ok(())
}

/// Says when an answer is not all that there was to say.
fn note(host: &Host, turn: &Turn) {
    match turn {
        Turn::Cut if !host.quiet() => {
            eprintln!("(the answer was ended by max_tokens or by the end of the context)");
        }
        Turn::Stopped(_) => eprintln!("(stopped)"),
        _ => {}
    }
}

/// A line beside the conversation: dim, where the terminal shows colours.
fn aside(text: &str) {
    if output::colours(&std::io::stderr()) {
        eprintln!("\x1b[2m{text}\x1b[0m");
    } else {
        eprintln!("{text}");
    }
}

enum Step {
    Next,
    Leave,
    /// This is to be answered.
    Ask(String),
}

async fn slash(
    text: &str,
    host: &Host,
    runtime: &Runtime,
    conversation: &mut Conversation,
    signals: &mut Signals,
) -> Result<Step> {
    match commands::parse(text).map_err(anyhow::Error::msg)? {
        Slash::Exit => return Ok(Step::Leave),
        Slash::Help => output::text(commands::HELP)?,
        Slash::Clear => conversation.clear().await,
        Slash::System(text) => conversation.set_system(text).await,
        Slash::Sessions => output::text(&conversation.sessions().await?)?,
        Slash::Save(name) => {
            let name = conversation.save(name).await?;
            eprintln!("saved as {name}");
        }
        Slash::Load(name) => {
            let messages = conversation.load(name).await?;
            eprintln!("going on after {messages} messages");
        }
        Slash::Fork(name) => conversation.fork(name).await?,
        Slash::Erase(name) => conversation.erase(&name).await?,
        Slash::Kv => {
            output::line(conversation.kv())?;
            let tokens = conversation.kept().await?;
            if !tokens.is_empty() {
                kept::draw(&tokens)?;
            }
        }
        Slash::Show => output::text(&conversation.show())?,
        Slash::Undo => match conversation.undo().await {
            Some(question) => eprintln!("forgotten: {question}"),
            None => eprintln!("there is nothing to forget"),
        },
        Slash::Retry => match conversation.undo().await {
            Some(question) => return Ok(Step::Ask(question)),
            None => eprintln!("there is no question to ask again"),
        },
        Slash::Monitor(times) => chat_monitor::watch(runtime, times, signals).await?,
        Slash::Stats => output::line(conversation.stats())?,
        Slash::Set(None) => output::text(&conversation.drawing.describe())?,
        Slash::Set(Some((key, value))) => conversation.set(&key, &value)?,
        Slash::Train(recipe, set) => chat_runs::train(host, runtime, &recipe, set).await?,
        Slash::Runs(command) => chat_runs::runs(runtime, command).await?,
        Slash::Model(None) => {
            for model in host.library.list()? {
                output::line(model.id)?;
            }
        }
        Slash::Model(Some(name)) => change_model(&name, host, runtime, conversation).await?,
    }
    Ok(Step::Next)
}

async fn change_model(
    name: &str,
    host: &Host,
    runtime: &Runtime,
    conversation: &mut Conversation,
) -> Result<()> {
    let (library, wanted, quiet) = (host.library.clone(), name.to_owned(), host.quiet());
    let installed =
        tokio::task::spawn_blocking(move || host::ensure(&library, &wanted, quiet)).await??;
    let model = runtime.model(Some(name)).await?;
    let name = host::lasting_name(&host.library, &installed);
    let before = conversation.change_model(model, name).await;
    if before.id != conversation.model.id {
        // Its memory is of more use to the new one; a model that is busy after all stays.
        let _ = runtime.unload(before.id.clone()).await;
    }
    eprintln!("{}: {}", conversation.model.id, conversation.model.about);
    Ok(())
}
