//! What runs leave on disk: a folder each, below `runs` in the home folder.
//!
//! ```text
//! runs/shakespeare-1/
//!   recipe.toml        resolved: every key that the run follows
//!   state.json         status, process, step; replaced whole
//!   lock               held by the process that is at it
//!   log.jsonl          a line each logged step and evaluation
//!   events/            the same for TensorBoard
//!   requests/          files named pause, resume, save or stop, dropped by anyone
//!   checkpoints/       step-00000250/ and so on; writing-* while one is written
//! ```
//!
//! Nothing here needs a process to end well: what is half written has another name, and the lock is the system's.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )
)]

mod checkpoints;
mod durable;
mod error;
mod folder;
mod list;
mod name;
mod requests;
mod state;
#[cfg(test)]
mod tests;

pub use checkpoints::{Checkpoints, Keep, Pending, Saved};
pub use error::RunError;
pub use folder::{RunFolder, RunLock};
pub use list::{List, Listed, list, listed, table};
pub use name::{BadRunId, RunId, is_name};
pub use requests::Request;
pub use state::{RunState, Status};
