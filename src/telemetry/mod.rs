//! What the process tells its operator: log files, metrics, one line a request, samples of resources, and the record
//! of who asked for what.
//!
//! [`start`] sets up `tracing` once; its [`Guard`] is held by `main` until the end so that the last lines reach the
//! disk. [`Metrics`] is handed down to whoever counts. [`AuditLog`] is owned by the audit actor. Prompts and answers
//! appear in none of them unless `telemetry.prompts` asks for it.

mod audit;
mod capped;
mod escape;
mod log;
mod metrics;
mod request;
mod resources;
mod settings;
mod stats;
mod steps;
mod traces;

pub use audit::{AuditLog, Outcome, Record};
pub use escape::escaped;
pub use log::{Guard, Mode, start};
pub use metrics::{CONTENT_TYPE, InFlight, Lost, Metrics, Place, Stage, StepCount};
pub use request::RequestLine;
pub use resources::{GpuSample, RESOURCES, ResourceSample};
pub use settings::{Config, Format, Level, Rotation};
pub use stats::StatsLine;
pub use steps::{Recording, StepEvent, StepRow, Steps, StepsBusy};
pub use traces::{RequestTrace, Stages, TraceParent, Traces};

use std::path::PathBuf;

/// Why telemetry could not be started or written.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The folder of log files could not be made.
    #[error("cannot make the log folder {}: {source}; set telemetry.dir to one that can be written", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The system's message.
        source: std::io::Error,
    },
    /// A log file could not be opened.
    #[error("cannot open a log file in {}: {reason}; set telemetry.dir to a folder that can be written", path.display())]
    File {
        /// The folder.
        path: PathBuf,
        /// The appender's message.
        reason: String,
    },
    /// Something else of this process already receives its events.
    #[error("logging was started twice")]
    Twice,
    /// The log does not take another level.
    #[error("the log's level cannot be changed: {0}")]
    Level(String),
    /// Traces could not be sent anywhere.
    #[error(
        "cannot send traces to {endpoint:?}: {reason}; set telemetry.otlp_endpoint to the address of a collector, such as http://127.0.0.1:4318"
    )]
    Traces {
        /// The address.
        endpoint: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The audit record could not be opened, written or rotated.
    #[error("cannot write the audit record {}: {source}", path.display())]
    Audit {
        /// The file.
        path: PathBuf,
        /// The system's message.
        source: std::io::Error,
    },
}
