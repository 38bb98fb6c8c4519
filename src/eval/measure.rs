//! What is plotted of rows.

use super::interval::wilson;
use super::rows::Row;

/// A measure of rows: its name on an axis and in a file's name, its value, and its interval.
pub struct Measured {
    pub name: &'static str,
    pub short: &'static str,
    pub value: fn(&Row) -> Option<f64>,
    pub interval: Interval,
}

/// What is known about the spread of a measure.
pub enum Interval {
    /// Low and high of a row; cells together have none.
    OfRow,
    /// Wilson's, of all samples together.
    OfShare,
    None,
}

const ACCURACY: Measured = Measured {
    name: "accuracy",
    short: "accuracy",
    value: |row| row.accuracy,
    interval: Interval::OfShare,
};
const NLL: Measured = Measured {
    name: "NLL of the answer, nats",
    short: "nll",
    value: |row| row.mean_nll,
    interval: Interval::None,
};
const OF_TEXTS: [Measured; 4] = [
    Measured {
        name: "perplexity",
        short: "perplexity",
        value: |row| row.perplexity,
        interval: Interval::OfRow,
    },
    Measured {
        name: "KL divergence from full attention, nats",
        short: "kl",
        value: |row| row.kl,
        interval: Interval::OfRow,
    },
    Measured {
        name: "top-1 agreement with full attention",
        short: "top1",
        value: |row| row.top1_agreement,
        interval: Interval::None,
    },
    Measured {
        name: "change of NLL against full attention, nats",
        short: "delta-nll",
        value: |row| row.delta_nll,
        interval: Interval::None,
    },
];

/// The measures of a group of rows, each with a plot.
pub fn measures(rows: &[&Row]) -> Vec<&'static Measured> {
    let any = |measured: &Measured| rows.iter().any(|row| (measured.value)(row).is_some());
    let of_texts: Vec<&'static Measured> = OF_TEXTS.iter().filter(|m| any(m)).collect();
    if !of_texts.is_empty() {
        of_texts
    } else {
        vec![of_answers(rows)]
    }
}

/// Accuracy if all rows have it, else the likelihood: a plot of both could not be compared.
pub fn of_answers(rows: &[&Row]) -> &'static Measured {
    match rows.iter().all(|row| row.accuracy.is_some()) {
        true => &ACCURACY,
        false => &NLL,
    }
}

/// A mean and its interval.
type Pooled = (f64, Option<(f64, f64)>);

/// The mean over cells, each as heavy as its samples, and its interval.
pub fn pooled(rows: &[&Row], measured: &Measured) -> Option<Pooled> {
    let weighted = rows
        .iter()
        .filter_map(|row| Some(((measured.value)(row)?, row.samples.unwrap_or(1))));
    let (sum, samples) = weighted.fold((0.0, 0), |(sum, all), (value, samples)| {
        (sum + value * samples as f64, all + samples)
    });
    if samples == 0 {
        return None;
    }
    let interval = match (&measured.interval, rows) {
        (Interval::OfRow, [row]) => row.low.zip(row.high),
        (Interval::OfShare, _) => Some(wilson(sum, samples)),
        _ => None,
    };
    Some((sum / samples as f64, interval))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::task::Task;

    fn of(task: Task) -> Row {
        Row::new(task, "h2o", Some(0.2))
    }

    #[test]
    fn accuracy_is_plotted_only_where_all_have_it() {
        let scored = of(Task::Passkey).with_scores(&[1.0]);
        let gated = of(Task::Passkey);
        let short = |rows: &[&Row]| measures(rows).iter().map(|m| m.short).collect::<Vec<_>>();
        assert_eq!(short(&[&scored, &scored]), ["accuracy"]);
        assert_eq!(short(&[&scored, &gated]), ["nll"]);
        let text = of(Task::Perplexity).with_nll(2.0, 0.1, 9);
        assert_eq!(short(&[&text]), ["perplexity"]);
    }

    #[test]
    fn cells_weigh_as_much_as_their_samples() {
        let few = of(Task::Passkey).with_scores(&[0.0; 10]);
        let many = of(Task::Passkey).with_scores(&[1.0; 30]);
        let (mean, interval) = pooled(&[&few, &many], &ACCURACY).unwrap();
        assert_eq!((mean, interval), (0.75, Some(wilson(30.0, 40))));
        assert_eq!(pooled(&[&of(Task::Passkey)], &ACCURACY), None);
        let text = of(Task::Perplexity).with_nll(2.0, 0.1, 9);
        let (_, interval) = pooled(&[&text], &OF_TEXTS[0]).unwrap();
        assert_eq!(interval, text.low.zip(text.high));
        assert_eq!(pooled(&[&text, &text], &OF_TEXTS[0]).unwrap().1, None);
    }
}
