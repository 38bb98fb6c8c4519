//! What runs next: requests wait in the order of a policy, join a batch step by step, give way when memory is short,
//! and leave at any step. Pure: time comes in as an argument, work goes out as a [`Plan`], and results come back through
//! [`Scheduler::commit`].

mod batch;
mod draft;
mod fake;
mod leaving;
mod memory;
mod plan;
mod planning;
mod priority;
mod progress;
mod ranges;
mod request;
mod scheduler;
mod sequence;
mod settings;
mod stepper;

pub use fake::FakeModel;
pub use memory::{BlockAccounts, Limits, Memory, NoRoom};
pub use plan::{
    Ended, Forward, ForwardError, Kept, LiveTokens, MemoryReport, Open, Origin, Outputs, Phase,
    Plan, Row, RowOutput, SessionOrder, SessionReply, SessionReport, Want,
};
pub use progress::{BadProgress, Progress};
pub use ranges::{BadRun, Mark, RangeTracker, Run};
pub use request::{
    Busy, Continue, Event, Failure, FinishReason, OfPrompt, Request, Standing, Usage,
};
pub use scheduler::Scheduler;
pub use settings::{
    Admission, BadKeyWeight, BatcherKind, Config, KeyWeight, PolicyKind, Speculate,
};
pub use stepper::{Drawn, Stepped, Stepper};
