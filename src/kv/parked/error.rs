//! What can go wrong with what is parked.

use super::Spilled;

/// Why something could not be moved between memory and disk. Nothing is lost by it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParkError {
    /// What should have made room is still in memory.
    #[error(
        "cannot move {key:?} to disk, {over} bytes over the budget stay in memory: {reason}: free some disk or erase \
         parked sequences"
    )]
    Spill {
        /// The first parcel that failed.
        key: String,
        /// The disk's reason.
        reason: String,
        /// Bytes in memory above the budget.
        over: usize,
        /// What was moved all the same.
        spilled: Vec<Spilled>,
    },
    /// What is on disk could not be read.
    #[error("cannot read {key:?} back from disk: {reason}: it stays there; try again or erase it")]
    Fetch {
        /// The parcel.
        key: String,
        /// The disk's reason.
        reason: String,
    },
    /// What is on disk could not be erased.
    #[error(
        "cannot erase {key:?} from disk: {reason}: it stays parked; make its folder writable and try again"
    )]
    Erase {
        /// The parcel.
        key: String,
        /// The disk's reason.
        reason: String,
    },
}
