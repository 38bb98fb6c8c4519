//! What was seen of one request. Times are seconds from the start of the run.

use serde::Serialize;

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The whole answer came.
    Served,
    /// The server was busy and said so: status 429 or 503.
    Refused,
    /// It did not end well.
    Failed(Fault),
    /// The tester left, as it was asked to.
    Aborted,
}

/// What went wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// No connection: refused, not resolved, or no answer to it.
    Connect,
    /// Not over within the time allowed.
    Timeout,
    /// The connection ended before the answer began.
    Closed,
    /// A status that is neither success nor "busy".
    Status,
    /// The stream ended, or its connection broke, before the answer was complete.
    Truncated,
    /// What came is no stream of events as the API has them.
    Malformed,
    /// The stream told of an error.
    StreamError,
}

impl Outcome {
    /// The name in files: `served`, `refused`, `aborted`, or that of the fault.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Served => "served",
            Outcome::Refused => "refused",
            Outcome::Aborted => "aborted",
            Outcome::Failed(fault) => fault.name(),
        }
    }
}

impl Fault {
    /// The name in files and tables.
    pub fn name(self) -> &'static str {
        match self {
            Fault::Connect => "connect",
            Fault::Timeout => "timeout",
            Fault::Closed => "closed",
            Fault::Status => "status",
            Fault::Truncated => "truncated",
            Fault::Malformed => "malformed",
            Fault::StreamError => "stream_error",
        }
    }
}

/// Which request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The session's number.
    pub session: u64,
    /// Its turn, from 0.
    pub turn: usize,
    /// The number of the key.
    pub key: usize,
    /// Tokens that the new part of the prompt was made of.
    pub prompt_asked: u32,
    /// Tokens that were asked for.
    pub output_asked: u32,
}

/// Token counts that the server gave.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// Of the prompt.
    pub prompt: u64,
    /// Of the prompt, those that a cache held.
    pub cached: u64,
    /// Of the answer.
    pub output: u64,
}

/// One request.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Which.
    pub origin: Origin,
    /// How it ended.
    pub outcome: Outcome,
    /// When it should have been sent.
    pub intended: f64,
    /// When it was sent.
    pub sent: f64,
    /// When its head was answered.
    pub answered: Option<f64>,
    /// When each part of the answer's text came.
    pub parts: Vec<f64>,
    /// When it was over.
    pub ended: f64,
    /// The HTTP status.
    pub status: Option<u16>,
    /// The code of an error, as the server names it.
    pub code: Option<String>,
    /// What went wrong, in words.
    pub message: Option<String>,
    /// Seconds that the server asked to wait.
    pub retry_after: Option<f64>,
    /// Why the answer ended.
    pub finish_reason: Option<String>,
    /// The server's token counts.
    pub counted: Option<Counted>,
}

impl Record {
    /// A request that is about to be sent at `sent`.
    pub fn new(origin: Origin, intended: f64, sent: f64) -> Self {
        Record {
            origin,
            outcome: Outcome::Failed(Fault::Closed),
            intended,
            sent,
            answered: None,
            parts: Vec::new(),
            ended: sent,
            status: None,
            code: None,
            message: None,
            retry_after: None,
            finish_reason: None,
            counted: None,
        }
    }

    /// How late the tester itself was.
    pub fn lag(&self) -> f64 {
        self.sent - self.intended
    }

    /// From the intended time to the first text.
    pub fn ttft(&self) -> Option<f64> {
        self.parts.first().map(|first| first - self.intended)
    }

    /// From sending to the first text.
    pub fn ttft_from_send(&self) -> Option<f64> {
        self.parts.first().map(|first| first - self.sent)
    }

    /// From the intended time to the end.
    pub fn e2e(&self) -> f64 {
        self.ended - self.intended
    }

    /// From sending to the end.
    pub fn e2e_from_send(&self) -> f64 {
        self.ended - self.sent
    }

    /// Gaps between parts of the text.
    pub fn gaps(&self) -> impl Iterator<Item = f64> {
        self.parts.windows(2).filter_map(|pair| match pair {
            [before, after] => Some(after - before),
            _ => None,
        })
    }

    /// Tokens of the answer: the server's count, or the number of its parts.
    pub fn output_tokens(&self) -> u64 {
        self.counted
            .map_or(self.parts.len() as u64, |counted| counted.output)
    }

    /// Time per token after the first; `None` below two tokens.
    pub fn tpot(&self) -> Option<f64> {
        let (first, last) = (self.parts.first()?, self.parts.last()?);
        let after_first = self.output_tokens().checked_sub(1).filter(|&n| n > 0)?;
        Some((last - first) / after_first as f64)
    }
}

/// A request as a line of a file.
#[derive(Debug, Serialize)]
pub struct RecordLine<'a> {
    /// The load of the run that it was part of.
    pub load: f64,
    session: u64,
    turn: usize,
    key: Option<&'a str>,
    outcome: &'static str,
    status: Option<u16>,
    code: Option<&'a str>,
    message: Option<&'a str>,
    retry_after_s: Option<f64>,
    finish_reason: Option<&'a str>,
    intended_s: f64,
    lag_s: f64,
    answered_s: Option<f64>,
    ttft_s: Option<f64>,
    ttft_from_send_s: Option<f64>,
    e2e_s: f64,
    e2e_from_send_s: f64,
    tpot_s: Option<f64>,
    itl_s: Vec<f64>,
    prompt_tokens_asked: u32,
    output_tokens_asked: u32,
    prompt_tokens: Option<u64>,
    cached_tokens: Option<u64>,
    output_tokens: u64,
    counted_by: &'static str,
}

impl<'a> RecordLine<'a> {
    /// The line of `record`, whose key is called `key`.
    pub fn of(record: &'a Record, key: Option<&'a str>, load: f64) -> Self {
        // Microseconds: finer digits of a clock say nothing.
        let rounded = |seconds: f64| (seconds * 1e6).round() / 1e6;
        RecordLine {
            load,
            session: record.origin.session,
            turn: record.origin.turn,
            key,
            outcome: record.outcome.name(),
            status: record.status,
            code: record.code.as_deref(),
            message: record.message.as_deref(),
            retry_after_s: record.retry_after,
            finish_reason: record.finish_reason.as_deref(),
            intended_s: rounded(record.intended),
            lag_s: rounded(record.lag()),
            answered_s: record.answered.map(rounded),
            ttft_s: record.ttft().map(rounded),
            ttft_from_send_s: record.ttft_from_send().map(rounded),
            e2e_s: rounded(record.e2e()),
            e2e_from_send_s: rounded(record.e2e_from_send()),
            tpot_s: record.tpot().map(rounded),
            itl_s: record.gaps().map(rounded).collect(),
            prompt_tokens_asked: record.origin.prompt_asked,
            output_tokens_asked: record.origin.output_asked,
            prompt_tokens: record.counted.map(|counted| counted.prompt),
            cached_tokens: record.counted.map(|counted| counted.cached),
            output_tokens: record.output_tokens(),
            counted_by: if record.counted.is_some() {
                "usage"
            } else {
                "parts"
            },
        }
    }
}

#[cfg(test)]
pub mod testing {
    use super::*;

    /// A served request that was intended at `at`, sent 10 ms later, with parts 100 ms later and then every 50 ms.
    pub fn served(at: f64, parts: usize) -> Record {
        let origin = Origin {
            session: 0,
            turn: 0,
            key: 0,
            prompt_asked: 8,
            output_asked: parts as u32,
        };
        let mut record = Record::new(origin, at, at + 0.01);
        record.outcome = Outcome::Served;
        record.status = Some(200);
        record.parts = (0..parts).map(|n| at + 0.1 + 0.05 * n as f64).collect();
        record.ended = record.parts.last().copied().unwrap_or(at + 0.1);
        record.counted = Some(Counted {
            prompt: 10,
            cached: 0,
            output: parts as u64,
        });
        record
    }

    /// A request that was intended at `at` and refused after 20 ms.
    pub fn refused(at: f64) -> Record {
        let mut record = served(at, 0);
        record.outcome = Outcome::Refused;
        record.status = Some(429);
        record.code = Some("queue_full".to_owned());
        record.retry_after = Some(1.0);
        record.counted = None;
        record.ended = record.sent + 0.02;
        record
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::quantile::Sorted;

    fn median(record: &Record) -> Option<f64> {
        record.gaps().collect::<Sorted>().quantile(0.5)
    }

    fn near(value: Option<f64>, wanted: f64) -> bool {
        value.is_some_and(|value| (value - wanted).abs() < 1e-9)
    }

    #[test]
    fn times_count_from_the_intended_arrival() {
        let mut record = testing::served(2.0, 5);
        assert!(near(record.ttft(), 0.1) && near(record.ttft_from_send(), 0.09));
        assert!(near(Some(record.e2e()), 0.3) && near(Some(record.e2e_from_send()), 0.29));
        assert!(near(Some(record.lag()), 0.01) && near(record.tpot(), 0.05));
        assert_eq!(record.gaps().count(), 4);
        // Two tokens came in one part: the time per token says so, the gaps cannot.
        record.counted = Some(Counted {
            output: 9,
            ..Counted::default()
        });
        assert!(near(record.tpot(), 0.025) && near(median(&record), 0.05));
        record.parts.truncate(1);
        assert_eq!(median(&record), None);
        record.parts.clear();
        assert_eq!((record.ttft(), record.tpot()), (None, None));
    }

    #[test]
    fn a_line_has_its_names() {
        let record = testing::refused(1.0);
        let line = serde_json::to_value(RecordLine::of(&record, Some("light"), 4.0)).unwrap();
        assert_eq!(line["outcome"], "refused");
        assert_eq!(line["key"], "light");
        assert_eq!(line["e2e_s"], 0.03);
        assert_eq!(line["counted_by"], "parts");
        assert!(line["ttft_s"].is_null());
    }
}
