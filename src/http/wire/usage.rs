//! What an answer took: tokens and times.

use serde::Serialize;

use crate::sched::Usage;

/// Token counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(in crate::http) struct UsageOut {
    prompt_tokens: usize,
    completion_tokens: usize,
    total_tokens: usize,
    prompt_tokens_details: PromptDetails,
    completion_tokens_details: CompletionDetails,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct PromptDetails {
    cached_tokens: usize,
}

/// Guesses of the next tokens that the model checked, right and wrong ones.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
struct CompletionDetails {
    accepted_prediction_tokens: usize,
    rejected_prediction_tokens: usize,
}

impl UsageOut {
    /// The sum over choices; `first` says of each whether it is the first of its prompt, which is counted once.
    pub(in crate::http) fn sum<'a>(choices: impl Iterator<Item = (bool, &'a Usage)>) -> Self {
        let (mut prompt, mut cached, mut completion) = (0, 0, 0);
        let mut details = CompletionDetails::default();
        for (first, usage) in choices {
            if first {
                prompt += usage.prompt_tokens;
                cached += usage.cached_tokens;
            }
            completion += usage.completion_tokens;
            details.accepted_prediction_tokens += usage.accepted_tokens;
            details.rejected_prediction_tokens += usage.drafted_tokens - usage.accepted_tokens;
        }
        UsageOut {
            prompt_tokens: prompt,
            completion_tokens: completion,
            total_tokens: prompt + completion,
            prompt_tokens_details: PromptDetails {
                cached_tokens: cached,
            },
            completion_tokens_details: details,
        }
    }
}

/// How long it took, in milliseconds since the submission.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(in crate::http) struct Timings {
    queue_ms: f64,
    first_token_ms: f64,
    total_ms: f64,
    /// Of the total, while the request had to give way to others; left out when it never had to.
    #[serde(skip_serializing_if = "is_zero")]
    paused_ms: f64,
}

fn is_zero(time: &f64) -> bool {
    *time == 0.0
}

impl Timings {
    /// The longest of several choices.
    pub(in crate::http) fn longest<'a>(choices: impl Iterator<Item = &'a Usage>) -> Self {
        let ms = |time: std::time::Duration| time.as_micros() as f64 / 1e3;
        let nothing = Timings {
            queue_ms: 0.0,
            first_token_ms: 0.0,
            total_ms: 0.0,
            paused_ms: 0.0,
        };
        choices.fold(nothing, |most, usage| Timings {
            queue_ms: most.queue_ms.max(ms(usage.queue)),
            first_token_ms: most.first_token_ms.max(ms(usage.first_token)),
            total_ms: most.total_ms.max(ms(usage.total)),
            paused_ms: most.paused_ms.max(ms(usage.paused)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn usage(prompt: usize, completion: usize, total: u64) -> Usage {
        Usage {
            prompt_tokens: prompt,
            completion_tokens: completion,
            total: Duration::from_millis(total),
            ..Usage::default()
        }
    }

    #[test]
    fn a_prompt_of_several_choices_is_counted_once() {
        let (a, b, c) = (usage(5, 2, 10), usage(5, 3, 30), usage(7, 4, 20));
        let sum = UsageOut::sum([(true, &a), (false, &b), (true, &c)].into_iter());
        let sum = serde_json::to_value(sum).unwrap();
        assert_eq!(sum["prompt_tokens"], 12);
        assert_eq!(sum["completion_tokens"], 9);
        assert_eq!(sum["total_tokens"], 21);
        assert_eq!(sum["prompt_tokens_details"]["cached_tokens"], 0);
        let timings = Timings::longest([&a, &b, &c].into_iter());
        let told = serde_json::to_value(timings).unwrap();
        assert_eq!(told["total_ms"], 30.0);
        assert!(told.get("paused_ms").is_none(), "{told}");
        let paused = Usage {
            paused: Duration::from_millis(4),
            ..a
        };
        let timings = Timings::longest([&paused, &b].into_iter());
        assert_eq!(serde_json::to_value(timings).unwrap()["paused_ms"], 4.0);
    }
}
