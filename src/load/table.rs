//! A report as text for people.

use super::fairness::Fairness;
use super::quantile::Summary;
use super::report::Report;
use super::slo::Verdict;

/// A time in the unit that suits it.
fn time(seconds: f64) -> String {
    match seconds.abs() {
        s if s < 0.000_999_5 => format!("{:.0} us", seconds * 1e6),
        s if s < 0.999_5 => format!("{:.1} ms", seconds * 1e3),
        _ => format!("{seconds:.2} s"),
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// The report as lines of text, the last one ended.
pub fn table(report: &Report) -> String {
    let mut text = format!(
        "{} at {} ({}): {}\n",
        report.target.model, report.target.url, report.target.endpoint, report.load.kind
    );
    text += &format!(
        "{:.1} s of arrivals, {:.1} s until the last answer; at most {} requests at a time, {:.1} in the mean\n",
        report.load.arrival_s,
        report.load.whole_s,
        report.load.in_flight_peak,
        report.load.in_flight_mean
    );
    text += &requests(report);
    let throughput = report.throughput;
    text += &format!(
        "{:.2} requests/s sent, {:.2} served; {:.1} tokens/s of answers, {:.1} with prompts\n",
        throughput.sent_per_s,
        throughput.served_per_s,
        throughput.output_tokens_per_s,
        throughput.total_tokens_per_s
    );
    text += &latencies(report);
    if let Some(goodput) = report.goodput {
        text += &format!(
            "goodput: {} requests ({}), {:.2} a second\n",
            goodput.requests,
            percent(goodput.share),
            goodput.per_s
        );
    }
    for verdict in &report.slos {
        text += &goal(verdict);
    }
    if let Some(fairness) = &report.fairness {
        text += &keys(fairness);
    }
    for warning in &report.warnings {
        text += &format!("warning: {warning}\n");
    }
    text
}

fn requests(report: &Report) -> String {
    let requests = report.requests;
    let mut parts = vec![
        format!("{} requests", requests.sent),
        format!("{} served", requests.served),
    ];
    for (count, what) in [
        (requests.refused, "refused"),
        (requests.failed, "failed"),
        (requests.aborted, "aborted"),
        (requests.unfinished, "cut off"),
        (requests.turns_not_sent, "turns not sent"),
    ] {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    }
    let mut text = parts.join(", ") + "\n";
    for (name, count) in &report.errors {
        let message = report.messages.get(name).map_or("", String::as_str);
        text += &format!("  {name}: {count}, such as: {message}\n");
    }
    if let Some(message) = report.messages.get("refused") {
        text += &format!("  refused: {}, such as: {message}\n", requests.refused);
    }
    text
}

fn latencies(report: &Report) -> String {
    let latency = report.latency;
    let rows = [
        ("time to first token", latency.ttft_s),
        ("  from sending", latency.ttft_from_send_s),
        ("between tokens", latency.itl_s),
        ("time per token", latency.tpot_s),
        ("end to end", latency.e2e_s),
        ("  from sending", latency.e2e_from_send_s),
        ("refusal", report.refusals.latency_s),
        ("lag of the tester", report.lag_s),
    ];
    let mut text = format!(
        "{:<20} {:>8} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}\n",
        "", "COUNT", "MEAN", "P50", "P90", "P95", "P99", "MAX"
    );
    for (name, summary) in rows {
        if summary.count > 0 {
            text += &row(name, &summary);
        }
    }
    text
}

fn row(name: &str, summary: &Summary) -> String {
    let mut text = format!("{name:<20} {:>8}", summary.count);
    for value in [
        summary.mean,
        summary.p50,
        summary.p90,
        summary.p95,
        summary.p99,
        summary.max,
    ] {
        text += &format!(" {:>9}", value.map_or_else(|| "-".to_owned(), time));
    }
    text + "\n"
}

fn goal(verdict: &Verdict) -> String {
    let share = verdict.slo.starts_with("unserved") || verdict.slo.starts_with("goodput");
    let show = if share { percent } else { time };
    let measured = verdict
        .measured
        .map_or_else(|| "nothing to measure".to_owned(), show);
    let met = if verdict.met { "met" } else { "BROKEN" };
    format!("goal {}: {met} ({measured})\n", verdict.slo)
}

fn keys(fairness: &Fairness) -> String {
    let mut text = String::new();
    for key in &fairness.keys {
        text += &format!(
            "key {}: {} sent, {} served, {} tokens",
            key.name, key.sent, key.served, key.tokens
        );
        text += &match key.share {
            Some(share) => format!(
                ", {} of all; {} to {} over any {:.0} s\n",
                percent(share.overall),
                percent(share.least),
                percent(share.most),
                fairness.window_s
            ),
            None => format!(
                "; no share: no {:.0} s of arrivals, or a pause as long\n",
                fairness.window_s
            ),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::drive::Run;
    use crate::load::record::testing::{refused, served};
    use crate::load::report::testing::order;

    #[test]
    fn times_have_their_unit() {
        for (seconds, text) in [
            (0.000_02, "20 us"),
            (0.0015, "1.5 ms"),
            (0.2, "200.0 ms"),
            (1.0, "1.00 s"),
            (75.5, "75.50 s"),
        ] {
            assert_eq!(time(seconds), text);
        }
    }

    #[test]
    fn a_report_is_told() {
        let mut second = served(0.5, 3);
        second.origin.key = 1;
        let mut said_no = refused(1.0);
        said_no.message = Some("the queue is full".to_owned());
        let run = Run {
            records: vec![served(0.0, 3), second, said_no],
            arrival_s: 2.0,
            whole_s: 2.0,
            ..Run::default()
        };
        let slos = [
            "ttft_p99=50ms".parse().unwrap(),
            "unserved=50%".parse().unwrap(),
        ];
        let report = Report::new("http://x/v1", &order(&["a=1", "b=1"]), &run, &slos, 30.0);
        let text = table(&report);
        for part in [
            "m at http://x/v1 (chat/completions): open loop, fixed, 1 sessions/s\n",
            "3 requests, 2 served, 1 refused\n",
            "  refused: 1, such as: the queue is full\n",
            "time to first token         2  100.0 ms  100.0 ms",
            "goal ttft_p99=50ms: BROKEN (100.0 ms)\n",
            "goal unserved=50%: met (33.3 %)\n",
            "key b: 1 sent, 1 served, 13 tokens; no share",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
    }
}
