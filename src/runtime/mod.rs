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
mod device;
mod disk;
mod engine;
mod flight;
mod heap;
mod keep_alive;
mod load_state;
mod models;
mod monitor;
mod orders;
mod parked;
mod pool;
mod prepare;
mod pulse;
mod remote;
mod replica;
mod restart;
mod router;
mod routes;
mod rule;
mod runs;
mod served;
mod sessions;
mod settings;
mod source;
pub mod systemd;
mod trainer;
mod turn;
mod watchdog;
mod worker;

pub use answer::{Answer, Collected, Finish, Piece, TokenPiece};
pub use boot::{Runtime, Sections, boot};
pub use disk::DiskModels;
pub use heap::one_arena;
pub use keep_alive::{BadKeepAlive, KeepAlive};
pub use load_state::{LoadState, ModelError, ModelEvent, ModelState, ReplicaState};
pub use monitor::Snapshot;
pub use parked::{SessionLine, SessionPicture};
pub use pool::Pooling;
pub use prepare::{Ask, BadAsk};
pub use remote::{BadRemote, KeyPlace, RemoteRule};
pub use restart::Restart;
pub use router::{Call, Load, Router, RouterKind, route};
pub use routes::Computed;
pub use rule::{BadRule, Keeping, ModelRule};
pub use runs::{
    Following, RecipeSource, RunEvent, RunLine, RunList, RunLog, RunShown, Runs, RunsError,
    StateEvent, Training,
};
pub use served::{Held, ServedModel};
pub use sessions::{Draft, SessionError, Sessions, Talk};
pub use settings::Config;
pub use source::{Builder, ModelSource, Opened, SourceError};
pub use turn::{BadTurn, Fed};
