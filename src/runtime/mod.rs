//! The actors: who owns what at run time, started in one place and stopped in one order.
//!
//! [`boot`] is the only caller of `start`, leaf first; each actor holds only the addresses of those it commands. Async
//! actors do bookkeeping; tensors live on the worker's thread. No tensor type is named here: an engine drives a
//! [`crate::sched::Forward`] that a [`ModelSource`] makes.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod answer;
mod audit;
mod boot;
mod cache;
mod disk;
mod engine;
mod load_state;
mod models;
mod monitor;
mod orders;
mod parked;
mod prepare;
mod restart;
mod routes;
mod sessions;
mod settings;
mod source;
mod turn;
mod worker;

pub use answer::{Answer, Finish, Piece, TokenPiece};
pub use boot::{Runtime, Sections, boot};
pub use disk::DiskModels;
pub use load_state::{LoadState, ModelError, ModelState};
pub use monitor::Snapshot;
pub use parked::SessionLine;
pub use prepare::{Ask, BadAsk};
pub use restart::Restart;
pub use routes::ServedModel;
pub use sessions::{Draft, SessionError, Sessions, Talk};
pub use settings::Config;
pub use source::{Builder, ModelSource, Opened, SourceError};
pub use turn::{BadTurn, Fed};
