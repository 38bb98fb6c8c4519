//! What runs next: requests wait in order, join a batch step by step, and leave at any step. Pure: time comes in as
//! an argument, work goes out as a [`Plan`], and results come back through [`Scheduler::commit`].

mod fake;
mod plan;
mod request;
mod scheduler;
mod sequence;
mod settings;
mod stepper;

pub use fake::FakeModel;
pub use plan::{
    Ended, Forward, ForwardError, MemoryReport, Open, Origin, Outputs, Phase, Plan, Row, RowOutput,
    SessionOrder, SessionReply, SessionReport, Want,
};
pub use request::{Busy, Continue, Event, Failure, FinishReason, Request, Usage};
pub use scheduler::{Limits, Scheduler};
pub use settings::Config;
pub use stepper::{Drawn, Stepper};
