//! A page for a run, and one for several beside each other: one HTML file each, without scripts, that loads nothing.

mod curves;
mod machine;
mod page;
mod run;

use std::io;

pub use machine::machine;
pub use page::{compare, html};
pub use run::Run;

use super::recipe::RecipeError;
use super::runs::RunError;
use crate::eval::PlotError;

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The run's state cannot be read.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The run's recipe cannot be read.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// The run's log cannot be read.
    #[error("cannot read the log of {run}: {source}")]
    Log {
        /// The run.
        run: String,
        /// The system's reason.
        source: io::Error,
    },
    /// A curve cannot be drawn.
    #[error(transparent)]
    Plot(#[from] PlotError),
}
