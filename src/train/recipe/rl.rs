//! Learning from rewards.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Learning from rewards: several answers to each prompt are drawn, and those above their group's mean made likelier
/// ([GRPO](https://arxiv.org/abs/2402.03300) without its ratio clip and KL term).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rl {
    /// The task, which has prompts and scores answers: `arithmetic`, `spelling` or `gsm8k`, and settings after a colon.
    #[schemars(extend("examples" = ["arithmetic:operations=+-,max=20"]))]
    pub task: String,
    /// The file of a task that reads its problems.
    #[schemars(extend("examples" = ["data/gsm8k-train.jsonl"]))]
    pub path: Option<String>,
    /// Prompts of a step.
    #[schemars(range(min = 1, max = 65536))]
    pub groups: u32,
    /// Answers to each.
    #[schemars(range(min = 2, max = 4096))]
    pub samples: u32,
    /// The most tokens of an answer.
    #[schemars(range(min = 1, max = 1048576))]
    pub max_new_tokens: u32,
    /// How freely answers are drawn.
    #[schemars(extend("exclusiveMinimum" = 0, "maximum" = 2))]
    pub temperature: f64,
    /// From how many of the likeliest tokens; 0 = all.
    #[schemars(range(min = 0, max = 1048576))]
    pub top_k: u32,
    /// The reward of an answer in the required format whose content is wrong.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub format_reward: f64,
    /// The system prompt; absent = the model's own, if its chat template has one.
    #[schemars(extend("examples" = ["Answer inside <answer></answer>."]))]
    pub system_prompt: Option<String>,
    /// Held-out prompts of an evaluation, at most as many as the task holds out.
    #[schemars(range(min = 1, max = 1048576))]
    pub eval_prompts: u32,
}

impl Default for Rl {
    fn default() -> Self {
        Rl {
            task: "arithmetic".to_owned(),
            path: None,
            groups: 16,
            samples: 16,
            max_new_tokens: 256,
            temperature: 1.0,
            top_k: 50,
            format_reward: 0.1,
            system_prompt: None,
            eval_prompts: 400,
        }
    }
}
