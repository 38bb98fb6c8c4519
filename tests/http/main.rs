//! The API as clients meet it: a real daemon in this process, asked over sockets.

mod aborts;
mod answers;
mod anthropic;
mod choices;
mod edge;
mod faults;
mod limits;
mod models;
mod ollama;
mod openapi;
mod page;
mod prompts;
mod real;
mod refusals;
mod remote;
mod responses;
mod runs;
#[path = "../support/schemas.rs"]
mod schemas;
mod sessions;
mod stalls;
mod structured;
#[path = "../support/mod.rs"]
mod support;
mod tls;
mod tools;
mod traces;
mod vajra;
