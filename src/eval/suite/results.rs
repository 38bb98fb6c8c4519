//! What a suite measured on one model.

use serde::{Deserialize, Serialize};

use super::super::table::{Table, percent, significant};

/// Accuracy above guessing, as a share of what there is above guessing: 0 for `baseline`, 1 for all right, as in CORE
/// (DataComp-LM, <https://arxiv.org/abs/2406.11794>). `baseline` is below 1.
pub fn centred(accuracy: f64, baseline: f64) -> f64 {
    (accuracy - baseline) / (1.0 - baseline)
}

/// One task of one model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskResult {
    /// The task.
    pub task: String,
    /// Its kind.
    pub kind: String,
    /// What the scores are: accuracy, or bits per byte.
    pub metric: String,
    /// Items asked.
    pub items: usize,
    /// Items there are.
    pub available: usize,
    /// Examples before each.
    pub shots: usize,
    /// The mean of the scores.
    pub value: f64,
    /// The lower end of its 95 % interval.
    pub low: f64,
    /// The upper end.
    pub high: f64,
    /// The accuracy of guessing; none for losses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<f64>,
    /// [`centred`] accuracy; none for losses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub centred: Option<f64>,
    /// Nats per token; for losses only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// The exponential of `loss`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub perplexity: Option<f64>,
    /// One of each item in the order asked, which is the same for every model: the share of its replies that were
    /// right; for losses its bits over the mean bytes of an item, so that their mean is the bits per byte of all.
    pub scores: Vec<f64>,
}

/// All tasks of one model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SuiteResults {
    /// The model.
    pub model: String,
    /// In the order run.
    pub tasks: Vec<TaskResult>,
    /// The mean of centred accuracies; none without a task that has one. Over CORE's tasks this is CORE.
    pub mean_centred: Option<f64>,
}

impl SuiteResults {
    pub(super) fn new(model: &str, tasks: Vec<TaskResult>) -> Self {
        let all: Vec<f64> = tasks.iter().filter_map(|task| task.centred).collect();
        SuiteResults {
            model: model.to_owned(),
            mean_centred: (!all.is_empty()).then(|| all.iter().sum::<f64>() / all.len() as f64),
            tasks,
        }
    }

    /// A line for each task, and one for the mean.
    pub fn table(&self) -> Table {
        let line = |task: &TaskResult| {
            let show = |value: f64| shown(task.baseline.is_some(), value);
            vec![
                task.task.clone(),
                task.kind.clone(),
                task.metric.clone(),
                format!("{} of {}", task.items, task.available),
                task.shots.to_string(),
                show(task.value),
                format!("{} to {}", show(task.low), show(task.high)),
                task.centred
                    .map_or_else(dash, |value| format!("{value:.4}")),
                task.perplexity
                    .map_or_else(dash, |value| significant(value, 5)),
            ]
        };
        let mut lines: Vec<Vec<String>> = self.tasks.iter().map(line).collect();
        if let Some(mean) = self.mean_centred {
            let mut last = vec!["mean".to_owned()];
            last.resize_with(7, dash);
            last.extend([format!("{mean:.4}"), dash()]);
            lines.push(last);
        }
        Table {
            headings: vec![
                "task",
                "kind",
                "metric",
                "items",
                "shots",
                "value",
                "95 % interval",
                "centred",
                "perplexity",
            ],
            lines,
        }
    }
}

pub(super) fn dash() -> String {
    "-".to_owned()
}

/// A score: a percentage where it is a share.
pub(super) fn shown(share: bool, value: f64) -> String {
    match share {
        true => percent(value),
        false => format!("{value:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn n11_core_centring() {
        for baseline in [0.0, 0.25, 0.5] {
            assert_eq!(centred(baseline, baseline), 0.0);
            assert_eq!(centred(1.0, baseline), 1.0);
        }
        assert_eq!(centred(0.0, 0.5), -1.0);
        assert_eq!(centred(0.625, 0.25), 0.5);
    }
}
