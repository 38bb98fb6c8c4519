//! A load tester for servers of the OpenAI API: how requests come, what they ask, what is seen of each, and what all of
//! it says about the server.
//!
//! All but [`Client`] and [`drive`] is pure. A load is fixed by its seed: `arrivals`, `length`, `prompt`, `workload` and
//! `traffic` make it; `record` is what was seen of one request; `quantile`, `slo`, `window` and `report` judge a run, and
//! `capacity` looks for the load that a server still bears. Latencies count from the time at which a request should have
//! been sent, so that a tester that is late, or waits for a slow server, hides nothing.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )
)]

mod arrivals;
mod capacity;
mod client;
mod drive;
mod fairness;
mod frame;
mod key;
mod length;
mod plot;
mod prompt;
mod quantile;
mod record;
mod report;
mod slo;
mod table;
mod target;
mod trace;
mod traffic;
mod trials;
mod window;
mod workload;

pub use arrivals::{Arrivals, BadArrivals, Process, Rate};
pub use capacity::{LoadUnit, Search, SearchBounds};
pub use client::{Ask, Client, ClientError};
pub use drive::{Order, Run, Tally, drive, warm_up};
pub use fairness::{Fairness, KeyReport, WindowReport};
pub use key::{BadKey, Key};
pub use length::{BadLength, Length, Think};
pub use plot::plot;
pub use quantile::{Sorted, Summary};
pub use record::{Counted, Fault, Origin, Outcome, Record, RecordLine};
pub use report::{Goodput, Latency, Load, Refusals, Report, Requests, Target, Throughput, Tokens};
pub use slo::{BadSlo, Slo, Verdict, parse_share};
pub use table::table;
pub use target::{BadUrl, BaseUrl, Endpoint, Form, Said};
pub use trace::{TraceError, TraceFormat, TraceRow, parse_trace};
pub use traffic::Traffic;
pub use trials::{CapacityReport, Trial};
pub use window::Share;
pub use workload::{Abort, Session, Shape, Turn};
