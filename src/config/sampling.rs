//! The `[sampling]` section belongs to `sample`; this is only its description for the table of keys.

use schemars::JsonSchema;

/// The same keys as [`crate::sample::Defaults`]; `keys::tests` fails when they differ.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "only its schema is read")]
pub(super) struct Described {
    /// How far from the most likely token the draw may stray; 0 always takes the most likely one, 2 is the most.
    temperature: f32,
    /// Draw among this many of the most likely tokens; 0 = all.
    top_k: u32,
    /// Draw among the most likely tokens that hold this share of the probability, above 0; 1 = all.
    top_p: f32,
    /// Drop tokens whose probability is below this share of the most likely one's; 0 = none.
    min_p: f32,
    /// Divide the score of tokens that occurred before by this, above 0 and up to 2; 1 = leave it.
    repetition_penalty: f32,
    /// Among how many of the newest tokens a token counts as having occurred before.
    penalty_window: usize,
    /// The longest answer in tokens; absent = what the context leaves.
    #[schemars(example = 512)]
    max_tokens: Option<u32>,
}
