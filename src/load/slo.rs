//! Goals: what a run must have kept to.

use std::str::FromStr;

use serde::Serialize;

use super::quantile::Sorted;
use super::record::{Outcome, Record};
use crate::units::Duration;

/// A latency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// Time to the first token, from the intended arrival.
    Ttft,
    /// Gaps between parts of an answer.
    Itl,
    /// Time per token after the first, one value a request.
    Tpot,
    /// From the intended arrival to the end.
    E2e,
    /// How long a refusal took, from sending.
    Refusal,
    /// How late the tester was.
    Lag,
}

/// What of the values of a metric.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Stat {
    /// The mean.
    Mean,
    /// A quantile, 0 to 1; 1 is the maximum.
    Quantile(f64),
}

impl Stat {
    fn of(self, values: &Sorted) -> Option<f64> {
        match self {
            Stat::Mean => values.mean(),
            Stat::Quantile(share) => values.quantile(share),
        }
    }
}

/// What is bounded.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Bound {
    /// A latency may be so long.
    Latency(Metric, Stat),
    /// So large a share of the requests may be refused or fail.
    Unserved,
    /// At least so large a share of the requests must be good.
    Goodput,
}

/// One goal.
#[derive(Debug, Clone, PartialEq)]
pub struct Slo {
    text: String,
    bound: Bound,
    limit: f64,
}

/// Whether a goal was met.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    /// The goal as it was written.
    pub slo: String,
    /// What was measured, in seconds or as a share; absent where there was nothing to measure.
    pub measured: Option<f64>,
    /// The limit, in seconds or as a share.
    pub limit: f64,
    /// Whether it was met. A goal without a measurement is not, but for refusals and gaps: to have none is no fault.
    pub met: bool,
}

/// Why a text is no goal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no goal: write METRIC_STAT=TIME with ttft, itl, tpot, e2e, refusal or lag and mean, p50 to p99.9 or max, \
     such as ttft_p99=0.5s; or unserved=1%; or goodput=95%"
)]
pub struct BadSlo(String);

fn metric(text: &str) -> Option<Metric> {
    Some(match text {
        "ttft" => Metric::Ttft,
        "itl" => Metric::Itl,
        "tpot" => Metric::Tpot,
        "e2e" => Metric::E2e,
        "refusal" => Metric::Refusal,
        "lag" => Metric::Lag,
        _ => return None,
    })
}

fn stat(text: &str) -> Option<Stat> {
    match text {
        "mean" => Some(Stat::Mean),
        "max" => Some(Stat::Quantile(1.0)),
        _ => {
            let percent: f64 = text.strip_prefix('p')?.parse().ok()?;
            (0.0..=100.0)
                .contains(&percent)
                .then_some(Stat::Quantile(percent / 100.0))
        }
    }
}

/// The share that `5%` or `0.05` is, 0 to 1.
pub fn parse_share(text: &str) -> Option<f64> {
    let value: f64 = match text.strip_suffix('%') {
        Some(percent) => percent.trim().parse::<f64>().ok()? / 100.0,
        None => text.parse().ok()?,
    };
    (0.0..=1.0).contains(&value).then_some(value)
}

fn read(text: &str) -> Option<(Bound, f64)> {
    let (name, limit) = text.split_once('=')?;
    match name {
        "unserved" => Some((Bound::Unserved, parse_share(limit)?)),
        "goodput" => Some((Bound::Goodput, parse_share(limit)?)),
        _ => {
            let (name, of) = name.split_once('_')?;
            let limit: Duration = limit.parse().ok()?;
            let bound = Bound::Latency(metric(name)?, stat(of)?);
            Some((bound, limit.get().as_secs_f64()))
        }
    }
}

impl FromStr for Slo {
    type Err = BadSlo;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (bound, limit) = read(text).ok_or_else(|| BadSlo(text.to_owned()))?;
        Ok(Slo {
            text: text.to_owned(),
            bound,
            limit,
        })
    }
}

impl Slo {
    /// At most this share of the requests may be refused or fail.
    pub fn unserved(limit: f64) -> Slo {
        Slo {
            text: format!("unserved={limit}"),
            bound: Bound::Unserved,
            limit,
        }
    }

    /// Whether it bounds the share of requests that are not served.
    pub fn bounds_unserved(&self) -> bool {
        self.bound == Bound::Unserved
    }

    /// Judges a run. Latencies are those of requests that were served (refusals: that were refused); requests that the
    /// tester left count nowhere. `slos` are all goals of the run: they say which requests are good.
    pub fn judge(&self, records: &[Record], slos: &[Slo]) -> Verdict {
        let measured = match self.bound {
            Bound::Latency(metric, stat) => {
                let values: Sorted = records
                    .iter()
                    .flat_map(|record| values(metric, record))
                    .collect();
                stat.of(&values)
            }
            Bound::Unserved => share_of(records, |record| record.outcome != Outcome::Served),
            Bound::Goodput => share_of(records, |record| is_good(record, slos)),
        };
        let met = match (measured, self.bound) {
            (Some(measured), Bound::Goodput) => measured >= self.limit,
            (Some(measured), _) => measured <= self.limit,
            (None, Bound::Latency(metric, _)) => matches!(metric, Metric::Refusal | Metric::Itl),
            (None, _) => false,
        };
        Verdict {
            slo: self.text.clone(),
            measured,
            limit: self.limit,
            met,
        }
    }
}

/// The share of the requests that were not left.
pub(super) fn share_of(records: &[Record], holds: impl Fn(&Record) -> bool) -> Option<f64> {
    let kept = records
        .iter()
        .filter(|record| record.outcome != Outcome::Aborted);
    let (all, some) = kept.fold((0_usize, 0_usize), |(all, some), record| {
        (all + 1, some + usize::from(holds(record)))
    });
    (all > 0).then(|| some as f64 / all as f64)
}

fn values(metric: Metric, record: &Record) -> Vec<f64> {
    let served = record.outcome == Outcome::Served;
    match metric {
        Metric::Ttft if served => record.ttft().into_iter().collect(),
        Metric::Itl if served => record.gaps().collect(),
        Metric::Tpot if served => record.tpot().into_iter().collect(),
        Metric::E2e if served => vec![record.e2e()],
        Metric::Refusal if record.outcome == Outcome::Refused => vec![record.e2e_from_send()],
        Metric::Lag => vec![record.lag()],
        _ => Vec::new(),
    }
}

/// Whether a request was served within every limit on its own: its time to the first token, time per token and whole
/// time each within the limits on them, whatever their statistic, and its own quantile (or mean) of the gaps within
/// theirs.
pub fn is_good(record: &Record, slos: &[Slo]) -> bool {
    record.outcome == Outcome::Served && slos.iter().all(|slo| keeps(record, slo))
}

fn keeps(record: &Record, slo: &Slo) -> bool {
    match slo.bound {
        // How late the tester was is not the request's doing.
        Bound::Latency(Metric::Lag, _) | Bound::Unserved | Bound::Goodput => true,
        Bound::Latency(metric, stat) => {
            let own: Sorted = values(metric, record).into_iter().collect();
            stat.of(&own).is_none_or(|own| own <= slo.limit)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::record::Fault;
    use crate::load::record::testing::{refused, served};
    use proptest::prelude::*;

    fn slos(texts: &[&str]) -> Vec<Slo> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn goals_are_read() {
        for (text, bound, limit) in [
            (
                "ttft_p99=0.5s",
                Bound::Latency(Metric::Ttft, Stat::Quantile(0.99)),
                0.5,
            ),
            (
                "itl_p90=50ms",
                Bound::Latency(Metric::Itl, Stat::Quantile(0.9)),
                0.05,
            ),
            ("e2e_mean=1m", Bound::Latency(Metric::E2e, Stat::Mean), 60.0),
            (
                "refusal_max=50ms",
                Bound::Latency(Metric::Refusal, Stat::Quantile(1.0)),
                0.05,
            ),
            ("unserved=1%", Bound::Unserved, 0.01),
            ("goodput=0.95", Bound::Goodput, 0.95),
        ] {
            let slo: Slo = text.parse().unwrap();
            assert_eq!((slo.bound, slo.limit), (bound, limit), "{text}");
        }
        for bad in [
            "",
            "ttft",
            "ttft_p99",
            "ttft_p99=5",
            "ttft=5s",
            "tfft_p99=1s",
            "ttft_p101=1s",
            "ttft_q9=1s",
            "unserved=2",
            "unserved=1s",
            "goodput=-1%",
        ] {
            assert!(bad.parse::<Slo>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_run_is_judged() {
        let mut failed = served(3.0, 0);
        failed.outcome = Outcome::Failed(Fault::Status);
        let mut left = served(4.0, 1);
        left.outcome = Outcome::Aborted;
        // Of four requests that count, two are served; a request that was left does not count.
        let records = [served(0.0, 3), served(1.0, 11), refused(2.0), failed, left];
        for (text, measured, met) in [
            ("ttft_max=99ms", 0.1, false),
            ("ttft_max=101ms", 0.1, true),
            ("itl_p50=60ms", 0.05, true),
            ("tpot_max=40ms", 0.05, false),
            ("e2e_max=700ms", 0.6, true),
            ("refusal_p99=50ms", 0.02, true),
            ("lag_max=5ms", 0.01, false),
            ("unserved=49%", 0.5, false),
            ("unserved=50%", 0.5, true),
        ] {
            let verdict = slos(&[text])[0].judge(&records, &[]);
            assert!(
                (verdict.measured.unwrap() - measured).abs() < 1e-9,
                "{verdict:?}"
            );
            assert_eq!(verdict.met, met, "{verdict:?}");
        }
        let all = slos(&["e2e_p99=0.3s", "goodput=25%"]);
        let verdict = all[1].judge(&records, &all);
        assert_eq!((verdict.measured, verdict.met), (Some(0.25), true));
    }

    #[test]
    fn nothing_measured_meets_no_goal_but_that_on_refusals() {
        for (text, met) in [
            ("ttft_p99=1h", false),
            ("unserved=100%", false),
            ("goodput=0%", false),
            ("refusal_p99=1ms", true),
        ] {
            let verdict = slos(&[text])[0].judge(&[], &[]);
            assert_eq!((verdict.measured, verdict.met), (None, met), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_looser_limit_is_met_where_a_tighter_one_was(parts in prop::collection::vec(1_usize..20, 1..30), tight in 1_u64..900, more in 0_u64..900) {
            let records: Vec<Record> = parts.iter().map(|&parts| served(1.0, parts)).collect();
            for of in ["ttft_p90", "itl_p99", "e2e_p50", "tpot_mean"] {
                let met = |ms: u64| {
                    let slo: Slo = format!("{of}={ms}ms").parse().unwrap();
                    (slo.judge(&records, &[]).met, records.iter().filter(|r| is_good(r, std::slice::from_ref(&slo))).count())
                };
                let ((met_tight, good_tight), (met_loose, good_loose)) = (met(tight), met(tight + more));
                prop_assert!(!met_tight || met_loose);
                prop_assert!(good_tight <= good_loose);
            }
        }
    }
}
