//! How weights follow gradients.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How weights follow gradients, and how fast over the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Optim {
    /// Which optimiser.
    pub kind: OptimKind,
    /// The peak learning rate; with muon, that of all that is not a hidden matrix. Absent = from the stage and the shape.
    #[schemars(extend("exclusiveMinimum" = 0, "maximum" = 10, "examples" = [5e-5]))]
    pub lr: Option<f64>,
    /// The peak learning rate of hidden matrices, with muon; absent = from the batch.
    #[schemars(extend("exclusiveMinimum" = 0, "maximum" = 10, "examples" = [0.02]))]
    pub matrix_lr: Option<f64>,
    /// How much of itself a weight loses in a step, times the learning rate; absent = from the stage and the shape.
    #[schemars(range(min = 0.0, max = 10.0), extend("examples" = [0.01]))]
    pub weight_decay: Option<f64>,
    /// What a step leaves of the mean of gradients.
    #[schemars(extend("minimum" = 0, "exclusiveMaximum" = 1))]
    pub beta1: f64,
    /// What a step leaves of the mean of squared gradients; absent = 0.95 in pretraining, 0.999 elsewhere.
    #[schemars(extend("minimum" = 0, "exclusiveMaximum" = 1, "examples" = [0.999]))]
    pub beta2: Option<f64>,
    /// Added to the root of the mean square.
    #[schemars(extend("exclusiveMinimum" = 0, "maximum" = 1))]
    pub eps: f64,
    /// What a step leaves of muon's sum of gradients.
    #[schemars(extend("minimum" = 0, "exclusiveMaximum" = 1))]
    pub momentum: f64,
    /// The norm that longer gradients are scaled down to; 0 = none are.
    #[schemars(range(min = 0.0))]
    pub clip: f64,
    /// How the learning rate goes on after its warm-up.
    pub schedule: ScheduleKind,
    /// What an epoch leaves of the learning rate, with `schedule = "step"`.
    #[schemars(extend("exclusiveMinimum" = 0, "maximum" = 1))]
    pub gamma: f64,
    /// Steps over which the learning rate rises; absent = `warmup_ratio`, else 40 in pretraining, 0 elsewhere.
    #[schemars(range(min = 0), extend("examples" = [100]))]
    pub warmup_steps: Option<u64>,
    /// The share of the run over which it rises, in place of `warmup_steps`.
    #[schemars(range(min = 0.0, max = 1.0), extend("examples" = [0.03]))]
    pub warmup_ratio: Option<f64>,
    /// The share of the run, at its end, over which it falls, with `schedule = "trapezoid"`.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub warmdown_ratio: f64,
    /// What is left of the learning rate at the end, with cosine, linear and trapezoid.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub final_fraction: f64,
}

impl Default for Optim {
    fn default() -> Self {
        Optim {
            kind: OptimKind::Adamw,
            lr: None,
            matrix_lr: None,
            weight_decay: None,
            beta1: 0.9,
            beta2: None,
            eps: 1e-8,
            momentum: 0.95,
            clip: 1.0,
            schedule: ScheduleKind::Cosine,
            gamma: 0.85,
            warmup_steps: None,
            warmup_ratio: None,
            warmdown_ratio: 0.65,
            final_fraction: 0.0,
        }
    }
}

/// Which optimiser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OptimKind {
    /// [AdamW](https://arxiv.org/abs/1711.05101).
    Adamw,
    /// [Muon](https://kellerjordan.github.io/posts/muon/) for hidden matrices, AdamW for all else.
    Muon,
}

/// How the learning rate goes on after its warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ScheduleKind {
    /// As it is.
    Constant,
    /// Down a straight line.
    Linear,
    /// Down half a wave.
    Cosine,
    /// As it is, then down a straight line.
    Trapezoid,
    /// Times `gamma` after each epoch.
    Step,
}
