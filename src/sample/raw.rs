//! What a request says about sampling, checked once.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use std::num::NonZeroU32;

use crate::ids::TokenId;

use super::defaults::Defaults;
use super::params::{Penalties, Sampling, SamplingParams};

/// Most alternatives that are told beside a token.
const MAX_LOGPROBS: u8 = 20;
/// Most tokens with a bias.
const MAX_BIASES: usize = 1024;
/// Most recent tokens that penalties count.
const MAX_WINDOW: usize = 1 << 16;

/// What a request says; what it leaves out is `None`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RawSampling {
    /// 0 to 2; 0 is greedy.
    pub temperature: Option<f32>,
    /// 0 and -1 keep all tokens.
    pub top_k: Option<i64>,
    /// Above 0, up to 1.
    pub top_p: Option<f32>,
    /// 0 to 1.
    pub min_p: Option<f32>,
    /// Above 0, up to 2.
    pub repetition_penalty: Option<f32>,
    /// -2 to 2.
    pub presence_penalty: Option<f32>,
    /// -2 to 2.
    pub frequency_penalty: Option<f32>,
    /// How many recent tokens penalties count, up to 65,536.
    pub penalty_window: Option<usize>,
    /// Any; without one the caller draws one beforehand, or it is 0.
    pub seed: Option<u64>,
    /// 0 to 20.
    pub logprobs: Option<u8>,
    /// -100 to 100 each, for at most 1,024 tokens.
    pub logit_bias: Vec<(TokenId, f32)>,
}

/// A parameter out of its range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{param} {reason}")]
pub struct BadParam {
    /// The parameter as a request names it.
    pub param: &'static str,
    /// What is wrong and what would be right.
    pub reason: String,
}

impl SamplingParams {
    /// Checks what a request says; what it leaves out is that of [`Defaults::default`]. Fill it
    /// with [`Defaults::fill`] first to use other ones.
    ///
    /// # Errors
    /// Names the first parameter that is not a number or is out of its range.
    pub fn checked(raw: RawSampling) -> Result<Self, BadParam> {
        let raw = Defaults::default().fill(raw);
        Ok(SamplingParams {
            sampling: sampling(&raw)?,
            penalties: penalties(&raw)?,
            logprobs: logprobs(raw.logprobs)?,
            seed: raw.seed.unwrap_or(0),
            logit_bias: biases(raw.logit_bias)?,
            constraint: None,
        })
    }
}

fn sampling(raw: &RawSampling) -> Result<Sampling, BadParam> {
    let temperature = within("temperature", raw.temperature.unwrap_or(1.0), 0.0, 2.0)?;
    let top_p = above_zero("top_p", raw.top_p.unwrap_or(1.0), 1.0)?;
    let min_p = within("min_p", raw.min_p.unwrap_or(0.0), 0.0, 1.0)?;
    let top_k = top_k(raw.top_k.unwrap_or(0))?;
    if temperature == 0.0 {
        return Ok(Sampling::Greedy);
    }
    Ok(Sampling::Random {
        temperature,
        top_k,
        top_p,
        min_p,
    })
}

fn penalties(raw: &RawSampling) -> Result<Penalties, BadParam> {
    let off = Penalties::default();
    let repetition = raw.repetition_penalty.unwrap_or(off.repetition);
    let window = raw.penalty_window.unwrap_or(off.window);
    if window > MAX_WINDOW {
        return Err(bad(
            "penalty_window",
            format!("is {window}, at most {MAX_WINDOW} is allowed"),
        ));
    }
    Ok(Penalties {
        repetition: above_zero("repetition_penalty", repetition, 2.0)?,
        presence: within(
            "presence_penalty",
            raw.presence_penalty.unwrap_or(0.0),
            -2.0,
            2.0,
        )?,
        frequency: within(
            "frequency_penalty",
            raw.frequency_penalty.unwrap_or(0.0),
            -2.0,
            2.0,
        )?,
        window,
    })
}

fn top_k(raw: i64) -> Result<Option<NonZeroU32>, BadParam> {
    match u32::try_from(raw) {
        Ok(k) => Ok(NonZeroU32::new(k)),
        Err(_) if raw == -1 => Ok(None),
        Err(_) => Err(bad(
            "top_k",
            format!("is {raw}, use a whole number from 1, or 0 for all"),
        )),
    }
}

fn logprobs(raw: Option<u8>) -> Result<Option<u8>, BadParam> {
    match raw {
        Some(n) if n > MAX_LOGPROBS => Err(bad(
            "logprobs",
            format!("is {n}, at most {MAX_LOGPROBS} is allowed"),
        )),
        fine => Ok(fine),
    }
}

fn biases(raw: Vec<(TokenId, f32)>) -> Result<Vec<(TokenId, f32)>, BadParam> {
    if raw.len() > MAX_BIASES {
        let reason = format!("has {} tokens, at most {MAX_BIASES} are allowed", raw.len());
        return Err(bad("logit_bias", reason));
    }
    for (_, bias) in &raw {
        within("logit_bias", *bias, -100.0, 100.0)?;
    }
    Ok(raw)
}

fn within(param: &'static str, value: f32, low: f32, high: f32) -> Result<f32, BadParam> {
    if (low..=high).contains(&value) {
        return Ok(value);
    }
    Err(bad(
        param,
        format!("is {value}, use a number from {low} to {high}"),
    ))
}

fn above_zero(param: &'static str, value: f32, high: f32) -> Result<f32, BadParam> {
    if value > 0.0 && value <= high {
        return Ok(value);
    }
    Err(bad(
        param,
        format!("is {value}, use a number above 0, up to {high}"),
    ))
}

fn bad(param: &'static str, reason: String) -> BadParam {
    BadParam { param, reason }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_the_default() {
        let params = SamplingParams::checked(RawSampling::default()).unwrap();
        let expected = Sampling::Random {
            temperature: 0.2,
            top_k: NonZeroU32::new(40),
            top_p: 0.9,
            min_p: 0.05,
        };
        assert_eq!(params.sampling, expected);
        assert_eq!(params.penalties, Penalties::default());
        assert!(!params.penalties.are_on());
        let cold = Defaults {
            temperature: 0.0,
            ..Defaults::default()
        };
        let params = SamplingParams::checked(cold.fill(RawSampling::default())).unwrap();
        assert_eq!(params.sampling, Sampling::Greedy);
    }

    #[test]
    fn top_k_of_zero_or_minus_one_keeps_all() {
        for (raw, expected) in [(0, None), (-1, None), (7, NonZeroU32::new(7))] {
            let raw = RawSampling {
                top_k: Some(raw),
                ..RawSampling::default()
            };
            let params = SamplingParams::checked(raw).unwrap();
            assert!(matches!(params.sampling, Sampling::Random { top_k, .. } if top_k == expected));
        }
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        let nothing = RawSampling::default;
        let cases = [
            (
                "temperature",
                RawSampling {
                    temperature: Some(2.1),
                    ..nothing()
                },
            ),
            (
                "temperature",
                RawSampling {
                    temperature: Some(f32::NAN),
                    ..nothing()
                },
            ),
            (
                "temperature",
                RawSampling {
                    temperature: Some(-0.1),
                    ..nothing()
                },
            ),
            (
                "top_k",
                RawSampling {
                    top_k: Some(-2),
                    ..nothing()
                },
            ),
            (
                "top_k",
                RawSampling {
                    top_k: Some(1 << 40),
                    ..nothing()
                },
            ),
            (
                "top_p",
                RawSampling {
                    top_p: Some(0.0),
                    ..nothing()
                },
            ),
            (
                "top_p",
                RawSampling {
                    top_p: Some(f32::INFINITY),
                    ..nothing()
                },
            ),
            (
                "min_p",
                RawSampling {
                    min_p: Some(1.1),
                    ..nothing()
                },
            ),
            (
                "repetition_penalty",
                RawSampling {
                    repetition_penalty: Some(0.0),
                    ..nothing()
                },
            ),
            (
                "presence_penalty",
                RawSampling {
                    presence_penalty: Some(3.0),
                    ..nothing()
                },
            ),
            (
                "frequency_penalty",
                RawSampling {
                    frequency_penalty: Some(-3.0),
                    ..nothing()
                },
            ),
            (
                "penalty_window",
                RawSampling {
                    penalty_window: Some(1 << 20),
                    ..nothing()
                },
            ),
            (
                "logprobs",
                RawSampling {
                    logprobs: Some(21),
                    ..nothing()
                },
            ),
            (
                "logit_bias",
                RawSampling {
                    logit_bias: vec![(1, f32::NAN)],
                    ..nothing()
                },
            ),
            (
                "logit_bias",
                RawSampling {
                    logit_bias: vec![(1, 0.0); 1025],
                    ..nothing()
                },
            ),
        ];
        for (param, raw) in cases {
            assert_eq!(
                SamplingParams::checked(raw.clone()).unwrap_err().param,
                param,
                "{raw:?}"
            );
        }
    }
}
