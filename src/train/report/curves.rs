//! The curves of runs.

use crate::eval::{Mark, Panel, PlotError, Scale, Series, panels};
use crate::train::record::{Evaluated, Step};

use super::Run;

fn series(name: String, points: Vec<(f64, f64)>) -> Series {
    Series {
        name,
        mark: Mark::Line,
        points,
    }
}

fn steps(run: &Run, name: &str, of: impl Fn(&Step) -> Option<f64>) -> Series {
    let points = run
        .log
        .steps()
        .filter_map(|step| Some((step.step as f64, of(step)?)));
    series(name.to_owned(), points.collect())
}

fn evaluations(run: &Run, name: &str, of: impl Fn(&Evaluated) -> Option<f64>) -> Series {
    let points = run
        .log
        .evaluations()
        .filter_map(|at| Some((at.step as f64, of(at)?)));
    series(name.to_owned(), points.collect())
}

fn panel(title: &str, y: &str, series: Vec<Series>) -> Panel {
    Panel {
        title: title.to_owned(),
        x: "step".to_owned(),
        y: y.to_owned(),
        scale: Scale::Linear,
        series,
    }
}

/// The curves of one run; `None` before anything was logged.
pub(super) fn of_run(run: &Run) -> Result<Option<String>, PlotError> {
    let all = [
        panel(
            "loss",
            "nats a token",
            vec![
                steps(run, "training", |step| Some(step.loss)),
                evaluations(run, "held back", |at| at.loss),
            ],
        ),
        panel(
            "bits per byte",
            "bits",
            vec![evaluations(run, "held back", |at| at.bits_per_byte)],
        ),
        panel(
            "reward",
            "mean",
            vec![
                steps(run, "training", |step| step.reward),
                evaluations(run, "held out", |at| at.reward),
                evaluations(run, "held out, right", |at| at.right),
            ],
        ),
        panel(
            "learning rate",
            "peak rate",
            vec![steps(run, "lr", |step| Some(step.lr))],
        ),
        panel(
            "gradient norm",
            "before clipping",
            vec![steps(run, "norm", |step| Some(step.grad_norm))],
        ),
        panel(
            "speed",
            "tokens a second",
            vec![steps(run, "tok/s", |step| Some(step.tokens_per_s))],
        ),
    ];
    drawn(&format!("curves of {}", run.name()), &all)
}

/// The losses and rewards of several runs in one picture.
pub(super) fn of_runs(runs: &[Run]) -> Result<Option<String>, PlotError> {
    let each = |of: &dyn Fn(&Run) -> Series| runs.iter().map(of).collect();
    let all = [
        panel(
            "training loss",
            "nats a token",
            each(&|run| steps(run, run.name(), |step| Some(step.loss))),
        ),
        panel(
            "loss on the data held back",
            "nats a token",
            each(&|run| evaluations(run, run.name(), |at| at.loss)),
        ),
        panel(
            "bits per byte",
            "bits",
            each(&|run| evaluations(run, run.name(), |at| at.bits_per_byte)),
        ),
        panel(
            "reward on held-out prompts",
            "mean",
            each(&|run| evaluations(run, run.name(), |at| at.reward)),
        ),
    ];
    drawn("curves of the runs", &all)
}

fn drawn(title: &str, all: &[Panel]) -> Result<Option<String>, PlotError> {
    match panels(title, all) {
        Ok(svg) => Ok(Some(svg)),
        Err(PlotError::Empty(_)) => Ok(None),
        Err(error) => Err(error),
    }
}
