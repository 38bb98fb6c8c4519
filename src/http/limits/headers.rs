//! `x-ratelimit-*`, as OpenAI's API sends them
//! (<https://platform.openai.com/docs/guides/rate-limits#rate-limits-in-headers>).

use std::time::{Duration, Instant};

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};

use super::bucket::Bucket;

/// Names of all of them, for pages of other origins.
pub(in crate::http) const SHOWN: &str = "x-ratelimit-limit-requests, x-ratelimit-remaining-requests, x-ratelimit-reset-requests, \
     x-ratelimit-limit-tokens, x-ratelimit-remaining-tokens, x-ratelimit-reset-tokens";

/// Writes the three of one bucket.
pub(super) fn write(
    headers: &mut HeaderMap,
    what: &str,
    limit: u64,
    bucket: &mut Bucket,
    now: Instant,
) {
    let values = [
        ("limit", limit.to_string()),
        ("remaining", bucket.left(now).to_string()),
        ("reset", spelled(bucket.reset(now))),
    ];
    for (part, value) in values {
        let name = HeaderName::try_from(format!("x-ratelimit-{part}-{what}"));
        if let (Ok(name), Ok(value)) = (name, HeaderValue::try_from(value)) {
            headers.insert(name, value);
        }
    }
}

/// A length of time in their way: `20ms`, `1s`, `6m0s`, `1h0m5s`.
fn spelled(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        return format!("{}ms", time.as_millis());
    }
    let seconds = time.as_millis().div_ceil(1000);
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{rest}s"),
        (0, _) => format!("{minutes}m{rest}s"),
        _ => format!("{hours}h{minutes}m{rest}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_spelled_as_in_go() {
        for (millis, text) in [
            (0, "0ms"),
            (20, "20ms"),
            (999, "999ms"),
            (1000, "1s"),
            (1001, "2s"),
            (360_000, "6m0s"),
            (3_605_000, "1h0m5s"),
        ] {
            assert_eq!(spelled(Duration::from_millis(millis)), text);
        }
    }
}
