//! The sampler of one sequence: what it has seen, and the choice of its next token.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::ids::TokenId;

use super::candidates::{Weights, draw};
use super::grammar::{Constraint, Matcher, Stuck};
use super::logits::{add_biases, first_of, largest, logsumexp, penalize, top_n};
use super::params::{Sampling, SamplingParams};
use super::recent::Recent;

/// The token that was chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// Its id.
    pub token: TokenId,
    /// Its log-probability and the alternatives, if the request asked for them.
    pub logprob: Option<TokenLogprob>,
}

/// Log-probabilities under the model's own distribution, before temperature, penalties and biases.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenLogprob {
    /// That of the chosen token.
    pub logprob: f32,
    /// The most probable tokens, best first; of equals the lower id.
    pub top: Vec<(TokenId, f32)>,
}

impl TokenLogprob {
    /// Of logits, whose log-sum is `sum`: that of the token and the best ones.
    fn of(own: Option<f32>, sum: f64, top: Vec<(TokenId, f32)>) -> Self {
        let of = |logit: f32| (f64::from(logit) - sum) as f32;
        TokenLogprob {
            logprob: of(own.unwrap_or(f32::NEG_INFINITY)),
            top: top
                .into_iter()
                .map(|(token, logit)| (token, of(logit)))
                .collect(),
        }
    }
}

/// Why no token can be chosen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChooseError {
    /// The model's output is broken.
    #[error(
        "the logits hold no finite maximum (nan, inf or nothing); the model's weights or its input are broken"
    )]
    NotFinite,
    /// The answer cannot be kept to its constraint.
    #[error(transparent)]
    Stuck(#[from] Stuck),
}

/// Chooses the tokens of one sequence. Two samplers with the same parameters that see the same
/// tokens and logits choose the same.
#[derive(Debug, Clone)]
pub struct Sampler {
    params: SamplingParams,
    draws: ChaCha8Rng,
    recent: Recent,
    matcher: Option<Matcher>,
}

impl Sampler {
    /// A sampler at the start of its sequence.
    pub fn new(params: SamplingParams) -> Self {
        let draws = ChaCha8Rng::seed_from_u64(params.seed);
        let window = if params.penalties.are_on() {
            params.penalties.window
        } else {
            0
        };
        Sampler {
            matcher: params.constraint.as_ref().map(Constraint::matcher),
            params,
            draws,
            recent: Recent::new(window),
        }
    }

    /// Counts a token of the prompt or of the answer towards the penalties.
    pub fn observe(&mut self, token: TokenId) {
        self.recent.push(token);
    }

    /// Chooses the next token from a row of logits (`[vocabulary]`), which biases and penalties
    /// change in place. Random sampling makes exactly one draw a call. The chosen token is not
    /// observed, but the constraint goes on with it.
    ///
    /// # Errors
    /// [`ChooseError::NotFinite`] when a logit is NaN or +inf, or all (that the constraint allows) are -inf;
    /// [`ChooseError::Stuck`] when the constraint cannot be kept to.
    pub fn choose(&mut self, logits: &mut [f32]) -> Result<Choice, ChooseError> {
        let before = largest(logits).ok_or(ChooseError::NotFinite)?;
        let told = self
            .params
            .logprobs
            .map(|n| (logsumexp(logits), top_n(logits, n.into())));
        let raw = told.is_some().then(|| logits.to_vec());
        let mut adjusted = self.adjust(logits);
        if let Some(matcher) = &mut self.matcher {
            matcher.restrict(logits)?;
            adjusted = true;
        }
        let most = if adjusted {
            largest(logits).ok_or(ChooseError::NotFinite)?
        } else {
            before
        };
        let token = match self.params.sampling {
            Sampling::Greedy => first_of(logits, most),
            Sampling::Random {
                temperature,
                top_k,
                top_p,
                min_p,
            } => {
                let weights = Weights {
                    logits,
                    most,
                    temperature,
                };
                let candidates = weights.candidates(top_k, top_p, min_p);
                draw(&candidates, unit(&mut self.draws))
            }
        };
        if let Some(matcher) = &mut self.matcher {
            matcher.advance(token)?;
        }
        let logprob = told.map(|(sum, top)| {
            let own = raw
                .as_deref()
                .and_then(|raw| raw.get(token as usize))
                .copied();
            TokenLogprob::of(own, sum, top)
        });
        Ok(Choice { token, logprob })
    }

    /// How probable `token` was before it was given, by a row of logits (`[vocabulary]`); `None` when those are broken.
    pub fn tell(&self, logits: &[f32], token: TokenId) -> Option<TokenLogprob> {
        largest(logits)?;
        let top = top_n(logits, self.params.logprobs.unwrap_or(0).into());
        let own = logits.get(token as usize).copied();
        Some(TokenLogprob::of(own, logsumexp(logits), top))
    }

    /// Applies biases and penalties; tells whether there were any.
    fn adjust(&self, logits: &mut [f32]) -> bool {
        add_biases(logits, &self.params.logit_bias);
        penalize(logits, self.recent.counts(), &self.params.penalties);
        !self.params.logit_bias.is_empty() || !self.recent.is_empty()
    }
}

/// A number in [0, 1) with 53 random bits.
fn unit(draws: &mut ChaCha8Rng) -> f64 {
    (draws.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::params::Penalties;
    use crate::sample::raw::RawSampling;
    use proptest::prelude::*;
    use std::num::NonZeroU32;

    fn random(temperature: f32, top_k: u32, top_p: f32, min_p: f32, seed: u64) -> SamplingParams {
        let top_k = NonZeroU32::new(top_k);
        let sampling = Sampling::Random {
            temperature,
            top_k,
            top_p,
            min_p,
        };
        SamplingParams {
            sampling,
            seed,
            ..SamplingParams::default()
        }
    }

    fn greedy(logits: &[f32]) -> Result<Choice, ChooseError> {
        Sampler::new(SamplingParams::default()).choose(&mut logits.to_vec())
    }

    #[test]
    fn greedy_takes_the_best_and_of_equals_the_lower_id() {
        assert_eq!(greedy(&[0.0, 3.0, 1.0, 3.0]).unwrap().token, 1);
        assert_eq!(greedy(&[f32::NEG_INFINITY, -7.0]).unwrap().token, 1);
        for bad in [
            vec![],
            vec![0.0, f32::NAN],
            vec![f32::INFINITY],
            vec![f32::NEG_INFINITY],
        ] {
            assert_eq!(greedy(&bad), Err(ChooseError::NotFinite), "{bad:?}");
        }
    }

    #[test]
    fn the_same_seed_draws_the_same_and_another_seed_does_not() {
        let row: Vec<f32> = (0..500).map(|i| (i % 7) as f32).collect();
        let run = |seed| {
            let mut sampler = Sampler::new(random(1.0, 0, 1.0, 0.0, seed));
            (0..20)
                .map(|_| sampler.choose(&mut row.clone()).unwrap().token)
                .collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }

    #[test]
    fn each_choice_makes_one_draw_whatever_is_cut() {
        let row = [1.0, 2.0, 3.0, 4.0];
        let mut one = Sampler::new(random(1.0, 1, 1.0, 0.0, 5));
        let mut all = Sampler::new(random(1.0, 0, 0.9, 0.1, 5));
        for _ in 0..3 {
            one.choose(&mut row.to_vec()).unwrap();
            all.choose(&mut row.to_vec()).unwrap();
        }
        assert_eq!(one.draws.next_u64(), all.draws.next_u64());
    }

    #[test]
    fn frequencies_follow_the_probabilities() {
        let row: Vec<f32> = [0.6f32, 0.3, 0.1].iter().map(|p| p.ln() * 2.0).collect();
        let mut sampler = Sampler::new(random(2.0, 0, 1.0, 0.0, 3));
        let mut seen = [0u32; 3];
        for _ in 0..20_000 {
            seen[sampler.choose(&mut row.clone()).unwrap().token as usize] += 1;
        }
        for (count, p) in seen.iter().zip([0.6, 0.3, 0.1]) {
            assert!((f64::from(*count) / 20_000.0 - p).abs() < 0.015, "{seen:?}");
        }
    }

    #[test]
    fn penalties_forget_what_left_the_window() {
        let penalties = Penalties {
            presence: 2.0,
            window: 2,
            ..Penalties::default()
        };
        let params = SamplingParams {
            penalties,
            ..SamplingParams::default()
        };
        let mut sampler = Sampler::new(params);
        let best = |sampler: &mut Sampler| sampler.choose(&mut [3.0, 2.0, 0.0]).unwrap().token;
        assert_eq!(best(&mut sampler), 0);
        sampler.observe(0);
        assert_eq!(best(&mut sampler), 1);
        sampler.observe(2);
        sampler.observe(2);
        assert_eq!(best(&mut sampler), 0);
    }

    #[test]
    fn log_probabilities_are_those_before_any_change() {
        let mut params = random(0.1, 1, 1.0, 0.0, 0);
        params.logprobs = Some(2);
        params.logit_bias = vec![(2, 100.0)];
        let row: Vec<f32> = [0.5f32, 0.3, 0.2].iter().map(|p| p.ln()).collect();
        let choice = Sampler::new(params).choose(&mut row.clone()).unwrap();
        let told = choice.logprob.unwrap();
        assert_eq!(choice.token, 2);
        assert!((told.logprob - 0.2f32.ln()).abs() < 1e-5);
        assert_eq!(
            told.top.iter().map(|(token, _)| *token).collect::<Vec<_>>(),
            [0, 1]
        );
        assert!((told.top[0].1 - 0.5f32.ln()).abs() < 1e-5);
    }

    proptest! {
        #[test]
        fn a_choice_is_never_a_masked_token(
            row in prop::collection::vec(prop_oneof![-20f32..20.0, Just(f32::NEG_INFINITY)], 1..300),
            temperature in prop_oneof![0.001f32..2.0, Just(0.0)],
            top_k in 0i64..50,
            top_p in 0.001f32..=1.0,
            min_p in 0f32..=1.0,
            seed in any::<u64>(),
        ) {
            let raw = RawSampling {
                temperature: Some(temperature),
                top_k: Some(top_k),
                top_p: Some(top_p),
                min_p: Some(min_p),
                seed: Some(seed),
                ..RawSampling::default()
            };
            let mut sampler = Sampler::new(SamplingParams::checked(raw).unwrap());
            match sampler.choose(&mut row.clone()) {
                Ok(choice) => prop_assert!(row[choice.token as usize].is_finite()),
                Err(_) => prop_assert!(row.iter().all(|x| !x.is_finite())),
            }
        }
    }
}
