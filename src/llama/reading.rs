//! What the queries of a row mean for the scores of those that came before.

use crate::kv::{self, Fast, Policy};
use crate::sched::Phase;

/// What a row of tokens means for scores: set before its layers are computed.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    /// The weight of each query for the second score.
    pub(super) weights: Vec<f32>,
    /// What the second score keeps of what it was before the row; within it, before each query.
    pub(super) keep_row: f32,
    pub(super) keep_query: f32,
}

impl Reading {
    /// What query `token` of the row means, as a row of its own.
    pub(super) fn of_one(&self, token: usize) -> Self {
        let keep = match token {
            0 => self.keep_row,
            _ => self.keep_query,
        };
        Reading {
            weights: self.weights.get(token).copied().into_iter().collect(),
            keep_row: keep,
            keep_query: keep,
        }
    }

    /// A row of `tokens` under `policy`; `mid_prompt` when the row before it was of the same prompt.
    pub(super) fn of(policy: &Policy, tokens: usize, phase: Phase, mid_prompt: bool) -> Self {
        let fast = policy.need().fast;
        let Phase::Prompt { left } = phase else {
            let keep = fast.step();
            return Reading {
                weights: vec![f32::from(keep.is_some()); tokens],
                keep_row: keep.unwrap_or(1.0),
                keep_query: keep.unwrap_or(1.0),
            };
        };
        match fast {
            Fast::Decay(decay) => Reading {
                weights: (0..tokens)
                    .map(|i| decay.powi((tokens - 1 - i) as i32))
                    .collect(),
                keep_row: decay.powi(tokens as i32),
                keep_query: decay,
            },
            // Only the newest query counts, whatever was observed before.
            Fast::LastRow => Reading {
                weights: (0..tokens).map(|i| f32::from(i + 1 == tokens)).collect(),
                keep_row: 0.0,
                keep_query: 0.0,
            },
            Fast::Nothing | Fast::Window(_) | Fast::WindowThenDecay { .. } => {
                // In bounded memory, every chunk ends as a prompt does.
                let streaming = policy.reading == kv::Reading::Streaming;
                let left = if streaming { 0 } else { left };
                let window = policy.need().window();
                Reading {
                    weights: (0..tokens)
                        .map(|i| f32::from(tokens - 1 - i + left < window))
                        .collect(),
                    keep_row: f32::from(mid_prompt && !streaming),
                    keep_query: 1.0,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::Score;

    fn of(policy: &Policy, tokens: usize, phase: Phase, mid_prompt: bool) -> (Vec<f32>, f32, f32) {
        let reading = Reading::of(policy, tokens, phase, mid_prompt);
        (reading.weights, reading.keep_row, reading.keep_query)
    }

    #[test]
    fn a_window_is_the_end_of_the_prompt_wherever_chunks_end() {
        let snap = Policy::snapkv(16, 3, 1).unwrap();
        let left = |left| Phase::Prompt { left };
        assert_eq!(of(&snap, 4, left(9), false), (vec![0.0; 4], 0.0, 1.0));
        assert_eq!(
            of(&snap, 4, left(2), true),
            (vec![0.0, 0.0, 0.0, 1.0], 1.0, 1.0)
        );
        assert_eq!(of(&snap, 2, left(0), true), (vec![1.0, 1.0], 1.0, 1.0));
        let mut streamed = snap.clone();
        streamed.reading = kv::Reading::Streaming;
        assert_eq!(
            of(&streamed, 4, left(9), true),
            (vec![0.0, 1.0, 1.0, 1.0], 0.0, 1.0)
        );
        assert_eq!(of(&snap, 1, Phase::Decode, false), (vec![0.0], 1.0, 1.0));
    }

    #[test]
    fn decay_counts_in_a_chunk_as_step_by_step() {
        let decay = Policy::h2o(4, 4).unwrap().scored(Score::Decay(0.5));
        let prompt = Phase::Prompt { left: 5 };
        assert_eq!(
            of(&decay, 3, prompt, false),
            (vec![0.25, 0.5, 1.0], 0.125, 0.5)
        );
        assert_eq!(of(&decay, 1, Phase::Decode, false), (vec![1.0], 0.5, 0.5));
        let tova = Policy::tova(4, 0).unwrap();
        assert_eq!(of(&tova, 2, prompt, true), (vec![0.0, 1.0], 0.0, 0.0));
    }
}
