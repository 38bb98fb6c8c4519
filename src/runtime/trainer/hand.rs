//! The thread of a run: it takes a step when it is told to.
//!
//! The thread, and the compute threads that the run starts, have the lowest priority that the system gives: while requests
//! are computed they get nearly all of the processor, and training what is left.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;

use actix::Addr;

use super::orders::{Report, Told};
use super::{Parts, Trainer as Owner};
use crate::runtime::heap::give_memory_back;
use crate::runtime::worker::message;
use crate::train::report;
use crate::train::runs::{Request, RunFolder, Status};
use crate::train::trainer::{End, Next, TrainError, Trainer};

/// What the thread is told.
pub(super) enum Order {
    /// Do what was asked, and then take a step, unless the run is to wait or to stop.
    Turn(Vec<Request>),
    /// The process ends.
    Leave,
}

/// See the module.
pub(super) struct Hand {
    pub(super) parts: Parts,
    pub(super) folder: RunFolder,
    pub(super) owner: Addr<Owner>,
}

impl Hand {
    /// Starts the thread, which opens the run and then waits for orders.
    ///
    /// # Errors
    /// The system has no thread.
    pub(super) fn start(self) -> io::Result<mpsc::Sender<Order>> {
        let (send, orders) = mpsc::channel();
        let work = move || {
            give_way();
            self.caught(|hand| hand.run(&orders));
            give_memory_back();
            self.tell(Told::Ended);
        };
        std::thread::Builder::new()
            .name("trainer".to_owned())
            .spawn(work)?;
        Ok(send)
    }

    /// Does `work`; a panic in it ends the run, and nothing else.
    fn caught(&self, work: impl FnOnce(&Hand)) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| work(self))) {
            self.failed(&format!("the run panicked: {}", message(&*panic)));
        }
    }

    fn run(&self, orders: &mpsc::Receiver<Order>) {
        let id = self.folder.id();
        let mut tell = |text: &str| tracing::info!(run = %id, "{text}");
        let (library, threads) = (&self.parts.library, self.parts.threads);
        let mut trainer = match Trainer::resume(library, id.as_str(), threads, &mut tell) {
            Ok(trainer) => trainer,
            Err(error) => {
                // The state of the run says so, too.
                tracing::error!(run = %id, %error, "the run did not begin");
                return;
            }
        };
        if let Err(error) = self.obey(&mut trainer, orders) {
            tracing::error!(run = %id, %error, "the run has failed");
            if let Err(error) = trainer.fail(&error) {
                tracing::error!(run = %id, %error, "the state of the run cannot be written");
            }
        }
    }

    fn obey(
        &self,
        trainer: &mut Trainer,
        orders: &mpsc::Receiver<Order>,
    ) -> Result<(), TrainError> {
        let id = self.folder.id();
        let mut told = Told::Ready;
        loop {
            self.tell(told);
            // Without an owner nobody would ever order anything.
            let Ok(Order::Turn(mut asked)) = orders.recv() else {
                let save = trainer.recipe().checkpoint.on_signal;
                tracing::info!(run = %id, step = trainer.taken(), "stopped with the process");
                return trainer.stop("stopped with its process", save);
            };
            asked.extend(trainer.folder().requests()?);
            told = match trainer.obey(&asked)? {
                Next::Stop => {
                    tracing::info!(run = %id, step = trainer.taken(), "stopped on request");
                    return trainer.stop("stopped on request", true);
                }
                Next::Wait => Told::Paused,
                Next::Step if trainer.taken() >= trainer.steps() => return self.finish(trainer),
                Next::Step => match trainer.step()?.end {
                    None => Told::Ready,
                    Some(End::Finished | End::NoBetter) => return self.finish(trainer),
                },
            };
        }
    }

    fn finish(&self, trainer: &mut Trainer) -> Result<(), TrainError> {
        let id = self.folder.id();
        let model = trainer.finish(&self.parts.library)?;
        if let Err(error) = report::write(&self.folder) {
            tracing::warn!(run = %id, %error, "the page of the run cannot be written");
        }
        tracing::info!(run = %id, model, "the run is done");
        Ok(())
    }

    /// Marks a run that nobody holds any more.
    fn failed(&self, reason: &str) {
        let id = self.folder.id();
        tracing::error!(run = %id, "{reason}");
        let marked = self.folder.mark(Status::Failed, Some(reason.to_owned()));
        if let Err(error) = marked {
            tracing::error!(run = %id, %error, "the state of the run cannot be written");
        }
    }

    fn tell(&self, told: Told) {
        self.owner.do_send(Report {
            id: self.folder.id().clone(),
            told,
        });
    }
}

/// Lowers the priority of this thread and of those that it starts.
fn give_way() {
    // Elsewhere it would be the whole process's.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, 19) {
        tracing::warn!(%error, "the priority of training cannot be lowered: it competes with requests");
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        reason = "a test may panic"
    )]
    use std::path::Path;

    use actix::{AsyncContext, Context};

    use super::*;
    use crate::store::{Catalog, Home, Library};
    use crate::train::recipe;

    #[test]
    fn a_panic_ends_the_run_and_leaves_its_checkpoint() {
        let place = tempfile::tempdir().unwrap();
        let text: String = (0..300)
            .map(|n| format!("The number {n} comes before {}. ", n + 1))
            .collect();
        let data = place.path().join("text.txt");
        std::fs::write(&data, text).unwrap();
        let text = format!(
            "stage = \"pretrain\"\n[model]\ndepth = 1\naspect_ratio = 16\nhead_dim = 16\ncontext = 16\n\
             [tokenizer]\nvocab_size = 300\n[data]\npath = {data:?}\n[batch]\nrows = 2\n[horizon]\nsteps = 9\n"
        );
        let loaded = recipe::parse(Path::new("a.toml"), &text, &[]).unwrap();
        let home = Home::at(place.path().join("home"));
        let folder = RunFolder::create(&home.runs(), &loaded.recipe, 1).unwrap();
        let library = Library::new(home, Catalog::built_in().unwrap());
        // Nobody listens: what is told is of no interest here.
        let hand = Hand {
            parts: Parts {
                library,
                models: Context::new().address(),
                threads: 1,
            },
            folder: folder.clone(),
            owner: Context::new().address(),
        };
        hand.caught(|hand| {
            let (library, id) = (&hand.parts.library, hand.folder.id().as_str());
            let mut trainer = Trainer::resume(library, id, 1, &mut |_| {}).unwrap();
            trainer.step().unwrap();
            trainer.save().unwrap();
            trainer.step().unwrap();
            panic!("out of order");
        });
        let state = folder.state().unwrap();
        let reason = "the run panicked: out of order".to_owned();
        assert_eq!((state.status, state.reason), (Status::Failed, Some(reason)));
        assert!(!folder.is_locked().unwrap(), "it can be resumed");
        assert_eq!(folder.checkpoints().last().unwrap().unwrap().step, 1);
    }
}
