//! Whether a reply is right.

use regex::Regex;

/// How a reply is compared with the answers, any of which will do.
#[derive(Debug, Clone)]
pub enum Metric {
    /// It is the answer, apart from space around both.
    Exact,
    /// It holds the answer.
    Contains,
    /// The number after its last `####`, or else its last number, is the answer's; commas do not count.
    Numeric,
    /// The first group (or all) of the last place where the expression matches is the answer.
    Regex(Regex),
    /// Each token of the answer is the most probable one after the prompt: nothing is generated. CORE's language
    /// modelling tasks are scored so.
    Greedy,
}

impl Metric {
    /// Its name in task files.
    pub fn name(&self) -> &'static str {
        match self {
            Metric::Exact => "exact",
            Metric::Contains => "contains",
            Metric::Numeric => "numeric",
            Metric::Regex(_) => "regex",
            Metric::Greedy => "greedy",
        }
    }

    /// Whether `reply` is one of `answers`. [`Metric::Greedy`] reads no reply, and then none is right.
    pub fn matches(&self, reply: &str, answers: &[String]) -> bool {
        let found = match self {
            Metric::Exact => Some(reply.trim()),
            Metric::Contains => {
                return answers.iter().any(|answer| reply.contains(answer.trim()));
            }
            Metric::Numeric => {
                let Some(number) = last_number(reply) else {
                    return false;
                };
                return answers
                    .iter()
                    .filter_map(|answer| last_number(answer))
                    .any(|answer| answer == number);
            }
            Metric::Regex(expression) => expression
                .captures_iter(reply)
                .last()
                .and_then(|captures| captures.get(1).or_else(|| captures.get(0)))
                .map(|found| found.as_str().trim()),
            Metric::Greedy => None,
        };
        found.is_some_and(|found| answers.iter().any(|answer| answer.trim() == found))
    }
}

/// The last number of `text`, or of what follows its last `####`, in a form in which equal numbers are equal.
pub(super) fn last_number(text: &str) -> Option<String> {
    let text = text.rsplit("####").next().unwrap_or(text);
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let end = (0..bytes.len()).rev().find(|&at| digit(at))? + 1;
    let mut start = end - 1;
    let mut point = false;
    while start > 0 {
        let before = start - 1;
        let inside = match bytes.get(before) {
            Some(b'0'..=b'9') => true,
            // A comma groups digits only where three of them follow.
            Some(b',') => {
                !point_follows(text, start)
                    && digit(before.wrapping_sub(1))
                    && group(bytes, start, end)
            }
            Some(b'.') if !point && begins_fraction(bytes, before) => {
                point = true;
                true
            }
            _ => false,
        };
        if !inside {
            break;
        }
        start = before;
    }
    let number: String = text
        .get(start..end)?
        .chars()
        .filter(|&c| c != ',')
        .collect();
    let (whole, fraction) = number.split_once('.').unwrap_or((&number, ""));
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    let fraction = fraction.trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    // A minus after a digit or a bracket is one between numbers.
    let mut before = text.get(..start)?.chars().rev();
    let minus = matches!(before.next(), Some('-' | '−'))
        && !before
            .next()
            .is_some_and(|c| c.is_alphanumeric() || c == ')');
    let zero = whole == "0" && fraction.is_empty();
    let sign = if minus && !zero { "-" } else { "" };
    Some(format!("{sign}{whole}{point}{fraction}"))
}

/// Whether the point at `at` is one of a number, rather than the end of a word before it.
fn begins_fraction(bytes: &[u8], at: usize) -> bool {
    let before = at.checked_sub(1).and_then(|before| bytes.get(before));
    before
        .is_none_or(|byte| byte.is_ascii_digit() || !byte.is_ascii_alphanumeric() && *byte != b'.')
}

fn point_follows(text: &str, at: usize) -> bool {
    text.get(at..).is_some_and(|rest| rest.starts_with('.'))
}

/// Whether exactly three digits stand from `start` on, before `end` or a comma or a point.
fn group(bytes: &[u8], start: usize, end: usize) -> bool {
    let digits = bytes
        .get(start..end)
        .unwrap_or_default()
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    digits == 3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found() {
        for (text, number) in [
            ("so 12 apples.", Some("12")),
            ("#### 1,234", Some("1234")),
            ("#### 72 and then 5\n#### 8", Some("8")),
            ("$1,234,567.50", Some("1234567.5")),
            ("1, 2, 3", Some("3")),
            ("1,2", Some("2")),
            ("x = -07.0", Some("-7")),
            ("5-3", Some("3")),
            ("-0", Some("0")),
            ("3.5.", Some("3.5")),
            (".5", Some("0.5")),
            ("about -.50", Some("-0.5")),
            ("v.5", Some("5")),
            ("...5", Some("5")),
            ("none", None),
            ("", None),
        ] {
            assert_eq!(last_number(text).as_deref(), number, "{text}");
        }
    }

    #[test]
    fn replies_are_compared() {
        let last = Metric::Regex(Regex::new(r"answer is (\w+)").unwrap());
        let whole = Metric::Regex(Regex::new(r"[A-D]").unwrap());
        for (metric, reply, answers, right) in [
            (&Metric::Exact, " yes\n", vec!["yes"], true),
            (&Metric::Exact, "yes.", vec!["yes"], false),
            (&Metric::Exact, "no", vec!["yes", "no"], true),
            (&Metric::Contains, "oh yes.", vec!["yes"], true),
            (&Metric::Contains, "oh no.", vec!["yes"], false),
            (&Metric::Numeric, "It is 1,000.0", vec!["1000"], true),
            (&Metric::Numeric, "It is ten", vec!["10"], false),
            (&Metric::Numeric, "10", vec!["11", "x"], false),
            (&last, "answer is x; no, answer is y", vec!["y"], true),
            (&last, "y", vec!["y"], false),
            (&whole, "C or B", vec!["B"], true),
            (&Metric::Greedy, "y", vec!["y"], false),
        ] {
            let answers: Vec<String> = answers.into_iter().map(str::to_owned).collect();
            assert_eq!(
                metric.matches(reply, &answers),
                right,
                "{} {reply}",
                metric.name()
            );
        }
    }
}
