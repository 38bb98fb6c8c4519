//! One file that says all of a run.
//!
//! A recipe is a TOML, YAML or JSON file of sections; `.config/train` has one for each stage. [`load`] reads it, applies
//! `key=value` overrides, refuses what is unknown, out of range or without effect with its file and line, and says where
//! each value came from. LlamaHome's `training_config.yaml` is read, too. What a recipe leaves open is filled in by
//! [`Plan`](super::plan::Plan), from the stage and the shape of the model.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )
)]

mod batch;
mod data;
mod error;
mod evaluation;
mod keeping;
mod layer;
mod llamahome;
mod load;
mod lora;
mod model;
mod node;
mod optim;
mod overrides;
mod place;
mod rl;
mod rules;
mod schema;
mod stage;
mod syntax;
#[cfg(test)]
mod tests;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use batch::{Batch, Horizon};
pub use data::{Data, Format, Packing, Paths, Source, Weighted};
pub use error::RecipeError;
pub use evaluation::{EarlyStopping, Evaluation, Watchdog};
pub use keeping::{Checkpoint, Export, ExportType, KeepBest, Logging};
pub use llamahome::Unused;
pub use load::{Loaded, load, parse};
pub use lora::{Freeze, Lora, QuantFormat, Quantisation};
pub use model::{Model, Tokenizer};
pub use optim::{Optim, OptimKind, ScheduleKind};
pub use place::Place;
pub use rl::Rl;
pub use schema::{Key, Keys, schema};
pub use stage::{Precision, Stage};

/// All that a run is told. Sections of a stage are there when the stage has them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// What the run is called, followed by a number; absent = its stage.
    #[serde(default)]
    pub name: Option<String>,
    /// What the run does to a model.
    pub stage: Stage,
    /// What all that is random follows from.
    #[serde(default = "seed")]
    #[schemars(range(min = 0, max = 9007199254740991_u64))]
    pub seed: u64,
    /// What products of matrices are computed in.
    #[serde(default)]
    pub precision: Precision,
    /// Whether a block's activations are computed again for its gradients, in place of being kept.
    #[serde(default)]
    pub recompute: bool,
    /// Which model is trained.
    #[serde(default)]
    pub model: Model,
    /// The tokenizer of a new model; pretraining only.
    #[serde(default)]
    pub tokenizer: Option<Tokenizer>,
    /// What is learned from.
    #[serde(default)]
    pub data: Data,
    /// How weights follow gradients.
    #[serde(default)]
    pub optim: Optim,
    /// How much a step learns from.
    #[serde(default)]
    pub batch: Batch,
    /// When the run ends.
    #[serde(default)]
    pub horizon: Horizon,
    /// Weights that stay as they are.
    #[serde(default)]
    pub freeze: Freeze,
    /// Adapters; lora, qlora and rl.
    #[serde(default)]
    pub lora: Option<Lora>,
    /// How the model under adapters is stored; qlora only.
    #[serde(default)]
    pub quantisation: Option<Quantisation>,
    /// Rewards; rl only.
    #[serde(default)]
    pub rl: Option<Rl>,
    /// What is measured on the way.
    #[serde(default)]
    pub evaluation: Evaluation,
    /// What is saved to go on from.
    #[serde(default)]
    pub checkpoint: Checkpoint,
    /// When to end early; absent = never.
    #[serde(default)]
    pub early_stopping: Option<EarlyStopping>,
    /// When a run has gone wrong.
    #[serde(default)]
    pub watchdog: Watchdog,
    /// What is told of the run.
    #[serde(default)]
    pub logging: Logging,
    /// The model that the run leaves.
    #[serde(default)]
    pub export: Export,
}

fn seed() -> u64 {
    42
}

/// What a stage has that others have not.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Method<'a> {
    /// Text; a tokenizer when the model is new.
    Pretrain(Option<&'a Tokenizer>),
    /// Instructions, every weight.
    Sft,
    /// Instructions, adapters.
    Lora(&'a Lora),
    /// Instructions, adapters over a quantised model.
    Qlora(&'a Lora, &'a Quantisation),
    /// Rewards, every weight or adapters.
    Rl(&'a Rl, Option<&'a Lora>),
}

impl Recipe {
    /// The stage with its sections; `None` for a recipe that [`load`] did not make and that lacks one.
    pub fn method(&self) -> Option<Method<'_>> {
        Some(match self.stage {
            Stage::Pretrain => Method::Pretrain(self.tokenizer.as_ref()),
            Stage::Sft => Method::Sft,
            Stage::Lora => Method::Lora(self.lora.as_ref()?),
            Stage::Qlora => Method::Qlora(self.lora.as_ref()?, self.quantisation.as_ref()?),
            Stage::Rl => Method::Rl(self.rl.as_ref()?, self.lora.as_ref()),
        })
    }

    /// What runs of this recipe are called.
    pub fn run_name(&self) -> &str {
        self.name.as_deref().unwrap_or(self.stage.as_str())
    }

    /// The recipe as TOML, which [`load`] reads back as the same recipe.
    ///
    /// # Errors
    /// None that is known: the types all have a form in TOML.
    pub fn to_toml(&self) -> Result<String, RecipeError> {
        let written: serde_json::Value =
            serde_json::to_value(self).map_err(|error| RecipeError::Compose(error.to_string()))?;
        toml::to_string(&self.effective(written))
            .map_err(|error| RecipeError::Compose(error.to_string()))
    }

    /// Without absent keys, and without those that have no effect in this recipe and would be refused.
    fn effective(&self, mut tree: serde_json::Value) -> serde_json::Value {
        let mut drop = Vec::new();
        if self.model.base.is_some() {
            drop.extend(
                [
                    "depth",
                    "aspect_ratio",
                    "head_dim",
                    "kv_ratio",
                    "vocab_size",
                    "tied",
                    "context",
                ]
                .map(|name| ("model", name)),
            );
        }
        if self
            .tokenizer
            .as_ref()
            .is_some_and(|tokenizer| tokenizer.from.is_some())
        {
            drop.extend(["vocab_size", "max_chars", "doc_cap"].map(|name| ("tokenizer", name)));
        }
        if self.optim.kind == OptimKind::Adamw {
            drop.extend(["matrix_lr", "momentum"].map(|name| ("optim", name)));
        }
        if self.optim.schedule != ScheduleKind::Step {
            drop.push(("optim", "gamma"));
        }
        if self.optim.schedule != ScheduleKind::Trapezoid {
            drop.push(("optim", "warmdown_ratio"));
        }
        if matches!(
            self.optim.schedule,
            ScheduleKind::Constant | ScheduleKind::Step
        ) {
            drop.push(("optim", "final_fraction"));
        }
        if self.data.validation_path.is_some() {
            drop.push(("data", "validation_split"));
        }
        let Some(sections) = tree.as_object_mut() else {
            return tree;
        };
        if self.stage == Stage::Rl {
            sections.remove("data");
            sections.remove("watchdog");
        }
        if self.lora.is_some() {
            sections.remove("freeze");
        }
        for (section, name) in drop {
            if let Some(section) = sections.get_mut(section).and_then(|s| s.as_object_mut()) {
                section.remove(name);
            }
        }
        sections.retain(|_, value| !value.is_null());
        for section in sections.values_mut() {
            if let Some(section) = section.as_object_mut() {
                section.retain(|_, value| {
                    !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty())
                });
            }
        }
        sections.retain(|_, value| value.as_object().is_none_or(|section| !section.is_empty()));
        tree
    }
}
