//! Results as a table of text.

use std::fmt;

use super::rows::Row;

/// A heading and the cells below it.
type Column = (&'static str, fn(&Row) -> Option<String>);

const COLUMNS: [Column; 20] = [
    ("task", |row| Some(row.task.to_string())),
    ("policy", |row| Some(row.policy.clone())),
    ("budget", |row| row.budget.map(percent)),
    ("length", |row| row.length.map(|length| length.to_string())),
    ("depth", |row| {
        row.depth.map(|depth| percent(f64::from(depth)))
    }),
    ("question", |row| {
        row.question.map(|number| number.to_string())
    }),
    ("samples", |row| {
        row.samples.map(|samples| samples.to_string())
    }),
    ("tokens", |row| row.tokens.map(|tokens| tokens.to_string())),
    ("accuracy", |row| row.accuracy.map(percent)),
    ("relative", |row| row.relative.map(percent)),
    ("perplexity", |row| {
        row.perplexity.map(|value| significant(value, 5))
    }),
    ("KL", |row| row.kl.map(|value| significant(value, 3))),
    ("95 % interval", interval),
    ("max KL", |row| {
        row.max_kl.map(|value| significant(value, 3))
    }),
    ("top-1", |row| row.top1_agreement.map(percent)),
    ("NLL", |row| row.mean_nll.map(|value| format!("{value:.4}"))),
    ("change of NLL", |row| {
        row.delta_nll.map(|value| format!("{value:+.4}"))
    }),
    ("rank", |row| {
        row.mean_rank.map(|value| format!("{value:.1}"))
    }),
    ("tokens/head", |row| {
        row.tokens_per_head.map(|value| format!("{value:.0}"))
    }),
    ("KV MiB", |row| {
        row.kv_bytes
            .map(|bytes| format!("{:.2}", bytes as f64 / 1_048_576.0))
    }),
];

/// Columns that are text rather than numbers.
const TEXT: usize = 2;

fn interval(row: &Row) -> Option<String> {
    let (low, high) = (row.low?, row.high?);
    let show = |value: f64| match row.accuracy {
        Some(_) => percent(value),
        None => significant(value, 4),
    };
    Some(format!("{} to {}", show(low), show(high)))
}

/// A share as a percentage, with a decimal only where it has one.
pub fn percent(share: f64) -> String {
    let text = format!("{:.1}", share * 100.0);
    format!("{} %", text.strip_suffix(".0").unwrap_or(&text))
}

/// `value` with `digits` significant digits.
pub fn significant(value: f64, digits: i32) -> String {
    if value == 0.0 || !value.is_finite() {
        return value.to_string();
    }
    let magnitude = value.abs().log10().floor() as i32;
    if !(-4..6).contains(&magnitude) {
        return format!("{value:.*e}", (digits - 1).max(0) as usize);
    }
    format!("{value:.*}", (digits - 1 - magnitude).max(0) as usize)
}

/// The columns that any row fills, as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// The headings.
    pub headings: Vec<&'static str>,
    /// A line for each row; what it lacks is "-".
    pub lines: Vec<Vec<String>>,
}

impl Table {
    /// The table of `rows`.
    pub fn of(rows: &[Row]) -> Self {
        let used: Vec<&Column> = COLUMNS
            .iter()
            .filter(|(_, cell)| rows.iter().any(|row| cell(row).is_some()))
            .collect();
        let line = |row: &Row| {
            let cells = used.iter().map(|(_, cell)| cell(row));
            cells
                .map(|cell| cell.unwrap_or_else(|| "-".to_owned()))
                .collect()
        };
        Table {
            headings: used.iter().map(|(heading, _)| *heading).collect(),
            lines: rows.iter().map(line).collect(),
        }
    }

    /// Whether column `at` is of numbers, which end below each other.
    pub fn is_number(&self, at: usize) -> bool {
        at >= TEXT
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headings: Vec<String> = self.headings.iter().map(|&h| h.to_owned()).collect();
        let width = |at: usize| {
            let cells = self
                .lines
                .iter()
                .chain([&headings])
                .map(|line| line[at].chars().count());
            cells.max().unwrap_or_default()
        };
        let widths: Vec<usize> = (0..headings.len()).map(width).collect();
        for line in [&headings].into_iter().chain(&self.lines) {
            let mut text = String::new();
            for (at, (cell, width)) in line.iter().zip(&widths).enumerate() {
                let gap = if at == 0 { "" } else { "  " };
                text += gap;
                text += &match self.is_number(at) {
                    true => format!("{cell:>width$}"),
                    false => format!("{cell:<width$}"),
                };
            }
            writeln!(f, "{}", text.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::task::Task;

    #[test]
    fn columns_line_up() {
        let mut full = Row::new(Task::Perplexity, "full", None).with_nll(3.0, 0.0, 2047);
        full.kv_bytes = Some(8_388_608);
        let mut window = Row::new(Task::Perplexity, "window", Some(0.125)).with_nll(3.5, 0.0, 2047);
        window.kv_bytes = Some(1_048_576);
        assert_eq!(
            Table::of(&[full, window]).to_string(),
            "\
task  policy  budget  tokens  perplexity   95 % interval     NLL  KV MiB
ppl   full         -    2047      20.086  20.09 to 20.09  3.0000    8.00
ppl   window  12.5 %    2047      33.115  33.12 to 33.12  3.5000    1.00
"
        );
    }

    #[test]
    fn numbers_keep_their_digits() {
        for (value, digits, text) in [
            (0.0, 3, "0"),
            (0.012_345, 3, "0.0123"),
            (12_345.6, 3, "12346"),
            (-2.5, 3, "-2.50"),
            (1.5e-7, 3, "1.50e-7"),
            (2e9, 2, "2.0e9"),
            (f64::INFINITY, 3, "inf"),
        ] {
            assert_eq!(significant(value, digits), text);
        }
        for (share, text) in [
            (0.2, "20 %"),
            (0.125, "12.5 %"),
            (1.0, "100 %"),
            (0.0, "0 %"),
        ] {
            assert_eq!(percent(share), text);
        }
    }

    #[test]
    fn an_empty_table_is_an_empty_line() {
        assert_eq!(Table::of(&[]).to_string(), "\n");
    }
}
