//! Which plots results make: curves over the budget for each task and length, and heat maps where depths were measured.

use super::chart::{Chart, Curve, Level, Point};
use super::curves::curves;
use super::heat::{HeatMap, Measure, heat_map};
use super::measure::{Interval, Measured, measures, of_answers, pooled};
use super::plot::PlotError;
use super::rows::Row;
use super::table::percent;
use super::task::Task;

/// A plot of results.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figure {
    /// Its task.
    pub task: Task,
    /// A name for a file, without its ending: small letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// The plot as an SVG document.
    pub svg: String,
}

/// The plots of `rows`, in the order of their tasks. Curves pool the depths of a length; where full attention cannot do
/// a task (see [`super::gate`]) they are of the answer's likelihood.
///
/// # Errors
/// The plotting library failed. Measures without any finite value have no plot, which is no error.
pub fn figures(rows: &[Row]) -> Result<Vec<Figure>, PlotError> {
    let policies = distinct(rows.iter().map(|row| row.policy.as_str()));
    let mut figures = Vec::new();
    for task in distinct(rows.iter().map(|row| row.task)) {
        let of_task: Vec<&Row> = rows.iter().filter(|row| row.task == task).collect();
        for (length, question) in distinct(of_task.iter().map(|row| (row.length, row.question))) {
            let chosen: Vec<&Row> = of_task
                .iter()
                .copied()
                .filter(|row| (row.length, row.question) == (length, question))
                .collect();
            let mut title = vec![task.to_string()];
            title.extend(length.map(|length| format!("{length} tokens")));
            title.extend(question.map(|number| format!("question {number}")));
            for measured in measures(&chosen) {
                let chart = chart(&chosen, &policies, measured, title.join(", "));
                let name = name(&[
                    Some(task.to_string()),
                    length.map(|length| length.to_string()),
                    question.map(|number| format!("q{number}")),
                    Some(measured.short.to_owned()),
                ]);
                keep(&mut figures, task, name, curves(&chart))?;
            }
        }
        for (name, map) in maps(task, &of_task) {
            keep(&mut figures, task, name, heat_map(&map))?;
        }
    }
    Ok(figures)
}

fn keep(
    figures: &mut Vec<Figure>,
    task: Task,
    name: String,
    drawn: Result<String, PlotError>,
) -> Result<(), PlotError> {
    match drawn {
        Ok(svg) => figures.push(Figure { task, name, svg }),
        Err(PlotError::Empty(_)) => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

fn chart(rows: &[&Row], policies: &[&str], measured: &Measured, title: String) -> Chart {
    let mut chart = Chart {
        title,
        measure: measured.name.to_owned(),
        curves: Vec::new(),
        levels: Vec::new(),
    };
    for (number, policy) in policies.iter().enumerate() {
        let of_policy: Vec<&Row> = rows
            .iter()
            .copied()
            .filter(|row| row.policy == *policy)
            .collect();
        let at = |budget: Option<f64>| {
            let cells: Vec<&Row> = of_policy
                .iter()
                .copied()
                .filter(|row| row.budget == budget)
                .collect();
            pooled(&cells, measured)
        };
        if let Some((value, _)) = at(None) {
            let name = (*policy).to_owned();
            chart.levels.push((number, Level { name, value }));
        }
        let mut budgets = distinct(of_policy.iter().filter_map(|row| row.budget));
        budgets.sort_by(f64::total_cmp);
        let points: Vec<Point> = budgets
            .into_iter()
            .filter_map(|budget| {
                let (value, interval) = at(Some(budget))?;
                Some(Point {
                    budget,
                    value,
                    interval,
                })
            })
            .collect();
        if !points.is_empty() {
            let name = (*policy).to_owned();
            chart.curves.push((number, Curve { name, points }));
        }
    }
    chart
}

/// The heat maps of a task with their names, one for each policy and budget; maps of likelihoods share their scale.
fn maps(task: Task, rows: &[&Row]) -> Vec<(String, HeatMap)> {
    let placed: Vec<&Row> = rows
        .iter()
        .copied()
        .filter(|row| row.depth.is_some() && row.length.is_some())
        .collect();
    let mut depths = distinct(placed.iter().filter_map(|row| row.depth));
    depths.sort_by(f32::total_cmp);
    let mut lengths = distinct(placed.iter().filter_map(|row| row.length));
    lengths.sort_unstable();
    let measured = of_answers(&placed);
    let worst = placed
        .iter()
        .filter_map(|row| row.mean_nll)
        .filter(|value| value.is_finite())
        .fold(0.0, f64::max);
    let measure = match measured.interval {
        Interval::OfShare => Measure::Accuracy,
        _ => Measure::Nll { worst },
    };
    let cases = distinct(placed.iter().map(|row| (row.policy.as_str(), row.budget)));
    cases
        .into_iter()
        .map(|(policy, budget)| {
            let cell = |depth: f32, length: usize| {
                let here = |row: &&&Row| {
                    (row.policy.as_str(), row.budget) == (policy, budget)
                        && (row.depth, row.length) == (Some(depth), Some(length))
                };
                placed
                    .iter()
                    .find(here)
                    .and_then(|row| (measured.value)(row))
            };
            let kept = budget
                .map(|budget| format!(" {}", percent(budget)))
                .unwrap_or_default();
            let case = format!("{policy}{kept}");
            let name = name(&[
                Some(format!("{task} {case}")),
                Some(measured.short.to_owned()),
                Some("depths".to_owned()),
            ]);
            let map = HeatMap {
                title: format!("{task}, {case}: {}", measured.name),
                measure,
                cells: depths
                    .iter()
                    .map(|&depth| lengths.iter().map(|&length| cell(depth, length)).collect())
                    .collect(),
                lengths: lengths.clone(),
                depths: depths.clone(),
            };
            (name, map)
        })
        .collect()
}

/// Values without repetitions, in the order they came.
fn distinct<T: PartialEq>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut seen = Vec::new();
    for value in values {
        if !seen.contains(&value) {
            seen.push(value);
        }
    }
    seen
}

/// A file's name out of words.
fn name(words: &[Option<String>]) -> String {
    let words: Vec<&str> = words.iter().flatten().map(String::as_str).collect();
    let plain = |c: char| match c {
        c if c.is_ascii_alphanumeric() || matches!(c, '_' | '.') => c.to_ascii_lowercase(),
        _ => '-',
    };
    let name: String = words.join("-").chars().map(plain).collect();
    let parts: Vec<&str> = name.split('-').filter(|part| !part.is_empty()).collect();
    parts.join("-")
}

#[cfg(test)]
mod tests {
    use super::super::gate::gate;
    use super::super::interval::wilson;
    use super::super::markup::testing::check_tags;
    use super::super::results::testing::results;
    use super::*;

    fn names(figures: &[Figure]) -> Vec<&str> {
        figures.iter().map(|figure| figure.name.as_str()).collect()
    }

    #[test]
    fn curves_and_heat_maps_of_each_task() {
        let rows = results().rows;
        let figures = figures(&rows).unwrap();
        assert_eq!(
            names(&figures),
            [
                "ppl-perplexity",
                "passkey-512-accuracy",
                "passkey-1024-accuracy",
                "passkey-full-accuracy-depths",
                "passkey-h2o-20-accuracy-depths",
                "passkey-h2o-50-accuracy-depths",
                "passkey-window-20-accuracy-depths",
                "passkey-window-50-accuracy-depths",
            ]
        );
        for figure in &figures {
            check_tags(&figure.svg);
        }
        assert!(
            figures[0]
                .svg
                .contains("h2o at 20 %: 27.113 (24.582 to 29.904)")
        );
        assert!(figures[0].svg.contains("full: 12.182"));
        // Three depths of 20 samples each are 60 samples of a curve.
        let (low, high) = wilson(36.0, 60);
        let told = format!("h2o at 20 %: 0.60000 ({low:.5} to {high:.5})");
        assert!(figures[1].svg.contains(&told), "{told}");
        assert!(figures[4].svg.contains("512 tokens, depth 50 %: 60 %"));
    }

    #[test]
    fn a_task_beyond_the_model_is_plotted_by_likelihood() {
        let mut rows = results().rows;
        for row in rows.iter_mut().filter(|row| row.policy == "full") {
            row.accuracy = row.accuracy.map(|_| 0.3);
        }
        gate(&mut rows);
        let figures = figures(&rows).unwrap();
        assert_eq!(
            names(&figures)[..4],
            [
                "ppl-perplexity",
                "passkey-512-nll",
                "passkey-1024-nll",
                "passkey-full-nll-depths"
            ]
        );
        assert!(figures[1].svg.contains("h2o at 20 %: 1.8000"));
    }

    #[test]
    fn divergence_has_three_plots() {
        let row = |share: f64| {
            let mut row = Row::new(Task::Divergence, "h2o", Some(share));
            row.kl = Some(0.1 / share);
            row.top1_agreement = Some(share);
            row.delta_nll = Some(-0.01);
            row
        };
        let figures = figures(&[row(0.2), row(0.5)]).unwrap();
        assert_eq!(names(&figures), ["kld-kl", "kld-top1", "kld-delta-nll"]);
    }

    #[test]
    fn questions_are_plotted_apart() {
        let row = |question, accuracy| {
            let mut row = Row::new(Task::Multiturn, "h2o", Some(0.2)).with_scores(&[accuracy; 20]);
            row.question = Some(question);
            row
        };
        let figures = figures(&[row(1, 1.0), row(2, 0.5)]).unwrap();
        assert_eq!(
            names(&figures),
            ["multiturn-q1-accuracy", "multiturn-q2-accuracy"]
        );
    }

    #[test]
    fn nothing_measured_is_nothing_plotted() {
        assert_eq!(figures(&[]), Ok(vec![]));
        assert_eq!(
            figures(&[Row::new(Task::Passkey, "h2o", Some(0.2))]),
            Ok(vec![])
        );
    }
}
