//! What can be seen of runs, recipes and data.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde_json::json;

use crate::cli::exit::Exit;
use crate::cli::host::Host;
use crate::cli::output;
use crate::train::recipe;
use crate::train::report::{self, Run, machine};
use crate::train::runs::{self, RunFolder};
use crate::train::trainer;

/// `train ls`.
pub(super) fn ls(host: &Host, json: bool) -> Result<Exit> {
    let list = runs::list(&host.home().runs())?;
    for (id, error) in &list.unreadable {
        eprintln!("warning: run {id} cannot be read: {error}");
    }
    if json {
        output::json(&list.runs)?;
        return Ok(Exit::Done);
    }
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    output::text(&runs::table(&list.runs, now.as_secs()))?;
    Ok(Exit::Done)
}

/// `train show`.
pub(super) fn show(host: &Host, id: &str, json: bool) -> Result<Exit> {
    let folder = RunFolder::open(&host.home().runs(), id)?;
    let run = Run::read(&folder, Vec::new())?;
    if json {
        output::json(&json!({
            "run": run.listed,
            "folder": folder.path(),
            "checkpoints": folder.checkpoints().all()?,
            "evaluations": run.log.evaluations().collect::<Vec<_>>(),
            "steps": run.log.steps().collect::<Vec<_>>(),
        }))?;
        return Ok(Exit::Done);
    }
    let state = &run.listed.state;
    output::line(format!(
        "{}  {}  {}",
        state.id,
        run.listed.status(),
        folder.path().display()
    ))?;
    let of = state
        .steps
        .map_or(String::new(), |steps| format!(" of {steps}"));
    output::line(format!(
        "step {}{of}, {:.0} s in steps",
        state.step, state.active_s
    ))?;
    if let Some(step) = run.log.steps().last() {
        output::line(format!(
            "step {}: {}",
            step.step,
            crate::train::progress::told(step)
        ))?;
    }
    for evaluated in run.log.evaluations() {
        let line = crate::train::progress::evaluation(evaluated);
        output::line(format!("step {}: {line}", evaluated.step))?;
    }
    for saved in folder.checkpoints().all()? {
        output::line(format!(
            "checkpoint {}: {}",
            saved.step,
            saved.path.display()
        ))?;
    }
    if let Some(reason) = &state.reason {
        output::line(reason)?;
    }
    Ok(Exit::Done)
}

/// `train validate`.
pub(super) fn validate(path: &Path, overrides: &[String], json: bool) -> Result<Exit> {
    let loaded = recipe::load(path, overrides)?;
    for unused in &loaded.unused {
        eprintln!(
            "{}: {} has no effect here: {}",
            unused.place, unused.key, unused.reason
        );
    }
    let found = trainer::validate(&loaded.recipe)?;
    if json {
        output::json(&found)?;
    } else {
        for (source, validation) in &found {
            output::line(format!(
                "{source}: {} records in {} files",
                validation.records, validation.files
            ))?;
            for (field, count) in &validation.unused {
                output::line(format!(
                    "  field {field:?} means nothing here, in {count} records"
                ))?;
            }
            for problem in &validation.problems {
                output::line(format!("  {problem}"))?;
            }
        }
    }
    Ok(
        match found.iter().all(|(_, validation)| validation.is_clean()) {
            true => Exit::Done,
            false => Exit::Failed,
        },
    )
}

/// `train preview`.
pub(super) fn preview(
    host: &Host,
    path: &Path,
    overrides: &[String],
    (samples, tokens): (usize, usize),
    json: bool,
) -> Result<Exit> {
    let loaded = recipe::load(path, overrides)?;
    super::ensure_base(host, &loaded.recipe)?;
    let previews = trainer::preview(&host.library, &loaded.recipe, samples, tokens)?;
    if json {
        output::json(&previews)?;
    } else {
        for preview in previews {
            output::line(preview)?;
        }
    }
    Ok(Exit::Done)
}

/// `train report`.
pub(super) fn report(host: &Host, ids: &[String], to: Option<&Path>) -> Result<Exit> {
    let runs = host.home().runs();
    let folders = ids.iter().map(|id| RunFolder::open(&runs, id));
    let folders: Vec<RunFolder> = folders.collect::<Result<_, _>>()?;
    let read = folders.iter().map(|folder| Run::read(folder, machine()));
    let read: Vec<Run> = read.collect::<Result<_, _>>()?;
    let (text, usual) = match (read.as_slice(), folders.as_slice()) {
        ([run], [folder]) => (report::html(run)?, folder.report()),
        _ => (report::compare(&read)?, PathBuf::from("comparison.html")),
    };
    let path = to.unwrap_or(&usual);
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    output::line(path.display())?;
    Ok(Exit::Done)
}

/// Writes the page of a run that is done.
pub(super) fn page(host: &Host, folder: &RunFolder) -> Result<()> {
    let path = report::write(folder)?;
    if !host.quiet() {
        eprintln!("report: {}", path.display());
    }
    Ok(())
}
