//! Begins runs, goes on with them, and does what is asked of them between steps.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::How;
use crate::cli::exit::{self, Exit, Signal};
use crate::cli::host::Host;
use crate::cli::output;
use crate::cli::signals::Signals;
use crate::train::progress::Progress;
use crate::train::recipe;
use crate::train::record::Evaluated;
use crate::train::runs::{Request, RunFolder};
use crate::train::trainer::{End, NO_BETTER, Next, TrainError, Trainer};

/// How often a paused run looks whether it may go on.
const LOOK: Duration = Duration::from_millis(200);

/// `train run`.
pub(super) fn begin(host: &Host, path: &Path, overrides: &[String], how: &How) -> Result<Exit> {
    let asked = Asked::listen()?;
    let loaded = recipe::load(path, overrides)?;
    super::ensure_base(host, &loaded.recipe)?;
    let trainer = Trainer::begin(&host.library, &loaded, how.threads, &mut tell(host))?;
    drive(host, trainer, how, &asked)
}

/// `train resume`: a run that another process holds paused goes on there, any other goes on here.
pub(super) fn resume(host: &Host, id: &str, how: &How) -> Result<Exit> {
    let folder = RunFolder::open(&host.home().runs(), id)?;
    if folder.is_locked()? {
        return post(host, id, Request::Resume);
    }
    // What was asked of the process that is gone does not hold for this one.
    folder.requests()?;
    let asked = Asked::listen()?;
    let trainer = Trainer::resume(&host.library, id, how.threads, &mut tell(host))?;
    drive(host, trainer, how, &asked)
}

/// `train stop`, `pause` and `save`.
pub(super) fn post(host: &Host, id: &str, request: Request) -> Result<Exit> {
    let folder = RunFolder::open(&host.home().runs(), id)?;
    if !folder.is_locked()? {
        bail!("no process is at run {id}: `llamahome train resume {id}` goes on with it");
    }
    folder.post(request)?;
    if !host.quiet() {
        eprintln!(
            "asked run {id} to {} after its present step",
            request.as_str()
        );
    }
    Ok(Exit::Done)
}

/// `train export`.
pub(super) fn export(host: &Host, id: &str) -> Result<Exit> {
    let folder = RunFolder::open(&host.home().runs(), id)?;
    let before = folder.state()?;
    if folder.checkpoints().last()?.is_none() {
        bail!("run {id} has no checkpoint yet");
    }
    let mut trainer = Trainer::resume(&host.library, id, 0, &mut tell(host))?;
    let name = trainer.install(&host.library)?;
    trainer.mark(before.status, before.reason)?;
    output::line(name)?;
    Ok(Exit::Done)
}

fn tell(host: &Host) -> impl FnMut(&str) + use<> {
    let quiet = host.quiet();
    move |message: &str| {
        if !quiet {
            eprintln!("{message}");
        }
    }
}

/// The signal that came, heard on a thread of its own.
struct Asked(Arc<AtomicU8>);

impl Asked {
    /// Starts to listen; a second signal ends the process at once.
    fn listen() -> Result<Asked> {
        let came = Arc::new(AtomicU8::new(0));
        let heard = Arc::clone(&came);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let signals = runtime.block_on(async { Signals::listen() });
        let mut signals = signals.context("cannot listen to signals")?;
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    let first = signals.next().await;
                    heard.store(first.code(), Ordering::Relaxed);
                    let second = signals.next().await;
                    exit::at_once(second.code());
                });
            })?;
        Ok(Asked(came))
    }

    fn signal(&self) -> Option<Signal> {
        let code = self.0.load(Ordering::Relaxed);
        [Signal::Interrupt, Signal::Terminate]
            .into_iter()
            .find(|signal| signal.code() == code)
    }
}

fn drive(host: &Host, mut trainer: Trainer, how: &How, asked: &Asked) -> Result<Exit> {
    let wanted = trainer.recipe().logging.progress && !host.quiet();
    let progress = Progress::start(trainer.steps(), trainer.taken(), wanted);
    let ended = steps(&mut trainer, &progress, how, asked);
    progress.finish();
    match ended {
        Ok(None) => {
            let name = trainer.finish(&host.library)?;
            super::look::page(host, trainer.folder())?;
            if !host.quiet() {
                eprintln!(
                    "run {} is done: `llamahome run {name} \"...\"` answers from its model",
                    trainer.folder().id()
                );
            }
            Ok(Exit::Done)
        }
        Ok(Some(why)) => {
            let save = !matches!(why, Stopped::Signal(_)) || trainer.recipe().checkpoint.on_signal;
            trainer.stop(why.reason(), save)?;
            let id = trainer.folder().id();
            if !host.quiet() {
                eprintln!(
                    "run {id} stopped after step {}: `llamahome train resume {id}` goes on",
                    trainer.taken()
                );
            }
            Ok(match why {
                Stopped::Asked => Exit::Done,
                Stopped::Signal(signal) => Exit::By(signal),
            })
        }
        Err(error) => {
            trainer.fail(&error)?;
            Err(error.into())
        }
    }
}

/// Why a run stopped before its end.
enum Stopped {
    /// Somebody asked.
    Asked,
    /// A signal came.
    Signal(Signal),
}

impl Stopped {
    fn reason(&self) -> &'static str {
        match self {
            Stopped::Asked => "stopped on request",
            Stopped::Signal(Signal::Interrupt) => "stopped by SIGINT",
            Stopped::Signal(Signal::Terminate) => "stopped by SIGTERM",
        }
    }
}

/// Takes steps until the end, or until something stops the run.
fn steps(
    trainer: &mut Trainer,
    progress: &Progress,
    how: &How,
    asked: &Asked,
) -> Result<Option<Stopped>, TrainError> {
    if let Some(evaluated) = trainer.look()? {
        judged(&evaluated, progress, how);
    }
    while trainer.taken() < trainer.steps() {
        if let Some(stopped) = obey(trainer, progress, asked)? {
            return Ok(Some(stopped));
        }
        let outcome = trainer.step()?;
        progress.step(&outcome.step, outcome.logged);
        if how.json && outcome.logged {
            // Fails only when nobody reads it.
            let _ = output::json_line(&outcome.step);
        }
        if let Some(evaluated) = &outcome.evaluated {
            judged(evaluated, progress, how);
        }
        match outcome.end {
            None => {}
            Some(End::Finished) => break,
            Some(End::NoBetter) => {
                progress.tell(NO_BETTER);
                break;
            }
        }
    }
    Ok(None)
}

fn judged(evaluated: &Evaluated, progress: &Progress, how: &How) {
    progress.evaluation(evaluated);
    if how.json {
        // As above.
        let _ = output::json_line(evaluated);
    }
}

/// Does what was asked since the last step; waits while the run is paused.
fn obey(
    trainer: &mut Trainer,
    progress: &Progress,
    asked: &Asked,
) -> Result<Option<Stopped>, TrainError> {
    loop {
        if let Some(signal) = asked.signal() {
            return Ok(Some(Stopped::Signal(signal)));
        }
        let requests = trainer.folder().requests()?;
        let before = trainer.is_paused();
        match trainer.obey(&requests)? {
            Next::Stop => return Ok(Some(Stopped::Asked)),
            Next::Step => return Ok(None),
            Next::Wait if !before => {
                progress.tell("paused: `llamahome train resume` lets it go on");
            }
            Next::Wait => {}
        }
        std::thread::sleep(LOOK);
    }
}
