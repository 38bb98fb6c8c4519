//! What one key has used.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use actix_web::http::header::HeaderMap;

use super::Rules;
use super::bucket::Bucket;
use super::headers;
use crate::http::wire::ApiError;

/// The account of one key, or of all that have none. Clones share it.
#[derive(Debug, Clone)]
pub(in crate::http) struct Account(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    rules: Rules,
    used: Mutex<Used>,
}

#[derive(Debug)]
struct Used {
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
    running: usize,
}

impl Account {
    /// An account that nothing was used of.
    pub(in crate::http) fn new(rules: Rules, now: Instant) -> Self {
        let bucket = |rate: u64| (rate > 0).then(|| Bucket::new(rate, rules.burst, now));
        Account(Arc::new(Inner {
            rules,
            used: Mutex::new(Used {
                requests: bucket(rules.requests),
                tokens: bucket(rules.tokens),
                running: 0,
            }),
        }))
    }

    /// Its limits.
    pub(in crate::http) fn rules(&self) -> Rules {
        self.0.rules
    }

    /// Lets a request in, or says why not and when to come back.
    ///
    /// # Errors
    /// 429 `concurrency_limit_exceeded` or `rate_limit_exceeded`. A request that is refused is not counted.
    pub(in crate::http) fn enter(&self, now: Instant) -> Result<Permit, ApiError> {
        let rules = self.0.rules;
        let mut used = self.used();
        if rules.concurrent > 0 && used.running >= rules.concurrent {
            return Err(busy(rules.concurrent));
        }
        if let Some(wait) = used.tokens.as_mut().map(|tokens| tokens.until(1.0, now))
            && !wait.is_zero()
        {
            return Err(over("tokens", rules.tokens, wait));
        }
        if let Some(requests) = &mut used.requests {
            requests
                .take(1.0, now)
                .map_err(|wait| over("requests", rules.requests, wait))?;
        }
        used.running += 1;
        Ok(Permit(self.clone()))
    }

    /// Writes what is left into the headers of an answer, as OpenAI's API does.
    pub(in crate::http) fn show(&self, headers: &mut HeaderMap, now: Instant) {
        let mut used = self.used();
        let rules = self.0.rules;
        if let Some(requests) = &mut used.requests {
            headers::write(headers, "requests", rules.requests, requests, now);
        }
        if let Some(tokens) = &mut used.tokens {
            headers::write(headers, "tokens", rules.tokens, tokens, now);
        }
    }

    /// Tokens were used, by a request that was let in.
    pub(in crate::http) fn charge(&self, tokens: usize, now: Instant) {
        if let Some(bucket) = &mut self.used().tokens {
            bucket.charge(tokens as f64, now);
        }
    }

    fn used(&self) -> MutexGuard<'_, Used> {
        self.0.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that was let in, until its answer was sent or given up.
#[derive(Debug)]
#[must_use = "the request counts as over once this is dropped"]
pub(in crate::http) struct Permit(Account);

impl Drop for Permit {
    fn drop(&mut self) {
        let mut used = self.0.used();
        used.running = used.running.saturating_sub(1);
    }
}

fn busy(limit: usize) -> ApiError {
    let text = format!(
        "{limit} requests of this key are being answered, which is all that it may have at a time: wait for one to end"
    );
    ApiError::new(429, "concurrency_limit_exceeded", text).retry(1)
}

fn over(what: &str, rate: u64, wait: Duration) -> ApiError {
    // A client that comes back at the told second must not be early.
    let seconds = u32::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u32::MAX);
    let text = format!(
        "this key may use {rate} {what} a minute and has used them: try again in {seconds} s"
    );
    ApiError::new(429, "rate_limit_exceeded", text).retry(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules {
        requests: 60,
        tokens: 600,
        concurrent: 2,
        burst: Duration::from_secs(10),
    };

    fn code(account: &Account, now: Instant) -> Option<(&'static str, Option<u32>)> {
        account
            .enter(now)
            .err()
            .map(|error| (error.code, error.retry_after))
    }

    #[test]
    fn no_more_at_a_time_than_allowed() {
        let now = Instant::now();
        let account = Account::new(RULES, now);
        let first = account.enter(now).unwrap();
        let _second = account.enter(now).unwrap();
        assert_eq!(
            code(&account, now),
            Some(("concurrency_limit_exceeded", Some(1)))
        );
        drop(first);
        assert_eq!(code(&account, now), None);
    }

    #[test]
    fn requests_and_tokens_run_out_and_come_back() {
        let now = Instant::now();
        let account = Account::new(RULES, now);
        for _ in 0..10 {
            drop(account.enter(now).unwrap());
        }
        assert_eq!(code(&account, now), Some(("rate_limit_exceeded", Some(1))));
        let later = now + Duration::from_secs(5);
        assert_eq!(code(&account, later), None);
        account.charge(150, later);
        // 50 are owed: they and one more take 5.1 s at 10 a second.
        assert_eq!(
            code(&account, later),
            Some(("rate_limit_exceeded", Some(6)))
        );
        let mut headers = HeaderMap::new();
        account.show(&mut headers, later);
        let text = |name: &str| headers.get(name).unwrap().to_str().unwrap().to_owned();
        assert_eq!(text("x-ratelimit-limit-requests"), "60");
        assert_eq!(text("x-ratelimit-remaining-requests"), "4");
        assert_eq!(text("x-ratelimit-remaining-tokens"), "0");
        assert_eq!(text("x-ratelimit-reset-tokens"), "15s");
        assert_eq!(code(&account, later + Duration::from_secs(6)), None);
    }

    #[test]
    fn without_rules_nothing_is_refused_and_nothing_shown() {
        let now = Instant::now();
        let account = Account::new(Rules::default(), now);
        let permits: Vec<Permit> = (0..100).map(|_| account.enter(now).unwrap()).collect();
        account.charge(1 << 40, now);
        assert_eq!(code(&account, now), None);
        let mut headers = HeaderMap::new();
        account.show(&mut headers, now);
        assert!(headers.is_empty());
        drop(permits);
    }
}
