//! KV memory in blocks: what a lease of bytes makes of them, what a request needs of them at its worst and now, and
//! whether it is let in.

mod blocks;
mod lease;

pub use blocks::{BlockAccounts, NoRoom};
pub use lease::{Limits, Memory};
