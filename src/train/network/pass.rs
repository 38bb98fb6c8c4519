//! The rows of one pass, and what is asked of them.

use super::NetworkError;
use crate::data::Objective;
use crate::ids::TokenId;

/// Rows of packed samples and the objective over them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Pass {
    /// The token of every row.
    pub ids: Vec<TokenId>,
    /// The position of every row in its sample.
    pub positions: Vec<usize>,
    /// `(start, length)` of the samples: they follow each other and cover all rows. A row attends to the rows of its own
    /// sample up to itself.
    pub spans: Vec<(usize, usize)>,
    /// What is to be predicted; nothing is computed for a weight of 0.
    pub objective: Objective,
}

/// What a pass cost.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Cost {
    /// The sum of weighted losses in nats.
    pub loss_sum: f64,
    /// The sum of weights.
    pub weight: f64,
    /// Rows that were computed.
    pub tokens: usize,
}

/// Where in a run a pass stands: what dropout is drawn from, with the network's seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Moment {
    /// The optimizer's step.
    pub step: u64,
    /// The pass within the step.
    pub micro_step: u64,
}

impl Pass {
    /// Samples one after the other, each predicting its own next tokens with weight 1.
    pub fn next_tokens(samples: &[&[TokenId]]) -> Pass {
        let mut pass = Pass::default();
        for sample in samples {
            let start = pass.ids.len();
            pass.ids.extend_from_slice(sample);
            pass.positions.extend(0..sample.len());
            pass.spans.push((start, sample.len()));
            for (row, &target) in (start..).zip(sample.iter().skip(1)) {
                pass.objective.rows.push(row);
                pass.objective.targets.push(target);
                pass.objective.weights.push(1.0);
            }
        }
        pass
    }

    /// Whether a model of this vocabulary and context can run it.
    pub(super) fn check(&self, vocab: usize, context: usize) -> Result<(), NetworkError> {
        let rows = self.ids.len();
        if rows == 0 {
            return Err(NetworkError::pass("ids", "there are none"));
        }
        if self.positions.len() != rows {
            let reason = format!("{} positions for {rows} ids", self.positions.len());
            return Err(NetworkError::pass("positions", reason));
        }
        let objective = &self.objective;
        let mut ids = self.ids.iter().chain(&objective.targets);
        if let Some(id) = ids.find(|&&id| id as usize >= vocab) {
            let reason = format!("token {id} is outside of the vocabulary of {vocab}");
            return Err(NetworkError::pass("ids", reason));
        }
        let mut end = 0;
        for &(start, length) in &self.spans {
            if start != end || length == 0 {
                let reason = format!("a span of {length} rows at {start} where row {end} is next");
                return Err(NetworkError::pass("spans", reason));
            }
            if length > context {
                let reason = format!("a span of {length} rows where the context is {context}");
                return Err(NetworkError::pass("spans", reason));
            }
            end = start.saturating_add(length);
        }
        if end != rows {
            let reason = format!("they cover {end} of {rows} rows");
            return Err(NetworkError::pass("spans", reason));
        }
        let counts = (objective.targets.len(), objective.weights.len());
        if counts != (objective.rows.len(), objective.rows.len()) {
            let reason = "rows, targets and weights are not of one length";
            return Err(NetworkError::pass("objective", reason));
        }
        if let Some(row) = objective.rows.iter().find(|&&row| row >= rows) {
            let reason = format!("row {row} of {rows}");
            return Err(NetworkError::pass("objective", reason));
        }
        if objective.weights.iter().any(|weight| !weight.is_finite()) {
            return Err(NetworkError::pass("objective", "a weight is not finite"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_make_no_pass_are_named() {
        let sound = || Pass::next_tokens(&[&[1, 2, 3], &[4, 5]]);
        sound().check(6, 3).unwrap();
        type Change = fn(&mut Pass);
        let broken: [(Change, &str); 10] = [
            (|p| *p = Pass::default(), "ids"),
            (|p| p.positions.truncate(2), "positions"),
            (|p| p.ids[0] = 6, "vocabulary"),
            (|p| p.objective.targets[0] = 6, "vocabulary"),
            (|p| p.spans[1].0 = 2, "where row 3 is next"),
            (|p| p.spans[0] = (0, 4), "context"),
            (|p| p.spans.truncate(1), "cover 3 of 5"),
            (|p| p.objective.weights.truncate(1), "one length"),
            (|p| p.objective.rows[0] = 5, "row 5 of 5"),
            (|p| p.objective.weights[0] = f32::NAN, "finite"),
        ];
        for (change, part) in broken {
            let mut pass = sound();
            change(&mut pass);
            let error = pass.check(6, 3).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
