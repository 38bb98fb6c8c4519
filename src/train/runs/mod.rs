//! What runs leave on disk.

mod name;

pub use name::{BadRunId, RunId, is_name};
