//! Whether a run fits, and its folder.

use actix::Addr;
use sysinfo::System;

use super::Parts;
use super::orders::What;
use crate::runtime::models::{Lend, Models};
use crate::runtime::runs::{RunsError, blocking};
use crate::train::runs::{RunFolder, Status};
use crate::train::trainer::{self, Trainer};

/// Takes a lease for the memory of a run and makes its folder, if it has none. Without a folder nothing stays leased.
///
/// # Errors
/// It does not fit, or its recipe or folder is of no use.
pub(super) async fn prepare(parts: Parts, what: What) -> Result<RunFolder, RunsError> {
    let (library, sizing) = (parts.library.clone(), parts.library.clone());
    let (what, footprint) = blocking(move || {
        let footprint = match &what {
            What::New(loaded) => trainer::footprint(&sizing, &loaded.recipe)?,
            What::Again(folder) => {
                let loaded = folder.recipe(&[]).map_err(trainer::TrainError::from)?;
                trainer::footprint(&sizing, &loaded.recipe)?
            }
        };
        if let Some(free) = available().filter(|free| *free < footprint.bytes()) {
            return Err(RunsError::NoMemory { footprint, free });
        }
        Ok((what, footprint))
    })
    .await?;
    let bytes = usize::try_from(footprint.bytes()).unwrap_or(usize::MAX);
    match parts.models.send(Lend { bytes }).await {
        Ok(Ok(())) => {}
        Ok(Err(free)) => {
            let free = free as u64;
            return Err(RunsError::NoMemory { footprint, free });
        }
        Err(_) => return Err(RunsError::ShuttingDown),
    }
    let made = blocking(move || {
        let folder = match what {
            What::New(loaded) => {
                let mut tell = |text: &str| tracing::info!("{text}");
                Trainer::queue(&library, &loaded, &mut tell)?
            }
            What::Again(folder) => {
                // What was asked of the process that is gone does not hold for this one.
                folder.requests()?;
                folder
            }
        };
        let mut state = folder.state()?;
        (state.status, state.pid) = (Status::Queued, Some(std::process::id()));
        state.reason = None;
        folder.write_state(&state)?;
        Ok(folder)
    });
    let made = made.await;
    if made.is_err() {
        give_back(&parts.models);
    }
    made
}

/// Returns the lease of a run.
pub(super) fn give_back(models: &Addr<Models>) {
    models.do_send(Lend { bytes: 0 });
}

/// Bytes that the machine, or the cgroup of this process, has left; `None` where the system does not say.
fn available() -> Option<u64> {
    let mut system = System::new().ok()?;
    system.refresh_memory();
    let machine = Some(system.available_memory()).filter(|bytes| *bytes > 0)?;
    let group = system.cgroup_limits().map(|limits| limits.free_memory);
    Some(group.map_or(machine, |group| group.min(machine)))
}
