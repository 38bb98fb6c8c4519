//! Accuracy is told only where the model can do the task at all.

use super::rows::{FULL, Row};

/// The accuracy of full attention below which an accuracy says more about the model than about the cache.
pub const GATE: f64 = 0.6;

/// Takes accuracy away from each cell (task, length, depth, question) in which full attention scores below [`GATE`], or
/// was not measured; its `mean_nll` and `mean_rank` are what is left to compare. The other cells get `relative`.
pub fn gate(rows: &mut [Row]) {
    let full: Vec<Row> = rows
        .iter()
        .filter(|row| row.policy == FULL)
        .cloned()
        .collect();
    for row in rows.iter_mut() {
        let Some(accuracy) = row.accuracy else {
            continue;
        };
        let reference = full
            .iter()
            .find(|full| cell(full) == cell(row))
            .and_then(|full| full.accuracy)
            // A mean of shares that adds up to the gate may be rounded below it.
            .filter(|&accuracy| accuracy >= GATE - 1e-9);
        match reference {
            Some(reference) => row.relative = Some(accuracy / reference),
            None => (row.accuracy, row.low, row.high) = (None, None, None),
        }
    }
}

fn cell(row: &Row) -> impl PartialEq {
    (
        row.task,
        row.length,
        row.depth.map(f32::to_bits),
        row.question,
    )
}

#[cfg(test)]
mod tests {
    use super::super::task::Task;
    use super::*;

    fn row(policy: &str, depth: f32, accuracy: f64) -> Row {
        let mut row = Row::new(Task::Passkey, policy, Some(0.2)).with_scores(&[accuracy; 20]);
        row.depth = Some(depth);
        row.mean_nll = Some(1.0);
        row
    }

    #[test]
    fn accuracy_needs_full_attention_in_the_same_cell() {
        let mut rows = [
            row(FULL, 0.0, 0.8),
            row("h2o", 0.0, 0.4),
            row(FULL, 0.5, 0.59),
            row("h2o", 0.5, 0.9),
            row("h2o", 1.0, 0.9),
            row(FULL, 0.7, 0.6),
            Row::new(Task::Perplexity, "h2o", Some(0.2)).with_nll(2.0, 0.1, 5),
        ];
        gate(&mut rows);
        let accuracies = rows
            .iter()
            .map(|row| row.accuracy.is_some())
            .collect::<Vec<_>>();
        assert_eq!(accuracies, [true, true, false, false, false, true, false]);
        let relative: Vec<_> = rows.iter().map(|row| row.relative).collect();
        assert!((relative[1].unwrap() - 0.5).abs() < 1e-9);
        assert_eq!(relative[2..5], [None, None, None]);
        assert!(rows[3].low.is_none() && rows[3].high.is_none() && rows[3].mean_nll.is_some());
        // The interval of a perplexity is not one of an accuracy.
        assert!(rows[6].low.is_some());
    }
}
