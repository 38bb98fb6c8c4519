//! The lists that llama-recipes writes at the end of a run.

use serde::{Deserialize, Serialize};

use super::Log;

/// Losses and perplexities in the order of the run. The training lists have a value a logged step, the others one an
/// evaluation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Mean loss in nats a token.
    pub train_step_loss: Vec<f64>,
    /// Its exponential.
    pub train_step_perplexity: Vec<f64>,
    /// Mean loss on the data held back.
    pub val_step_loss: Vec<f64>,
    /// Its exponential.
    pub val_step_perplexity: Vec<f64>,
}

impl Metrics {
    /// Those of a log.
    pub fn of(log: &Log) -> Metrics {
        let train: Vec<f64> = log.steps().map(|step| step.loss).collect();
        let val: Vec<f64> = log
            .evaluations()
            .filter_map(|evaluated| evaluated.loss)
            .collect();
        let perplexity = |losses: &[f64]| losses.iter().map(|loss| loss.exp()).collect();
        Metrics {
            train_step_perplexity: perplexity(&train),
            val_step_perplexity: perplexity(&val),
            train_step_loss: train,
            val_step_loss: val,
        }
    }

    /// Writes them as JSON.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &std::path::Path) -> std::io::Result<()> {
        std::fs::write(path, serde_json::to_vec_pretty(self)?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Entry, Evaluated, Step};
    use super::*;

    #[test]
    fn r9_metrics_file() {
        let step = |loss| {
            Entry::Step(Step {
                loss,
                ..Step::default()
            })
        };
        let evaluated = Entry::Evaluation(Evaluated {
            loss: Some(0.0),
            ..Evaluated::default()
        });
        let log = Log {
            entries: vec![step(0.0), evaluated, step(1.0)],
            broken: 0,
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.json");
        Metrics::of(&log).write(&path).unwrap();
        let read: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(read["train_step_loss"], serde_json::json!([0.0, 1.0]));
        assert_eq!(
            read["train_step_perplexity"],
            serde_json::json!([1.0, std::f64::consts::E])
        );
        assert_eq!(read["val_step_loss"], serde_json::json!([0.0]));
        assert_eq!(read["val_step_perplexity"], serde_json::json!([1.0]));
    }
}
