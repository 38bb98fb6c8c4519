//! What each key may use: requests and tokens a minute, and requests at a time.
//!
//! All of it is decided from the head of a request, before its body is read: a refusal costs a lock and a subtraction.
//! Tokens cannot be known then. A request is let in while the bucket of tokens is not empty, and what it takes is
//! charged as soon as it is known: its prompt when it has been made into ids, each answer when it ends. One request may
//! so overdraw the bucket, and those after it wait until the debt is paid.

mod account;
mod bucket;
mod headers;
mod rules;

pub(super) use account::{Account, Permit};
pub(super) use headers::SHOWN;
pub(super) use rules::Rules;
