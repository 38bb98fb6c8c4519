//! All that an evaluation found, and how to find it again.

use serde::Serialize;

use super::rows::Row;

/// Rows with what made them; serialised it is the output of `--json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Results {
    /// What was measured.
    pub rows: Vec<Row>,
    /// The command line.
    pub command: String,
    /// The model.
    pub model: String,
    /// The seed of the first sample.
    pub seed: u64,
    /// Samples of each cell.
    pub samples: usize,
    /// The version of this program.
    pub version: String,
}

#[cfg(test)]
pub mod testing {
    use super::*;
    use crate::eval::task::Task;

    /// A small evaluation with every kind of row.
    pub fn results() -> Results {
        let mut rows = Vec::new();
        for (policy, budgets) in [
            ("full", vec![None]),
            ("h2o", vec![Some(0.2), Some(0.5)]),
            ("window", vec![Some(0.2), Some(0.5)]),
        ] {
            for budget in budgets {
                let share = budget.unwrap_or(1.0);
                rows.push(Row {
                    kv_bytes: Some((share * 8_388_608.0) as u64),
                    ..Row::new(Task::Perplexity, policy, budget).with_nll(3.5 - share, 0.05, 2047)
                });
                for length in [512, 1024] {
                    for depth in [0.0, 0.5, 1.0] {
                        let hits = (10.0 + 10.0 * share) as usize;
                        let mut scores = vec![1.0; hits];
                        scores.resize(20, 0.0);
                        rows.push(Row {
                            length: Some(length),
                            depth: Some(depth),
                            mean_nll: Some(2.0 - share),
                            ..Row::new(Task::Passkey, policy, budget).with_scores(&scores)
                        });
                    }
                }
            }
        }
        Results {
            rows,
            command: "llamahome eval --tasks ppl,passkey --policy \"h2o\" <a&b>".to_owned(),
            model: "tiny".to_owned(),
            seed: 7,
            samples: 20,
            version: "0.1.0".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::results;

    #[test]
    fn keys_of_the_json() {
        let value = serde_json::to_value(results()).unwrap();
        let keys: Vec<&str> = value
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        assert_eq!(
            keys,
            ["rows", "command", "model", "seed", "samples", "version"]
        );
        assert_eq!(value["rows"][0]["task"], "ppl");
        assert!(value["rows"][0]["budget"].is_null());
        assert_eq!(value["rows"].as_array().unwrap().len(), 35);
    }
}
