//! Why nothing can be done with a run.

use bytesize::ByteSize;

use crate::train::memory::Footprint;
use crate::train::runs::{RunError, RunId};
use crate::train::trainer::TrainError;

/// Why nothing can be done with a run.
#[derive(Debug, thiserror::Error)]
pub enum RunsError {
    /// There is nowhere to keep runs.
    #[error("this process has no folder for training runs")]
    Off,
    /// It is not there, or its folder cannot be read or written.
    #[error(transparent)]
    Run(#[from] RunError),
    /// One run at a time.
    #[error("this process is at run {0}: stop it, or wait until it is done")]
    Busy(String),
    /// Not in the state that it is in.
    #[error("run {id} is {status}: {hint}")]
    WrongState {
        /// The run.
        id: RunId,
        /// Its state.
        status: String,
        /// What to do instead.
        hint: &'static str,
    },
    /// The recipe, its data or its model is of no use.
    #[error(transparent)]
    Recipe(#[from] TrainError),
    /// No recipe is called so.
    #[error("there is no recipe {name:?}: there are {}; or send the text of one", names(.known))]
    NoRecipe {
        /// What was asked for.
        name: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// It does not fit into memory.
    #[error(
        "the run needs about {} of memory ({}), and {} are free: lower batch.micro_rows, set recompute, train adapters (stage lora), unload models, or raise runtime.memory",
        ByteSize(.footprint.bytes()), parts(.footprint), ByteSize(*.free)
    )]
    NoMemory {
        /// What it needs.
        footprint: Footprint,
        /// Bytes that could be had.
        free: u64,
    },
    /// The process ends.
    #[error("the process is shutting down")]
    ShuttingDown,
    /// Something else.
    #[error("{0}")]
    Failed(String),
}

fn names(names: &[String]) -> String {
    match names {
        [] => "none".to_owned(),
        names => names.join(", "),
    }
}

fn parts(footprint: &Footprint) -> String {
    let parts = [
        ("weights", footprint.weights),
        ("gradients", footprint.gradients),
        ("optimizer", footprint.moments),
        ("activations", footprint.activations),
        ("drawing answers", footprint.engine),
    ];
    let parts = parts.iter().filter(|(_, bytes)| *bytes > 0);
    let parts = parts.map(|(name, bytes)| format!("{name} {}", ByteSize(*bytes)));
    parts.collect::<Vec<_>>().join(", ")
}
