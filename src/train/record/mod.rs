//! What is written down of a run while it goes on: a JSON object a line, and the same for TensorBoard.
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

mod entry;
mod follow;
mod lines;
mod metrics;
mod tensorboard;
mod throughput;

pub use entry::{Drawn, Entry, Evaluated, Sampled, Step};
pub use follow::Follow;
pub use lines::{JsonLines, Log, read};
pub use metrics::Metrics;
pub use tensorboard::{EventFile, read_frames};
pub use throughput::{Pace, Throughput};
