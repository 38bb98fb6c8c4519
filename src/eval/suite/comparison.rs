//! Several models on the same tasks.

use serde::Serialize;

use super::super::mean::Running;
use super::super::table::Table;
use super::error::SuiteError;
use super::results::{SuiteResults, TaskResult, dash, shown};

/// How one model differs from the first on one task.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// The task.
    pub task: String,
    /// The model that is compared.
    pub model: String,
    /// Its value.
    pub value: f64,
    /// The first model's.
    pub reference: f64,
    /// The mean difference of items, this model less the first.
    pub difference: f64,
    /// The lower end of its 95 % interval, from the differences item by item.
    pub low: f64,
    /// The upper end.
    pub high: f64,
    /// Whether the interval leaves out 0.
    pub certain: bool,
    #[serde(skip)]
    share: bool,
}

/// Models set beside the first of them, as base, fine-tuned and reinforced.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// The models; the first is the reference.
    pub models: Vec<String>,
    /// By task and then by model, for tasks that the first and the other model both have.
    pub differences: Vec<Difference>,
    /// Tasks of one model that the first or it has not run, as `model: task`.
    pub unmatched: Vec<String>,
    /// The mean of centred accuracies of each model, in the order of `models`.
    pub mean_centred: Vec<Option<f64>>,
}

impl Comparison {
    /// Compares the others with the first.
    ///
    /// # Errors
    /// Fewer than two models, one task asked with other items or examples, or no task in common.
    pub fn of(results: &[SuiteResults]) -> Result<Self, SuiteError> {
        let Some((first, others)) = results
            .split_first()
            .filter(|(_, others)| !others.is_empty())
        else {
            let why = "a comparison needs the results of two models or more";
            return Err(SuiteError::Incomparable(why.to_owned()));
        };
        let mut differences = Vec::new();
        let mut unmatched = Vec::new();
        for task in &first.tasks {
            for other in others {
                match other.tasks.iter().find(|mine| mine.task == task.task) {
                    Some(mine) => differences.push(difference(task, mine, &other.model)?),
                    None => unmatched.push(format!("{}: {}", first.model, task.task)),
                }
            }
        }
        for other in others {
            for mine in &other.tasks {
                if !first.tasks.iter().any(|task| task.task == mine.task) {
                    unmatched.push(format!("{}: {}", other.model, mine.task));
                }
            }
        }
        if differences.is_empty() {
            let why = format!("no other model has run a task of {}", first.model);
            return Err(SuiteError::Incomparable(why));
        }
        unmatched.dedup();
        Ok(Comparison {
            models: results.iter().map(|one| one.model.clone()).collect(),
            differences,
            unmatched,
            mean_centred: results.iter().map(|one| one.mean_centred).collect(),
        })
    }

    /// A line for each task and model, and one for each model's mean.
    pub fn table(&self) -> Table {
        let signed = |share: bool, value: f64| match share {
            true => format!("{:+.1}", value * 100.0),
            false => format!("{value:+.4}"),
        };
        let line = |one: &Difference| {
            vec![
                one.task.clone(),
                one.model.clone(),
                shown(one.share, one.reference),
                shown(one.share, one.value),
                signed(one.share, one.difference),
                format!(
                    "{} to {}",
                    signed(one.share, one.low),
                    signed(one.share, one.high)
                ),
                if one.certain { "yes" } else { "no" }.to_owned(),
            ]
        };
        let mut lines: Vec<Vec<String>> = self.differences.iter().map(line).collect();
        let reference = self.mean_centred.first().copied().flatten();
        for (model, mean) in self.models.iter().zip(&self.mean_centred).skip(1) {
            if let (Some(reference), Some(mean)) = (reference, mean) {
                let mut last = vec!["mean centred".to_owned(), model.clone()];
                last.extend([format!("{reference:.4}"), format!("{mean:.4}")]);
                last.extend([format!("{:+.4}", mean - reference), dash(), dash()]);
                lines.push(last);
            }
        }
        Table {
            headings: vec![
                "task",
                "model",
                "reference",
                "value",
                "difference",
                "95 % interval",
                "certain",
            ],
            lines,
        }
    }
}

fn difference(
    first: &TaskResult,
    other: &TaskResult,
    model: &str,
) -> Result<Difference, SuiteError> {
    let same = first.kind == other.kind
        && first.metric == other.metric
        && first.shots == other.shots
        && first.available == other.available
        && first.scores.len() == other.scores.len();
    if !same {
        return Err(SuiteError::Incomparable(format!(
            "task {} was not asked alike: {} {} of {} items with {} examples, and {} {} of {} with {} for {model}; run both with the same task file and limit",
            first.task,
            first.kind,
            first.scores.len(),
            first.available,
            first.shots,
            other.kind,
            other.scores.len(),
            other.available,
            other.shots,
        )));
    }
    let mut running = Running::default();
    for (reference, score) in first.scores.iter().zip(&other.scores) {
        running.add(score - reference);
    }
    let estimate = running.estimate();
    let (mut low, mut high) = estimate.interval();
    if first.scores.len() < 2 {
        // One item says nothing of the spread.
        (low, high) = (f64::NEG_INFINITY, f64::INFINITY);
    }
    Ok(Difference {
        task: first.task.clone(),
        model: model.to_owned(),
        value: other.value,
        reference: first.value,
        difference: estimate.mean,
        low,
        high,
        certain: low > 0.0 || high < 0.0,
        share: first.baseline.is_some(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(model: &str, task: &str, scores: &[f64]) -> SuiteResults {
        let value = scores.iter().sum::<f64>() / scores.len() as f64;
        let task = TaskResult {
            task: task.to_owned(),
            kind: "chat".to_owned(),
            metric: "exact".to_owned(),
            items: scores.len(),
            available: 10,
            shots: 0,
            value,
            low: 0.0,
            high: 1.0,
            baseline: Some(0.0),
            centred: Some(value),
            loss: None,
            perplexity: None,
            scores: scores.to_vec(),
        };
        SuiteResults::new(model, vec![task])
    }

    #[test]
    fn differences_are_paired() {
        let base = results("base", "sums", &[0.0, 0.0, 1.0, 0.0]);
        let sft = results("sft", "sums", &[1.0, 1.0, 1.0, 1.0]);
        let rl = results("rl", "sums", &[1.0, 0.0, 1.0, 0.0]);
        let comparison = Comparison::of(&[base.clone(), sft, rl]).unwrap();
        let [sft, rl] = &comparison.differences[..] else {
            panic!("{comparison:?}")
        };
        assert_eq!((sft.difference, sft.certain), (0.75, true));
        assert!(
            (sft.low - 0.26).abs() < 1e-3 && (sft.high - 1.24).abs() < 1e-3,
            "{sft:?}"
        );
        assert_eq!((rl.difference, rl.certain), (0.25, false));
        assert_eq!(
            comparison.table().to_string(),
            "\
task          model  reference   value  difference    95 % interval  certain
sums          sft         25 %   100 %       +75.0  +26.0 to +124.0      yes
sums          rl          25 %    50 %       +25.0   -24.0 to +74.0       no
mean centred  sft       0.2500  1.0000     +0.7500                -        -
mean centred  rl        0.2500  0.5000     +0.2500                -        -
"
        );
        let same = Comparison::of(&[base.clone(), base]).unwrap();
        assert!(!same.differences[0].certain && same.differences[0].low == 0.0);
    }

    #[test]
    fn what_cannot_be_compared_is_said() {
        let base = results("base", "sums", &[0.0, 1.0]);
        let fewer = results("sft", "sums", &[0.0]);
        let other = results("sft", "copies", &[0.0, 1.0]);
        for (all, fault) in [
            (vec![base.clone()], "two models or more"),
            (vec![base.clone(), fewer.clone()], "not asked alike"),
            (vec![base.clone(), other.clone()], "no other model"),
        ] {
            let error = Comparison::of(&all).unwrap_err().to_string();
            assert!(error.contains(fault), "{error}");
        }
        let mut more = base.clone();
        more.tasks.extend(other.tasks);
        let comparison = Comparison::of(&[base, more]).unwrap();
        assert_eq!(comparison.unmatched, ["base: copies"]);
        let one = Comparison::of(&[fewer.clone(), fewer]).unwrap();
        assert!(!one.differences[0].certain);
    }
}
