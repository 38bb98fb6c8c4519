//! The settings section of sampling: what requests get that say nothing.

use serde::{Deserialize, Serialize};

use super::params::SamplingParams;
use super::raw::{BadParam, RawSampling};

/// What requests get that say nothing: what the default model's card recommends, for a small model wanders when it is
/// drawn from as freely as large ones are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Defaults {
    /// 0 to 2; 0 is greedy.
    pub temperature: f32,
    /// How many of the most probable tokens stay; 0 keeps all.
    pub top_k: u32,
    /// Above 0, up to 1.
    pub top_p: f32,
    /// 0 to 1.
    pub min_p: f32,
    /// Above 0, up to 2; 1 is off.
    pub repetition_penalty: f32,
    /// How many recent tokens penalties count.
    pub penalty_window: usize,
    /// Longest answer in tokens; without one the model's context is the bound.
    pub max_tokens: Option<u32>,
}

impl Default for Defaults {
    fn default() -> Self {
        Defaults {
            temperature: 0.2,
            top_k: 40,
            top_p: 0.9,
            min_p: 0.05,
            repetition_penalty: 1.0,
            penalty_window: 64,
            max_tokens: None,
        }
    }
}

impl Defaults {
    /// A request with what it leaves out filled in.
    pub fn fill(&self, raw: RawSampling) -> RawSampling {
        RawSampling {
            temperature: raw.temperature.or(Some(self.temperature)),
            top_k: raw.top_k.or(Some(i64::from(self.top_k))),
            top_p: raw.top_p.or(Some(self.top_p)),
            min_p: raw.min_p.or(Some(self.min_p)),
            repetition_penalty: raw.repetition_penalty.or(Some(self.repetition_penalty)),
            penalty_window: raw.penalty_window.or(Some(self.penalty_window)),
            ..raw
        }
    }

    /// Checks the section as if a request had said it.
    ///
    /// # Errors
    /// Those of [`SamplingParams::checked`].
    pub fn check(&self) -> Result<(), BadParam> {
        SamplingParams::checked(self.fill(RawSampling::default())).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_section_refuses_what_it_does_not_know() {
        let known: Defaults = serde_json::from_str(r#"{"top_k": 5}"#).unwrap();
        assert_eq!(
            known,
            Defaults {
                top_k: 5,
                ..Defaults::default()
            }
        );
        assert!(serde_json::from_str::<Defaults>(r#"{"topk": 5}"#).is_err());
        assert!(
            Defaults {
                top_p: 0.0,
                ..Defaults::default()
            }
            .check()
            .is_err()
        );
        known.check().unwrap();
    }
}
