//! Where a run stands, beside its weights.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::synced::{read_json, write_json};
use super::{CheckpointError, OPTIMIZER};
use crate::train::optimizer::{Optimizer, OptimizerSpec};

const FILE: &str = "state.json";
/// Of the files of a checkpoint; another number is another format.
const FORMAT: u32 = 1;

/// Where a run stands. What is drawn at random follows from seeds and these counts alone.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunState {
    /// Steps that are done.
    pub step: u64,
    /// Tokens that were learnt from.
    pub tokens: u64,
    /// Seeds by what they are for.
    pub seeds: BTreeMap<String, u64>,
    /// Where the data goes on, as its reader wrote it.
    pub data: Value,
    /// Where the schedule stands, as it wrote it.
    pub schedule: Value,
    /// The best evaluation so far.
    pub best: Option<Best>,
}

/// An evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Best {
    /// After which step.
    pub step: u64,
    /// What evaluations are told apart by: the mean loss in nats, or the mean reward.
    #[serde(alias = "loss")]
    pub value: f64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: u32,
    optimizer: Stepped,
    run: RunState,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stepped {
    rule: OptimizerSpec,
    steps: u64,
}

pub(super) fn write(
    folder: &Path,
    optimizer: &Optimizer,
    run: &RunState,
) -> Result<(), CheckpointError> {
    let optimizer = Stepped {
        rule: *optimizer.spec(),
        steps: optimizer.steps(),
    };
    let file = File {
        format: FORMAT,
        optimizer,
        run: run.clone(),
    };
    write_json(&folder.join(FILE), &file)
}

/// The optimizer's steps and the run's state.
pub(super) fn read(
    folder: &Path,
    optimizer: &Optimizer,
) -> Result<(u64, RunState), CheckpointError> {
    let path = folder.join(FILE);
    let file: File = read_json(&path)?;
    if file.format != FORMAT {
        let reason = format!("its format is {}, this program reads {FORMAT}", file.format);
        return Err(CheckpointError::other(path, reason));
    }
    if file.optimizer.rule != *optimizer.spec() {
        let reason = format!(
            "{OPTIMIZER} was written by {:?}, the run has {:?}",
            file.optimizer.rule,
            optimizer.spec()
        );
        return Err(CheckpointError::other(path, reason));
    }
    Ok((file.optimizer.steps, file.run))
}
