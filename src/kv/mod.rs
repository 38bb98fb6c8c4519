//! The arithmetic of a bounded KV cache: which positions a KV head keeps, in which slot a new token goes, in what
//! type it is stored, and what it all costs in bytes. Integers, floats and slices only; the tensors that follow these
//! decisions are in `llama::cache`.

mod classes;
pub mod parked;
mod picture;
pub mod policy;
mod report;
mod resolve;
mod rows;
mod settings;
mod shape;
mod slots;
mod summary;
pub mod tree;

pub use classes::ClassesFile;
pub use picture::{HeadChoice, Picture, Scored};
pub use policy::{
    BadPolicy, Fast, HeadClasses, HeadView, Hybrid, Need, Policy, Protect, QueryStats, Score,
    Select, Spread, When,
};
pub use report::KvReport;
pub use resolve::KvChoice;
pub use rows::{RowKind, Rows, Stored};
pub use settings::{BadPolicyName, Budget, Config, KvDtype, PolicyKind, Reading, ScoreKind, Spill};
pub use shape::KvShape;
pub use slots::{HeadSlots, Paid, Slot};
pub use summary::Summary;
