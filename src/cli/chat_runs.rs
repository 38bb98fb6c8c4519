//! Training runs in a chat: started beside the conversation, listed and steered.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;

use super::commands::RunsCommand;
use super::host::{self, Host};
use super::output;
use crate::runtime::{RecipeSource, RunLine, Runtime};
use crate::train::progress;
use crate::train::runs::Request;

/// `/train`: begins a run in this process. `recipe` is a file, or the name of one in the folder of recipes.
///
/// # Errors
/// What is wrong with the recipe, its data or its model; or another run is under way here.
pub(super) async fn train(
    host: &Host,
    runtime: &Runtime,
    recipe: &str,
    set: Vec<String>,
) -> Result<()> {
    let path = PathBuf::from(recipe);
    let source = match path.is_file() {
        true => RecipeSource::File(path),
        false => RecipeSource::Name(recipe.to_owned()),
    };
    // Its model is pulled here, where that is seen; the runtime takes what is installed.
    let loaded = source.load(&host.recipes(), &set)?;
    if let Some(base) = loaded.recipe.model.base_name().map(str::to_owned) {
        let (library, quiet) = (host.library.clone(), host.quiet());
        tokio::task::spawn_blocking(move || host::ensure(&library, &base, quiet)).await??;
    }
    let run = runtime.runs().start(source, set).await?;
    eprintln!("run {} begins; /runs {} shows how it goes", run.id, run.id);
    Ok(())
}

/// `/runs`.
///
/// # Errors
/// There is no such run, or it is not in a state for this.
pub(super) async fn runs(runtime: &Runtime, command: RunsCommand) -> Result<()> {
    match command {
        RunsCommand::List => {
            let list = runtime.runs().list().await?;
            for (id, error) in &list.unreadable {
                eprintln!("warning: run {id} cannot be read: {error}");
            }
            output::text(&table(&list.runs))?;
        }
        RunsCommand::Show(id) => {
            let shown = runtime.runs().show(&id).await?;
            output::text(&table(std::slice::from_ref(&shown.line)))?;
            if let Some(step) = &shown.last_step {
                output::line(format!("step {}: {}", step.step, progress::told(step)))?;
            }
            for evaluated in &shown.evaluations {
                let line = progress::evaluation(evaluated);
                output::line(format!("step {}: {line}", evaluated.step))?;
            }
            if let Some(reason) = &shown.line.reason {
                output::line(reason)?;
            }
        }
        RunsCommand::Steer(request, id) => {
            let run = runtime.runs().steer(&id, request).await?;
            let when = match request {
                Request::Resume => "",
                _ => " after its present step",
            };
            eprintln!("asked run {} to {}{when}", run.id, request.as_str());
        }
    }
    Ok(())
}

/// The runs as a table.
fn table(runs: &[RunLine]) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.unwrap_or_default().as_secs();
    let number = |value: Option<f64>, digits: usize| {
        value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
    };
    let row = |run: &RunLine| {
        let steps = run
            .steps
            .map_or_else(|| "?".to_owned(), |steps| steps.to_string());
        [
            format!("{}{}", run.id, if run.here { " *" } else { "" }),
            run.stage.to_string(),
            run.status.clone(),
            format!("{}/{steps}", run.step),
            number(run.loss, 4),
            number(run.best, 4),
            number(run.tokens_per_s, 0),
            run.eta_s
                .map_or_else(|| "-".to_owned(), |left| format!("{left:.0}s")),
            format!("{}s ago", now.saturating_sub(run.updated)),
        ]
    };
    if runs.is_empty() {
        return "there are no runs: /train RECIPE begins one\n".to_owned();
    }
    let heading = [
        "RUN", "STAGE", "STATUS", "STEP", "LOSS", "BEST", "TOK/S", "LEFT", "CHANGED",
    ];
    let rows: Vec<_> = runs.iter().map(row).collect();
    output::table(heading, &rows)
}
