//! One line of results: a task, a policy and a budget, and what was measured.

use serde::Serialize;

use super::divergence::DivergenceSummary;
use super::interval::{Z, wilson};
use super::task::Task;

/// The policy of rows that the others are compared with.
pub const FULL: &str = "full";

/// A cell of results. What was not measured is absent; `budget` alone is then null.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// The task.
    pub task: Task,
    /// The eviction policy; "full" for none.
    pub policy: String,
    /// The share of the context that was asked to be kept, 0 to 1; null for full attention.
    pub budget: Option<f64>,
    /// Tokens of a sample.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub length: Option<usize>,
    /// Where the needle stood, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depth: Option<f32>,
    /// Which question of a sample, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub question: Option<usize>,
    /// Samples measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub samples: Option<usize>,
    /// Tokens predicted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// The exponential of the mean negative log-likelihood.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub perplexity: Option<f64>,
    /// The share of answers in greedy replies, 0 to 1; for dialogues that of replies which obey.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
    /// The lower end of the 95 % interval of accuracy, perplexity or KL divergence, whichever the task reports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub low: Option<f64>,
    /// Its upper end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub high: Option<f64>,
    /// Accuracy as a share of that of full attention in the same cell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relative: Option<f64>,
    /// Mean negative log-likelihood of a token, of the answer where there is one, in nats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean_nll: Option<f64>,
    /// Mean rank of an answer's tokens among the vocabulary, 1 for the most probable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean_rank: Option<f64>,
    /// KL divergence from full attention per token, in nats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kl: Option<f64>,
    /// The largest of one token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_kl: Option<f64>,
    /// The share of tokens whose most probable token is that of full attention.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top1_agreement: Option<f64>,
    /// The change of `mean_nll` against full attention.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delta_nll: Option<f64>,
    /// Bytes of keys and values after compression, over all layers and heads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv_bytes: Option<u64>,
    /// Tokens stored per KV head, sinks and recent ones included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_head: Option<f64>,
}

impl Row {
    /// A row without measurements; `budget` is the share kept, absent for full attention.
    pub fn new(task: Task, policy: &str, budget: Option<f64>) -> Self {
        Row {
            task,
            policy: policy.to_owned(),
            budget,
            length: None,
            depth: None,
            question: None,
            samples: None,
            tokens: None,
            perplexity: None,
            accuracy: None,
            low: None,
            high: None,
            relative: None,
            mean_nll: None,
            mean_rank: None,
            kl: None,
            max_kl: None,
            top1_agreement: None,
            delta_nll: None,
            kv_bytes: None,
            tokens_per_head: None,
        }
    }

    /// With the mean of `scores`, one of each sample in 0 to 1, as accuracy, and its Wilson interval.
    pub fn with_scores(mut self, scores: &[f64]) -> Self {
        let hits: f64 = scores.iter().sum();
        let (low, high) = wilson(hits, scores.len());
        self.samples = Some(scores.len());
        self.accuracy = (!scores.is_empty()).then(|| hits / scores.len() as f64);
        (self.low, self.high) = (Some(low), Some(high));
        self
    }

    /// With the perplexity of `tokens` predicted tokens, from their mean negative log-likelihood and its standard error
    /// in nats.
    pub fn with_nll(mut self, mean: f64, error: f64, tokens: u64) -> Self {
        self.tokens = Some(tokens);
        self.mean_nll = Some(mean);
        self.perplexity = Some(mean.exp());
        self.low = Some((mean - Z * error).exp());
        self.high = Some((mean + Z * error).exp());
        self
    }

    /// With a comparison with full attention; low and high are of the KL divergence.
    pub fn with_divergence(mut self, summary: &DivergenceSummary) -> Self {
        let (low, high) = summary.kl.interval();
        self.tokens = Some(summary.tokens);
        self.kl = Some(summary.kl.mean);
        (self.low, self.high) = (Some(low.max(0.0)), Some(high));
        self.max_kl = Some(summary.max_kl);
        self.top1_agreement = Some(summary.top1_agreement);
        self.mean_nll = Some(summary.nll_other.mean);
        self.delta_nll = Some(summary.delta_nll.mean);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::divergence::Divergence;

    fn keys(row: &Row) -> Vec<String> {
        let value = serde_json::to_value(row).unwrap();
        value.as_object().unwrap().keys().cloned().collect()
    }

    #[test]
    fn only_what_was_measured_is_written() {
        let row = Row::new(Task::Perplexity, FULL, None);
        assert_eq!(
            serde_json::to_string(&row).unwrap(),
            r#"{"task":"ppl","policy":"full","budget":null}"#
        );
        let mut row =
            Row::new(Task::NeedleSingle, "h2o", Some(0.2)).with_scores(&[1.0, 0.0, 0.5, 0.5]);
        row.length = Some(2048);
        row.depth = Some(0.1);
        row.mean_nll = Some(1.5);
        row.kv_bytes = Some(1024);
        assert_eq!(
            serde_json::to_string(&row).unwrap(),
            format!(
                r#"{{"task":"needle-single","policy":"h2o","budget":0.2,"length":2048,"depth":0.1,"samples":4,"accuracy":0.5,"low":{},"high":{},"mean_nll":1.5,"kv_bytes":1024}}"#,
                row.low.unwrap(),
                row.high.unwrap()
            )
        );
    }

    #[test]
    fn perplexity_has_the_interval_of_its_logarithm() {
        let row = Row::new(Task::Perplexity, "window", Some(0.5)).with_nll(2.0, 0.1, 500);
        assert!((row.perplexity.unwrap() - 7.389_056).abs() < 1e-6);
        assert!((row.low.unwrap() - 1.804_003_6_f64.exp()).abs() < 1e-6);
        assert!((row.high.unwrap() - 2.195_996_4_f64.exp()).abs() < 1e-6);
        assert_eq!(
            keys(&row),
            [
                "task",
                "policy",
                "budget",
                "tokens",
                "perplexity",
                "low",
                "high",
                "mean_nll"
            ]
        );
    }

    #[test]
    fn divergence_fills_its_columns() {
        let mut divergence = Divergence::default();
        divergence.add(&[0.0, 1.0], &[1.0, 0.0], 0).unwrap();
        let row =
            Row::new(Task::Divergence, "h2o", Some(0.5)).with_divergence(&divergence.summary());
        assert_eq!(
            keys(&row),
            [
                "task",
                "policy",
                "budget",
                "tokens",
                "low",
                "high",
                "mean_nll",
                "kl",
                "max_kl",
                "top1_agreement",
                "delta_nll"
            ]
        );
        assert_eq!((row.top1_agreement, row.kl), (Some(0.0), row.max_kl));
        assert!((row.delta_nll.unwrap() + 1.0).abs() < 1e-6);
    }

    #[test]
    fn no_scores_are_no_accuracy() {
        let row = Row::new(Task::Passkey, "h2o", Some(0.5)).with_scores(&[]);
        assert_eq!(
            (row.accuracy, row.low, row.high),
            (None, Some(0.0), Some(1.0))
        );
    }
}
