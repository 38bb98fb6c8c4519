//! A run as a picture: latency and tokens over time, and how latencies are spread.

use super::drive::Run;
use super::quantile::Sorted;
use super::record::{Outcome, Record};
use crate::eval::{Mark, Panel, PlotError, Scale, Series, panels};

/// Points of a distribution's line.
const STEPS: usize = 400;

/// The SVG of a run called `title`.
///
/// # Errors
/// No request was answered.
pub fn plot(title: &str, run: &Run) -> Result<String, PlotError> {
    panels(title, &[over_time(run), tokens(run), spread(run)])
}

fn served(run: &Run) -> impl Iterator<Item = &Record> {
    run.records
        .iter()
        .filter(|record| record.outcome == Outcome::Served)
}

fn dots(name: &str, points: Vec<(f64, f64)>) -> Series {
    Series {
        name: name.to_owned(),
        mark: Mark::Dots,
        points,
    }
}

fn line(name: &str, points: Vec<(f64, f64)>) -> Series {
    Series {
        name: name.to_owned(),
        mark: Mark::Line,
        points,
    }
}

fn over_time(run: &Run) -> Panel {
    let ttft = served(run).filter_map(|record| Some((record.intended, record.ttft()?)));
    let e2e = served(run).map(|record| (record.intended, record.e2e()));
    let ended = |outcome: fn(Outcome) -> bool| {
        let records = run
            .records
            .iter()
            .filter(move |record| outcome(record.outcome));
        records
            .map(|record| (record.intended, record.e2e()))
            .collect()
    };
    let mut series = vec![
        dots("first token", ttft.collect()),
        dots("end to end", e2e.collect()),
        dots("refused", ended(|outcome| outcome == Outcome::Refused)),
        dots(
            "failed",
            ended(|outcome| matches!(outcome, Outcome::Failed(_))),
        ),
    ];
    series.retain(|series| !series.points.is_empty());
    Panel {
        title: "latency by intended arrival".to_owned(),
        x: "seconds from the start".to_owned(),
        y: "seconds (logarithmic)".to_owned(),
        scale: Scale::LogY,
        series,
    }
}

fn tokens(run: &Run) -> Panel {
    let seconds = run.whole_s.ceil().clamp(1.0, 1e6) as usize;
    let mut parts = vec![0.0; seconds];
    for record in &run.records {
        let each = record.output_tokens() as f64 / record.parts.len().max(1) as f64;
        for at in &record.parts {
            if let Some(tokens) = parts.get_mut(*at as usize) {
                *tokens += each;
            }
        }
    }
    let points = parts
        .iter()
        .zip(0_u32..)
        .map(|(tokens, at)| (f64::from(at) + 0.5, *tokens));
    let mut series = line("answers", points.collect());
    if parts.iter().all(|&tokens| tokens == 0.0) {
        series.points.clear();
    }
    Panel {
        title: "tokens of answers in each second".to_owned(),
        x: "seconds from the start".to_owned(),
        y: "tokens/s".to_owned(),
        scale: Scale::Linear,
        series: vec![series],
    }
}

fn spread(run: &Run) -> Panel {
    let of = |name: &str, values: Sorted| {
        let steps = (0..=STEPS).map(|step| step as f64 / STEPS as f64);
        let points = steps.filter_map(|share| Some((values.quantile(share)?, share)));
        line(name, points.collect())
    };
    let refused = run
        .records
        .iter()
        .filter(|record| record.outcome == Outcome::Refused);
    let mut series = vec![
        of(
            "first token",
            served(run).filter_map(Record::ttft).collect(),
        ),
        of("end to end", served(run).map(Record::e2e).collect()),
        of(
            "between tokens",
            served(run).flat_map(Record::gaps).collect(),
        ),
        of("refusal", refused.map(Record::e2e_from_send).collect()),
    ];
    series.retain(|series| !series.points.is_empty());
    Panel {
        title: "share of values at or below".to_owned(),
        x: "seconds (logarithmic)".to_owned(),
        y: "share".to_owned(),
        scale: Scale::LogX,
        series,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::record::testing::{refused, served as answered};

    #[test]
    fn a_run_is_drawn() {
        let run = Run {
            records: vec![answered(0.0, 5), answered(1.0, 9), refused(2.0)],
            arrival_s: 3.0,
            whole_s: 3.0,
            ..Run::default()
        };
        let drawn = plot("a run", &run).unwrap();
        for part in [
            "aria-label=\"a run\"",
            "first token",
            "between tokens",
            "refused",
            "tokens/s",
        ] {
            assert!(drawn.contains(part), "{part}");
        }
        assert!(!drawn.contains("failed"));
        // Two dots of first tokens, two of ends, one refusal.
        assert_eq!(drawn.matches("<circle").count(), 5);
    }

    #[test]
    fn a_run_without_requests_is_not_drawn() {
        assert!(matches!(
            plot("none", &Run::default()),
            Err(PlotError::Empty(_))
        ));
    }
}
