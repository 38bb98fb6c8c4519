//! How much one request may hold.

/// Choices.
pub(in crate::http) const MAX_CHOICES: usize = 8;
/// Alternatives that are told beside a token.
pub(in crate::http) const MAX_TOP: usize = 20;
/// Messages or items of a talk.
pub(in crate::http) const MAX_MESSAGES: usize = 4096;
/// Functions that may be called.
pub(in crate::http) const MAX_TOOLS: usize = 128;
/// Texts to be told as vectors.
pub(in crate::http) const MAX_INPUTS: usize = 2048;
