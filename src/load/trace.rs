//! Arrivals and lengths that were recorded elsewhere.

use std::time::Duration;

use serde::Deserialize;

/// One request of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceRow {
    /// When it arrives, from the first one.
    pub at: Duration,
    /// Tokens of its prompt.
    pub prompt: u32,
    /// Tokens of its answer.
    pub output: u32,
}

/// How a trace is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TraceFormat {
    /// A JSON object a line.
    JsonLines,
    /// Comma-separated values under a heading.
    Csv,
}

/// Why a trace cannot be replayed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TraceError {
    /// A line that is no request.
    #[error(
        "line {line} of the trace: {reason}; each needs arrival_s (seconds), prompt_tokens and output_tokens"
    )]
    Line {
        /// Counted from 1, the heading too.
        line: u64,
        /// What is wrong.
        reason: String,
    },
    /// Nothing to replay.
    #[error("the trace has no requests")]
    Empty,
}

/// A line as it is written; the other names are those of Vajra's and of Mooncake's traces.
#[derive(Deserialize)]
struct Line {
    #[serde(alias = "arrived_at", alias = "arrival")]
    arrival_s: f64,
    #[serde(alias = "num_prefill_tokens", alias = "input_length")]
    prompt_tokens: u32,
    #[serde(alias = "num_decode_tokens", alias = "output_length")]
    output_tokens: u32,
}

/// Reads a trace. Its rows come in the order of their arrivals, of which the first is moved to 0; what else a line says
/// is passed over.
///
/// # Errors
/// The first line that is no request, or none at all.
pub fn parse_trace(text: &str, format: TraceFormat) -> Result<Vec<TraceRow>, TraceError> {
    let mut lines = match format {
        TraceFormat::JsonLines => json_lines(text)?,
        TraceFormat::Csv => csv_lines(text)?,
    };
    lines.sort_by(|a, b| a.arrival_s.total_cmp(&b.arrival_s));
    let first = lines.first().ok_or(TraceError::Empty)?.arrival_s;
    let rows = lines.iter().map(|line| TraceRow {
        // Checked: finite, and none is before the first.
        at: Duration::try_from_secs_f64(line.arrival_s - first).unwrap_or_default(),
        prompt: line.prompt_tokens,
        output: line.output_tokens,
    });
    Ok(rows.collect())
}

fn json_lines(text: &str) -> Result<Vec<Line>, TraceError> {
    let mut lines = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim().is_empty() {
            continue;
        }
        let read = serde_json::from_str(line).map_err(|error| error.to_string());
        lines.push(checked(number, read)?);
    }
    Ok(lines)
}

fn csv_lines(text: &str) -> Result<Vec<Line>, TraceError> {
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let mut lines = Vec::new();
    for (number, read) in (2..).zip(reader.deserialize()) {
        let number = match &read {
            Err(error) => error.position().map_or(number, csv::Position::line),
            Ok(_) => number,
        };
        lines.push(checked(number, read.map_err(|error| error.to_string()))?);
    }
    Ok(lines)
}

fn checked(number: u64, read: Result<Line, String>) -> Result<Line, TraceError> {
    let wrong = |reason: &str| TraceError::Line {
        line: number,
        reason: reason.to_owned(),
    };
    let line = read.map_err(|reason| wrong(&reason))?;
    // A century: far above any trace, far below what a clock can hold.
    if !(0.0..=3.2e9).contains(&line.arrival_s) {
        return Err(wrong("the arrival is not a number of seconds from 0 on"));
    }
    if line.prompt_tokens == 0 || line.output_tokens == 0 {
        return Err(wrong("a prompt and an answer have at least one token"));
    }
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: &[(u64, u32, u32)]) -> Vec<TraceRow> {
        let row = |&(ms, prompt, output): &(u64, u32, u32)| TraceRow {
            at: Duration::from_millis(ms),
            prompt,
            output,
        };
        rows.iter().map(row).collect()
    }

    #[test]
    fn both_formats_give_the_same_rows() {
        let wanted = rows(&[(0, 10, 5), (500, 30, 7), (2500, 20, 6)]);
        let json = "{\"arrival_s\": 1.5, \"prompt_tokens\": 10, \"output_tokens\": 5, \"user\": \"x\"}\n\n\
            {\"arrived_at\": 4, \"num_prefill_tokens\": 20, \"num_decode_tokens\": 6}\n\
            {\"arrival\": 2.0, \"input_length\": 30, \"output_length\": 7}\n";
        assert_eq!(parse_trace(json, TraceFormat::JsonLines).unwrap(), wanted);
        let csv = "user,arrived_at, num_prefill_tokens,num_decode_tokens\na,1.5,10,5\nb,4.0,20,6\nc,2,30,7\n";
        assert_eq!(parse_trace(csv, TraceFormat::Csv).unwrap(), wanted);
    }

    #[test]
    fn a_wrong_line_is_named() {
        let good = "{\"arrival_s\": 0, \"prompt_tokens\": 1, \"output_tokens\": 1}\n";
        for (bad, part) in [
            ("{\"arrival_s\": 0, \"prompt_tokens\": 1}", "output_tokens"),
            ("not json", "expected"),
            (
                "{\"arrival_s\": -1, \"prompt_tokens\": 1, \"output_tokens\": 1}",
                "seconds",
            ),
            (
                "{\"arrival_s\": 1e300, \"prompt_tokens\": 1, \"output_tokens\": 1}",
                "seconds",
            ),
            (
                "{\"arrival_s\": 1, \"prompt_tokens\": 0, \"output_tokens\": 1}",
                "at least one token",
            ),
        ] {
            let error = parse_trace(&format!("{good}{bad}"), TraceFormat::JsonLines).unwrap_err();
            let told = error.to_string();
            assert!(told.contains("line 2") && told.contains(part), "{told}");
        }
        let csv = "arrival_s,prompt_tokens,output_tokens\n0,1,1\n0,x,1\n";
        let told = parse_trace(csv, TraceFormat::Csv).unwrap_err().to_string();
        assert!(told.contains("line 3"), "{told}");
        for (text, format) in [
            ("", TraceFormat::JsonLines),
            ("arrival_s\n", TraceFormat::Csv),
        ] {
            assert_eq!(parse_trace(text, format), Err(TraceError::Empty));
        }
    }
}
