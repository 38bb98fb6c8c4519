//! The arithmetic of a bounded KV cache: which positions a KV head keeps, in which slot a new token goes, and what
//! it all costs in bytes. Integers and floats only; the tensors that follow these decisions are in `llama::cache`.

pub mod policy;
mod report;
mod resolve;
mod settings;
mod shape;
mod slots;

pub use policy::{BadPolicy, Need, Policy};
pub use report::KvReport;
pub use resolve::KvChoice;
pub use settings::{Budget, Config, PolicyKind};
pub use shape::KvShape;
pub use slots::{HeadSlots, Placement};
