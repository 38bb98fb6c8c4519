//! The API as clients meet it: a real daemon in this process, asked over sockets.

mod answers;
mod choices;
mod edge;
mod faults;
mod real;
mod refusals;
mod sessions;
#[path = "../support/mod.rs"]
mod support;
