//! The numbers of one key.

use std::time::Duration;

/// What one key may use; 0 is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::http) struct Rules {
    /// Requests a minute.
    pub(in crate::http) requests: u64,
    /// Tokens a minute, of prompts and answers.
    pub(in crate::http) tokens: u64,
    /// Requests at a time.
    pub(in crate::http) concurrent: usize,
    /// For how long both rates may be saved up.
    pub(in crate::http) burst: Duration,
}
