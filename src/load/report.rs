//! What a run measured, as the JSON that is told. Names of fields are stable; `docs/loadtest.md` says what they mean.

use std::collections::BTreeMap;

use serde::Serialize;

use super::drive::{Order, Run};
use super::fairness::Fairness;
use super::quantile::{Sorted, Summary};
use super::record::{Outcome, Record};
use super::slo::{Slo, Verdict, is_good, share_of};

/// The version of the report's shape: it grows when a field goes or changes its meaning.
pub const SCHEMA: u32 = 1;
/// A tester that is later than this at the 99 % quantile measures itself.
const LATE: f64 = 0.02;

/// What a run measured. Latencies are in seconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The version of these names.
    pub schema: u32,
    /// The server, what was asked of it, and how.
    pub target: Target,
    /// The load.
    pub load: Load,
    /// Requests by their ends.
    pub requests: Requests,
    /// What went wrong, by name.
    pub errors: BTreeMap<&'static str, usize>,
    /// Answers by HTTP status.
    pub statuses: BTreeMap<u16, usize>,
    /// Errors by the server's own code.
    pub codes: BTreeMap<String, usize>,
    /// One message for each name of `errors`, and of `refused`.
    pub messages: BTreeMap<&'static str, String>,
    /// Tokens of all requests.
    pub tokens: Tokens,
    /// Per second.
    pub throughput: Throughput,
    /// Of requests that were served.
    pub latency: Latency,
    /// How late the tester was, of all requests.
    pub lag_s: Summary,
    /// Of requests that were refused.
    pub refusals: Refusals,
    /// Requests that were good; absent without goals.
    pub goodput: Option<Goodput>,
    /// Each goal.
    pub slos: Vec<Verdict>,
    /// Who got what; absent with one key.
    pub fairness: Option<Fairness>,
    /// What makes the figures doubtful.
    pub warnings: Vec<String>,
}

/// The server and what was asked of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Target {
    /// The root of its API.
    pub url: String,
    /// The route.
    pub endpoint: &'static str,
    /// The model.
    pub model: String,
}

/// The load of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Load {
    /// In words.
    pub kind: String,
    /// How much.
    pub load: f64,
    /// What `load` counts.
    pub unit: &'static str,
    /// Tokens of a turn's prompt, as they were asked for; "trace" for those of a trace.
    pub prompt_tokens: String,
    /// Tokens of an answer, likewise.
    pub output_tokens: String,
    /// Tokens that first prompts share.
    pub shared_prefix: u32,
    /// The seed.
    pub seed: u64,
    /// Seconds in which sessions arrived.
    pub arrival_s: f64,
    /// Seconds until the last request ended.
    pub whole_s: f64,
    /// The most requests that were on their way at a time.
    pub in_flight_peak: usize,
    /// The mean over time of requests on their way.
    pub in_flight_mean: f64,
}

/// Requests by their ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Requests {
    /// All that ended.
    pub sent: usize,
    /// Whole answers.
    pub served: usize,
    /// Status 429 or 503.
    pub refused: usize,
    /// See `errors`.
    pub failed: usize,
    /// The tester left.
    pub aborted: usize,
    /// Cut off when the run was stopped.
    pub unfinished: usize,
    /// Turns that were not sent, because an earlier one was not served or the time was over.
    pub turns_not_sent: usize,
}

/// Tokens of all requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Tokens {
    /// Of prompts, as the server counted them.
    pub prompt: u64,
    /// Of prompts, those that a cache held.
    pub cached: u64,
    /// Of answers.
    pub output: u64,
    /// Requests whose tokens are counted by parts of the stream, because the server told no usage.
    pub requests_counted_by_parts: usize,
}

/// Per second, over the whole run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Throughput {
    /// Requests that were sent, over the time in which sessions arrived.
    pub sent_per_s: f64,
    /// Requests that were served.
    pub served_per_s: f64,
    /// Tokens of answers.
    pub output_tokens_per_s: f64,
    /// Tokens of prompts and answers.
    pub total_tokens_per_s: f64,
}

/// Latencies of requests that were served.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Latency {
    /// From the intended arrival to the first text.
    pub ttft_s: Summary,
    /// From sending to the first text.
    pub ttft_from_send_s: Summary,
    /// Gaps between parts of an answer.
    pub itl_s: Summary,
    /// Time per token after the first.
    pub tpot_s: Summary,
    /// From the intended arrival to the end.
    pub e2e_s: Summary,
    /// From sending to the end.
    pub e2e_from_send_s: Summary,
}

/// Of requests that were refused.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Refusals {
    /// From sending to the end of the refusal.
    pub latency_s: Summary,
    /// How long the server asked to wait.
    pub retry_after_s: Summary,
}

/// Requests that were served within every limit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Goodput {
    /// How many.
    pub requests: usize,
    /// Their share of the requests that the tester did not leave.
    pub share: f64,
    /// A second.
    pub per_s: f64,
}

impl Report {
    /// The report on `run`, which `order` asked for.
    pub fn new(url: &str, order: &Order, run: &Run, slos: &[Slo], window_s: f64) -> Report {
        let records = &run.records;
        let of = |outcome: Outcome| records.iter().filter(|r| r.outcome == outcome).count();
        let (done, refused, aborted) = (
            of(Outcome::Served),
            of(Outcome::Refused),
            of(Outcome::Aborted),
        );
        let lag_s = all(records, |record| Some(record.lag()));
        let mut report = Report {
            schema: SCHEMA,
            target: Target {
                url: url.to_owned(),
                endpoint: order.form.endpoint.route(),
                model: order.form.model.clone(),
            },
            load: load(order, run),
            requests: Requests {
                sent: records.len(),
                served: done,
                refused,
                failed: records.len() - done - refused - aborted,
                aborted,
                unfinished: run.unfinished,
                turns_not_sent: run.turns_not_sent,
            },
            errors: BTreeMap::new(),
            statuses: BTreeMap::new(),
            codes: BTreeMap::new(),
            messages: BTreeMap::new(),
            tokens: tokens(records),
            throughput: throughput(run, done),
            latency: latency(records),
            lag_s,
            refusals: refusals(records),
            goodput: goodput(run, slos),
            slos: slos.iter().map(|slo| slo.judge(records, slos)).collect(),
            fairness: (order.keys.len() > 1).then(|| Fairness::new(order, run, window_s)),
            warnings: Vec::new(),
        };
        report.count_errors(records);
        report.warnings = warnings(&report);
        report
    }

    /// Whether every goal was met.
    pub fn meets_all(&self) -> bool {
        self.slos.iter().all(|verdict| verdict.met)
    }

    fn count_errors(&mut self, records: &[Record]) {
        for record in records {
            if let Some(status) = record.status {
                *self.statuses.entry(status).or_default() += 1;
            }
            if let Some(code) = &record.code {
                *self.codes.entry(code.clone()).or_default() += 1;
            }
            if let Outcome::Failed(fault) = record.outcome {
                *self.errors.entry(fault.name()).or_default() += 1;
            }
            if let Some(message) = &record.message {
                let name = record.outcome.name();
                self.messages.entry(name).or_insert_with(|| message.clone());
            }
        }
    }
}

fn all(records: &[Record], value: impl Fn(&Record) -> Option<f64>) -> Summary {
    records
        .iter()
        .filter_map(value)
        .collect::<Sorted>()
        .summary()
}

/// `count` over `seconds`; 0 over no time.
pub fn per_second(count: f64, seconds: f64) -> f64 {
    if seconds > 0.0 { count / seconds } else { 0.0 }
}

fn load(order: &Order, run: &Run) -> Load {
    let trace = order.traffic.unit() == super::capacity::LoadUnit::TraceSpeed;
    let length = |text: String| if trace { "trace".to_owned() } else { text };
    let (in_flight_peak, in_flight_mean) = in_flight(&run.records, run.whole_s);
    Load {
        kind: order.traffic.describe(),
        load: order.traffic.load(),
        unit: order.traffic.unit().name(),
        prompt_tokens: length(order.shape.prompt.to_string()),
        output_tokens: length(order.shape.output.to_string()),
        shared_prefix: order.shared_prefix,
        seed: order.shape.seed,
        arrival_s: run.arrival_s,
        whole_s: run.whole_s,
        in_flight_peak,
        in_flight_mean,
    }
}

/// The most requests at a time, and their mean over time.
fn in_flight(records: &[Record], whole_s: f64) -> (usize, f64) {
    let mut changes: Vec<(f64, bool)> = records
        .iter()
        .flat_map(|record| [(record.sent, true), (record.ended, false)])
        .collect();
    // At the same time one leaves before another comes.
    changes.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let (mut now, mut peak) = (0_usize, 0);
    for (_, came) in changes {
        now = if came { now + 1 } else { now.saturating_sub(1) };
        peak = peak.max(now);
    }
    let busy = records.iter().map(Record::e2e_from_send).sum();
    (peak, per_second(busy, whole_s))
}

fn tokens(records: &[Record]) -> Tokens {
    let counted = || records.iter().filter_map(|record| record.counted);
    let by_parts = |record: &&Record| record.outcome == Outcome::Served && record.counted.is_none();
    Tokens {
        prompt: counted().map(|counted| counted.prompt).sum(),
        cached: counted().map(|counted| counted.cached).sum(),
        output: records.iter().map(Record::output_tokens).sum(),
        requests_counted_by_parts: records.iter().filter(by_parts).count(),
    }
}

fn throughput(run: &Run, served: usize) -> Throughput {
    let tokens = tokens(&run.records);
    let whole = |count: f64| per_second(count, run.whole_s);
    Throughput {
        sent_per_s: per_second(run.records.len() as f64, run.arrival_s),
        served_per_s: whole(served as f64),
        output_tokens_per_s: whole(tokens.output as f64),
        total_tokens_per_s: whole((tokens.prompt + tokens.output) as f64),
    }
}

fn latency(records: &[Record]) -> Latency {
    let served = || {
        records
            .iter()
            .filter(|record| record.outcome == Outcome::Served)
    };
    let of = |value: fn(&Record) -> Option<f64>| {
        served().filter_map(value).collect::<Sorted>().summary()
    };
    Latency {
        ttft_s: of(Record::ttft),
        ttft_from_send_s: of(Record::ttft_from_send),
        itl_s: served()
            .flat_map(Record::gaps)
            .collect::<Sorted>()
            .summary(),
        tpot_s: of(Record::tpot),
        e2e_s: of(|record| Some(record.e2e())),
        e2e_from_send_s: of(|record| Some(record.e2e_from_send())),
    }
}

fn refusals(records: &[Record]) -> Refusals {
    let refused = || {
        records
            .iter()
            .filter(|record| record.outcome == Outcome::Refused)
    };
    Refusals {
        latency_s: refused()
            .map(Record::e2e_from_send)
            .collect::<Sorted>()
            .summary(),
        retry_after_s: refused()
            .filter_map(|r| r.retry_after)
            .collect::<Sorted>()
            .summary(),
    }
}

fn goodput(run: &Run, slos: &[Slo]) -> Option<Goodput> {
    if slos.is_empty() {
        return None;
    }
    let good = |record: &Record| is_good(record, slos);
    // One that was left is never good.
    let requests = run.records.iter().filter(|record| good(record)).count();
    Some(Goodput {
        requests,
        share: share_of(&run.records, good).unwrap_or(0.0),
        per_s: per_second(requests as f64, run.whole_s),
    })
}

fn warnings(report: &Report) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(late) = report.lag_s.p99.filter(|&late| late > LATE) {
        warnings.push(format!(
            "the tester itself was {:.0} ms late at the 99 % quantile: its machine is too busy for this load",
            late * 1e3
        ));
    }
    let by_parts = report.tokens.requests_counted_by_parts;
    if by_parts > 0 {
        warnings.push(format!(
            "{by_parts} answers came without usage: their tokens are parts of the stream, and prompts are not counted"
        ));
    }
    if report.requests.unfinished > 0 {
        warnings.push(format!(
            "{} requests were cut off when the run was stopped",
            report.requests.unfinished
        ));
    }
    warnings
}

#[cfg(test)]
pub mod testing {
    use super::*;
    use crate::load::arrivals::{Process, Rate};
    use crate::load::length::{Length, Think};
    use crate::load::target::{Endpoint, Form};
    use crate::load::traffic::Traffic;
    use crate::load::workload::Shape;
    use std::time::Duration;

    /// An order of one request a second for a minute.
    pub fn order(keys: &[&str]) -> Order {
        Order {
            traffic: Traffic::Open {
                process: Process::Fixed,
                rate: Rate::new(1.0).unwrap(),
            },
            shape: Shape {
                prompt: Length::Fixed(8),
                output: Length::Fixed(4),
                turns: Length::Fixed(1),
                think: Think::Fixed(Duration::ZERO),
                abort_rate: 0.0,
                abort_within: Duration::ZERO,
                seed: 0,
            },
            keys: keys.iter().map(|key| key.parse().unwrap()).collect(),
            form: Form {
                endpoint: Endpoint::Chat,
                model: "m".to_owned(),
                ignore_eos: false,
                extra: serde_json::Map::new(),
            },
            shared_prefix: 0,
            duration: Some(Duration::from_secs(60)),
            sessions: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::order;
    use super::*;
    use crate::load::record::Fault;
    use crate::load::record::testing::{refused, served as answered};

    fn run(records: Vec<Record>) -> Run {
        Run {
            records,
            turns_not_sent: 2,
            unfinished: 0,
            arrival_s: 10.0,
            whole_s: 20.0,
        }
    }

    #[test]
    fn a_run_is_reported() {
        let mut failed = answered(3.0, 2);
        failed.outcome = Outcome::Failed(Fault::Truncated);
        failed.message = Some("cut".to_owned());
        let records = vec![answered(0.0, 5), answered(0.2, 5), refused(1.0), failed];
        let slos: Vec<Slo> = vec![
            "ttft_p99=1s".parse().unwrap(),
            "unserved=10%".parse().unwrap(),
        ];
        let report = Report::new("http://x/v1", &order(&["a=1"]), &run(records), &slos, 30.0);
        assert_eq!(
            (
                report.requests.served,
                report.requests.refused,
                report.requests.failed
            ),
            (2, 1, 1)
        );
        assert_eq!(report.errors, BTreeMap::from([("truncated", 1)]));
        assert_eq!(report.statuses, BTreeMap::from([(200, 3), (429, 1)]));
        assert_eq!(report.codes, BTreeMap::from([("queue_full".to_owned(), 1)]));
        assert_eq!(
            report.messages,
            BTreeMap::from([("truncated", "cut".to_owned())])
        );
        assert_eq!((report.tokens.prompt, report.tokens.output), (30, 12));
        assert_eq!(report.throughput.output_tokens_per_s, 0.6);
        assert_eq!(report.throughput.sent_per_s, 0.4);
        assert_eq!(
            (report.latency.ttft_s.count, report.latency.itl_s.count),
            (2, 8)
        );
        assert_eq!(report.refusals.retry_after_s.max, Some(1.0));
        // The first two overlap; the others are alone.
        assert_eq!(report.load.in_flight_peak, 2);
        let goodput = report.goodput.unwrap();
        assert_eq!(
            (goodput.requests, goodput.share, goodput.per_s),
            (2, 0.5, 0.1)
        );
        assert!(report.slos[0].met && !report.slos[1].met && !report.meets_all());
        assert!(report.fairness.is_none() && report.warnings.is_empty());
    }

    #[test]
    fn a_doubtful_run_says_so() {
        let mut late = answered(0.0, 3);
        late.sent = 0.5;
        late.counted = None;
        let mut run = run(vec![late]);
        run.unfinished = 3;
        let warnings = Report::new("u", &order(&["a=1"]), &run, &[], 30.0).warnings;
        assert_eq!(warnings.len(), 3, "{warnings:?}");
        assert!(warnings[0].contains("500 ms late"));
    }

    /// The names that programs read. A change here is one of the documentation and of [`SCHEMA`].
    #[test]
    fn names_are_stable() {
        let report = Report::new(
            "u",
            &order(&["a=1", "b=1"]),
            &run(vec![answered(0.0, 3)]),
            &[],
            30.0,
        );
        let value = serde_json::to_value(&report).unwrap();
        let names: Vec<&str> = value
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        assert_eq!(
            names,
            [
                "schema",
                "target",
                "load",
                "requests",
                "errors",
                "statuses",
                "codes",
                "messages",
                "tokens",
                "throughput",
                "latency",
                "lag_s",
                "refusals",
                "goodput",
                "slos",
                "fairness",
                "warnings"
            ]
        );
        let documented = include_str!("../../docs/loadtest.md");
        let mut missing = Vec::new();
        names_of(&value, &mut |name| {
            if !documented.contains(&format!("`{name}`")) {
                missing.push(name.to_owned());
            }
        });
        assert!(
            missing.is_empty(),
            "docs/loadtest.md does not name {missing:?}"
        );
    }

    fn names_of(value: &serde_json::Value, told: &mut dyn FnMut(&str)) {
        match value {
            serde_json::Value::Object(fields) => {
                for (name, value) in fields {
                    // Of maps by status, the names are data.
                    if name.parse::<u16>().is_err() {
                        told(name);
                    }
                    names_of(value, told);
                }
            }
            serde_json::Value::Array(values) => {
                values.iter().for_each(|value| names_of(value, told))
            }
            _ => {}
        }
    }
}
