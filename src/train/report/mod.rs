//! A page for a run, and one for several beside each other: one HTML file each, without scripts, that loads nothing.

mod curves;
mod machine;
mod page;
mod run;

use std::io;
use std::path::PathBuf;

pub use machine::machine;
pub use page::{compare, html};
pub use run::Run;

use super::recipe::RecipeError;
use super::runs::{RunError, RunFolder};
use crate::eval::PlotError;

/// Writes the page of a run on this machine into its folder, and says where.
///
/// # Errors
/// Something of the run cannot be read, or the page cannot be written.
pub fn write(folder: &RunFolder) -> Result<PathBuf, ReportError> {
    let text = html(&Run::read(folder, machine())?)?;
    let path = folder.report();
    match std::fs::write(&path, text) {
        Ok(()) => Ok(path),
        Err(source) => Err(ReportError::Write { path, source }),
    }
}

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
    /// The page cannot be written.
    #[error("cannot write {}: {source}", .path.display())]
    Write {
        /// The page.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A curve cannot be drawn.
    #[error(transparent)]
    Plot(#[from] PlotError),
}
