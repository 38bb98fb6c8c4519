//! What a search for capacity found.

use serde::Serialize;

use super::capacity::{Search, SearchBounds};
use super::report::{Report, SCHEMA};
use super::slo::Verdict;

/// One run of a search.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Trial {
    /// The load.
    pub load: f64,
    /// Whether all goals were met.
    pub met: bool,
    /// Each goal.
    pub slos: Vec<Verdict>,
    /// Requests that were sent.
    pub sent: usize,
    /// Requests that were served.
    pub served: usize,
    /// Tokens of answers a second.
    pub output_tokens_per_s: f64,
    /// Time to the first token at the 99 % quantile.
    pub ttft_p99_s: Option<f64>,
    /// Gaps between tokens at the 99 % quantile.
    pub itl_p99_s: Option<f64>,
}

impl Trial {
    /// The run that `report` is on.
    pub fn of(report: &Report) -> Trial {
        Trial {
            load: report.load.load,
            met: report.meets_all(),
            slos: report.slos.clone(),
            sent: report.requests.sent,
            served: report.requests.served,
            output_tokens_per_s: report.throughput.output_tokens_per_s,
            ttft_p99_s: report.latency.ttft_s.p99,
            itl_p99_s: report.latency.itl_s.p99,
        }
    }
}

/// What a search found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CapacityReport {
    /// The version of this shape.
    pub schema: u32,
    /// The highest load that met all goals; absent when none did.
    pub capacity: Option<f64>,
    /// The lowest load that did not; absent when all did.
    pub broke_at: Option<f64>,
    /// What loads count.
    pub unit: &'static str,
    /// How near the two should come, as a share.
    pub tolerance: f64,
    /// Whether the search came to its end.
    pub complete: bool,
    /// Every run, in order.
    pub trials: Vec<Trial>,
    /// The report on the run at capacity.
    pub report: Option<Report>,
}

impl CapacityReport {
    /// What `search` found within `bounds`; `best` is the report on the run at its capacity.
    pub fn new(
        search: &Search,
        bounds: &SearchBounds,
        trials: Vec<Trial>,
        best: Option<Report>,
    ) -> Self {
        CapacityReport {
            schema: SCHEMA,
            capacity: search.capacity(),
            broke_at: search.broke_at(),
            unit: bounds.unit.name(),
            tolerance: bounds.tolerance,
            complete: search.next_load().is_none(),
            trials,
            report: best,
        }
    }

    /// In one line.
    pub fn verdict(&self) -> String {
        let unit = self.unit;
        let cut = if self.complete { "" } else { " so far" };
        match (self.capacity, self.broke_at) {
            (Some(most), Some(broke)) => {
                format!("capacity{cut}: {most:.3} {unit} (a goal broke at {broke:.3})")
            }
            (Some(most), None) => {
                format!("capacity{cut}: at least {most:.3} {unit}: no goal broke up to there")
            }
            (None, Some(broke)) => format!("no load met all goals{cut}, down to {broke:.3} {unit}"),
            (None, None) => "no load was tried".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::capacity::LoadUnit;

    #[test]
    fn a_search_is_told_in_a_line() {
        let bounds = SearchBounds {
            start: 1.0,
            most: 4.0,
            tolerance: 0.1,
            unit: LoadUnit::Streams,
        };
        for (told, line) in [
            (vec![], "no load was tried"),
            (
                vec![(1.0, true)],
                "capacity so far: at least 1.000 streams: no goal broke up to there",
            ),
            (
                vec![(4.0, true)],
                "capacity: at least 4.000 streams: no goal broke up to there",
            ),
            (
                vec![(1.0, false)],
                "no load met all goals, down to 1.000 streams",
            ),
            (
                vec![(2.0, true), (3.0, false)],
                "capacity: 2.000 streams (a goal broke at 3.000)",
            ),
        ] {
            let mut search = Search::new(bounds);
            told.iter().for_each(|&(load, met)| search.tell(load, met));
            assert_eq!(
                CapacityReport::new(&search, &bounds, Vec::new(), None).verdict(),
                line
            );
        }
    }
}
