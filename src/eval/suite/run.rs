//! Running a suite on a model.

use super::super::interval::wilson;
use super::super::mean::Running;
use super::error::{SuiteError, invalid};
use super::item::Item;
use super::judge::{Judge, Loss};
use super::results::{SuiteResults, TaskResult, centred};
use super::sandbox::Executor;
use super::score::{Loaded, Score};
use super::shots::order;
use super::task::{Kind, TaskSpec};

/// How a suite is run.
pub struct SuiteOptions<'a> {
    /// The model's name, for the results.
    pub model: String,
    /// Items of each task at most; a task's own limit counts too.
    pub limit: Option<usize>,
    /// Items given to the model at once, at least 1.
    pub batch: usize,
    /// What runs the programs of code tasks.
    pub executor: Option<&'a dyn Executor>,
}

impl SuiteOptions<'_> {
    /// Every item, 16 at once, and no code.
    pub fn new(model: &str) -> Self {
        SuiteOptions {
            model: model.to_owned(),
            limit: None,
            batch: 16,
            executor: None,
        }
    }
}

/// How far a suite has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress<'a> {
    /// The task.
    pub task: &'a str,
    /// Which of the tasks, from 0.
    pub number: usize,
    /// Tasks in all.
    pub tasks: usize,
    /// Items of it done.
    pub done: usize,
    /// Items of it to do.
    pub items: usize,
}

/// Measures `tasks` on `judge`, one after the other; `progress` is called before the first items of a task and after
/// each batch. All items are read before the model is asked anything.
///
/// # Errors
/// Faults of tasks and items, a code task without an executor, and what the model or the executor failed with.
pub fn run_suite(
    judge: &mut dyn Judge,
    tasks: &[TaskSpec],
    options: &SuiteOptions<'_>,
    mut progress: impl FnMut(Progress<'_>),
) -> Result<SuiteResults, SuiteError> {
    if options.limit == Some(0) || options.batch == 0 {
        return Err(invalid("suite", "limit and batch are at least 1"));
    }
    let mut loaded = Vec::new();
    for spec in tasks {
        if matches!(spec.kind, Kind::Code { .. }) && options.executor.is_none() {
            return Err(SuiteError::NoSandbox {
                task: spec.name.clone(),
            });
        }
        loaded.push((spec, spec.load()?));
    }
    let mut results = Vec::new();
    for (number, (spec, items)) in loaded.iter().enumerate() {
        let limit = match (options.limit, spec.limit) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        let order: Vec<(usize, usize)> =
            order(items.len(), limit).into_iter().enumerate().collect();
        let mut tell = |done| {
            progress(Progress {
                task: &spec.name,
                number,
                tasks: tasks.len(),
                done,
                items: order.len(),
            });
        };
        tell(0);
        let mut scores = Vec::new();
        for batch in order.chunks(options.batch) {
            let loaded = Loaded { spec, items };
            scores.extend(loaded.score(judge, options.executor, batch)?);
            tell(scores.len());
        }
        results.push(result(spec, items, &scores)?);
    }
    Ok(SuiteResults::new(&options.model, results))
}

fn result(spec: &TaskSpec, items: &[Item], scores: &[Score]) -> Result<TaskResult, SuiteError> {
    let losses: Vec<Loss> = scores
        .iter()
        .filter_map(|score| match score {
            Score::Loss(loss) => Some(*loss),
            Score::Right(_) => None,
        })
        .collect();
    let metric = match &spec.kind {
        Kind::Loss => "bits per byte",
        Kind::MultipleChoice { .. } | Kind::Schema { .. } => "accuracy",
        Kind::Generation { metric, .. } | Kind::Chat { metric, .. } => metric.name(),
        Kind::Code { .. } => "tests",
    };
    let mut result = TaskResult {
        task: spec.name.clone(),
        kind: spec.kind.name().to_owned(),
        metric: metric.to_owned(),
        items: scores.len(),
        available: items.len(),
        shots: spec.shots,
        value: 0.0,
        low: 0.0,
        high: 0.0,
        baseline: None,
        centred: None,
        loss: None,
        perplexity: None,
        scores: Vec::new(),
    };
    if matches!(spec.kind, Kind::Loss) {
        let nats: f64 = losses.iter().map(|loss| loss.nats).sum();
        let bytes: u64 = losses.iter().map(|loss| loss.bytes).sum();
        let tokens: u64 = losses.iter().map(|loss| loss.tokens).sum();
        if bytes == 0 || tokens == 0 {
            let why = "the model counted no byte or no token of its texts; they hold nothing but special tokens";
            return Err(invalid(format!("task {}", spec.name), why));
        }
        let mean_bytes = bytes as f64 / losses.len() as f64;
        let bits = |loss: &Loss| loss.nats / std::f64::consts::LN_2 / mean_bytes;
        result.scores = losses.iter().map(bits).collect();
        let mut running = Running::default();
        result.scores.iter().for_each(|&score| running.add(score));
        let estimate = running.estimate();
        result.value = estimate.mean;
        (result.low, result.high) = estimate.interval();
        result.loss = Some(nats / tokens as f64);
        result.perplexity = Some((nats / tokens as f64).exp());
        return Ok(result);
    }
    result.scores = scores
        .iter()
        .filter_map(|score| match score {
            Score::Right(share) => Some(*share),
            Score::Loss(_) => None,
        })
        .collect();
    let hits: f64 = result.scores.iter().sum();
    result.value = hits / result.scores.len() as f64;
    (result.low, result.high) = wilson(hits, result.scores.len());
    result.baseline = Some(spec.baseline);
    result.centred = Some(centred(result.value, spec.baseline));
    Ok(result)
}

#[cfg(test)]
mod tests;
