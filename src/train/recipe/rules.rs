//! Which keys go together, and with which stage: a key that would have no effect is refused.

use std::path::Path;

use super::layer::Layer;
use super::{KeepBest, OptimKind, Place, Recipe, RecipeError, ScheduleKind, Stage, data::Packing};
use crate::eval::suite::{RewardError, RewardSpec};

/// A recipe with the keys that were given in it.
pub(super) struct Rules<'a> {
    pub path: &'a Path,
    pub recipe: &'a Recipe,
    pub layer: &'a Layer,
}

type Checked = Result<(), RecipeError>;

impl Rules<'_> {
    /// Checks all rules.
    pub fn check(&self) -> Checked {
        self.name()?;
        self.stage()?;
        self.model()?;
        self.data()?;
        self.optim()?;
        self.batch()?;
        self.horizon()?;
        self.ends()
    }

    fn given(&self, key: &str) -> Option<&Place> {
        self.layer.given.get(key).map(|(_, place)| place)
    }

    /// Refuses `key` if it was given.
    fn refuse(&self, key: &str, reason: &str) -> Checked {
        match self.given(key) {
            None => Ok(()),
            Some(place) => Err(RecipeError::Conflict {
                place: place.clone(),
                key: key.to_owned(),
                reason: reason.to_owned(),
            }),
        }
    }

    /// Refuses all keys of a section.
    fn refuse_section(&self, section: &str, reason: &str) -> Checked {
        let prefix = format!("{section}.");
        let keys = self.layer.given.keys();
        keys.filter(|key| key.starts_with(&prefix))
            .try_for_each(|key| self.refuse(key, reason))
    }

    fn missing(&self, key: &str, reason: &str) -> RecipeError {
        RecipeError::Missing {
            path: self.path.to_owned(),
            key: key.to_owned(),
            reason: reason.to_owned(),
        }
    }

    fn name(&self) -> Checked {
        match crate::train::runs::is_name(self.recipe.run_name()) {
            true => Ok(()),
            false => self.refuse(
                "name",
                "must be 1 to 48 letters, digits, - and _, as it names a folder",
            ),
        }
    }

    fn stage(&self) -> Checked {
        let stage = self.recipe.stage;
        let adapts = matches!(stage, Stage::Lora | Stage::Qlora);
        if !adapts && stage != Stage::Rl {
            let reason = "adapters belong to the stages lora, qlora and rl: change the stage or take the section out";
            self.refuse_section("lora", reason)?;
        }
        if stage != Stage::Qlora {
            let reason =
                "only adapters can be trained over a quantised model: the stage must be qlora";
            self.refuse_section("quantisation", reason)?;
        }
        if self.recipe.lora.is_some() {
            let reason = "under adapters the whole model is frozen: take the section out";
            self.refuse_section("freeze", reason)?;
        }
        if stage != Stage::Rl {
            self.refuse_section("rl", "rewards belong to the stage rl")?;
        }
        if stage == Stage::Rl {
            let reason = "in the stage rl the task has the prompts: rl.task and rl.path name it";
            self.refuse_section("data", reason)?;
            let reason = "in the stage rl, rl.groups and rl.samples say what a step learns from";
            self.refuse("batch.tokens", reason)?;
            self.refuse("batch.rows", reason)?;
            let reason = "in the stage rl, a run ends after horizon.steps";
            for key in ["horizon.epochs", "horizon.tokens", "horizon.ratio"] {
                self.refuse(key, reason)?;
            }
            self.task()?;
        }
        Ok(())
    }

    /// Whether there is such a task, and whether it has the file that is given.
    fn task(&self) -> Checked {
        let Some(rl) = &self.recipe.rl else {
            return Ok(());
        };
        let path = rl.path.as_deref().map(Path::new);
        let spec = RewardSpec::with(&rl.task, path, self.recipe.seed, rl.format_reward);
        let reason = match spec {
            Err(RewardError::Spec { why, .. }) => why,
            // The file is read when the run begins.
            _ => return Ok(()),
        };
        let keys = match (0.0..1.0).contains(&rl.format_reward) {
            true => ["rl.task", "rl.path"],
            false => ["rl.format_reward", "rl.task"],
        };
        let named = keys.iter().find(|key| self.given(key).is_some());
        self.refuse(named.unwrap_or(&"rl.task"), &reason)
    }

    fn model(&self) -> Checked {
        let model = &self.recipe.model;
        let shape = [
            "depth",
            "aspect_ratio",
            "head_dim",
            "kv_ratio",
            "vocab_size",
            "tied",
            "context",
        ];
        if self.recipe.stage != Stage::Pretrain && model.base.is_none() {
            let reason =
                "every stage but pretrain starts from a model: set model.base to its name or path";
            return Err(self.missing("model.base", reason));
        }
        if model.base.is_some() {
            let reason = "model.base has a shape and a tokenizer already: take one of the two out";
            for name in shape {
                self.refuse(&format!("model.{name}"), reason)?;
            }
            return self.refuse_section("tokenizer", reason);
        }
        if model.depth.is_none() {
            let reason =
                "say how many blocks the new model has, or which one to go on from with model.base";
            return Err(self.missing("model.depth", reason));
        }
        if !model.head_dim.is_multiple_of(2) {
            return self.refuse(
                "model.head_dim",
                "must be even: rotary embeddings turn pairs",
            );
        }
        if self
            .recipe
            .tokenizer
            .as_ref()
            .is_some_and(|tokenizer| tokenizer.from.is_some())
        {
            let reason = "tokenizer.from has its tokens already: nothing is trained";
            for name in ["vocab_size", "max_chars", "doc_cap"] {
                self.refuse(&format!("tokenizer.{name}"), reason)?;
            }
        }
        Ok(())
    }

    fn data(&self) -> Checked {
        let data = &self.recipe.data;
        if self.recipe.stage == Stage::Rl {
            return Ok(());
        }
        if data.path.is_some() && !data.mixture.is_empty() {
            let reason = "data.path names sources, too: write all of them as one or the other";
            return self.refuse("data.mixture", reason);
        }
        if data.sources().is_empty() {
            let reason = "name the files to learn from in data.path or data.mixture";
            return Err(self.missing("data.path", reason));
        }
        if data
            .sources()
            .iter()
            .any(|source| source.path.trim().is_empty())
        {
            let key = match data.path {
                Some(_) => "data.path",
                None => "data.mixture",
            };
            return self.refuse(key, "a path is empty");
        }
        if data.validation_path.is_some() {
            let reason =
                "data.validation_path has the data that is held back: take one of the two out";
            self.refuse("data.validation_split", reason)?;
        }
        if self.recipe.stage == Stage::Pretrain {
            let reason = "pretraining reads text as it is: there are no conversations to write";
            self.refuse("data.template", reason)?;
        } else if data.packing == Some(Packing::Concatenate) {
            let reason = "would cut conversations apart: use best_fit or padding";
            self.refuse("data.packing", reason)?;
        }
        Ok(())
    }

    fn optim(&self) -> Checked {
        let optim = &self.recipe.optim;
        if optim.kind == OptimKind::Adamw {
            let reason = "has no effect with adamw: set optim.kind = \"muon\" or take it out";
            self.refuse("optim.matrix_lr", reason)?;
            self.refuse("optim.momentum", reason)?;
        } else if self.recipe.lora.is_some() {
            let reason = "muon is for whole matrices: adapters are trained with adamw";
            self.refuse("optim.kind", reason)?;
        }
        let kind = optim.schedule;
        if kind != ScheduleKind::Step {
            self.refuse(
                "optim.gamma",
                "has an effect with optim.schedule = \"step\" only",
            )?;
        }
        if kind != ScheduleKind::Trapezoid {
            let reason = "has an effect with optim.schedule = \"trapezoid\" only";
            self.refuse("optim.warmdown_ratio", reason)?;
        }
        if matches!(kind, ScheduleKind::Constant | ScheduleKind::Step) {
            let reason = "has no effect with this optim.schedule";
            self.refuse("optim.final_fraction", reason)?;
        }
        if kind == ScheduleKind::Step && self.recipe.stage == Stage::Rl {
            let reason = "step follows epochs, which the stage rl has not";
            self.refuse("optim.schedule", reason)?;
        }
        if optim.warmup_steps.is_some() {
            let reason = "optim.warmup_steps says it: take one of the two out";
            self.refuse("optim.warmup_ratio", reason)?;
        }
        let falls = match kind {
            ScheduleKind::Trapezoid => optim.warmdown_ratio,
            _ => 0.0,
        };
        if optim.warmup_ratio.unwrap_or(0.0) + falls > 1.0 {
            let reason = "with optim.warmdown_ratio it is more than the whole run";
            self.refuse("optim.warmup_ratio", reason)?;
        }
        Ok(())
    }

    fn batch(&self) -> Checked {
        let batch = &self.recipe.batch;
        if batch.tokens.is_some() {
            let reason = "batch.tokens says how large a step is: take one of the two out";
            self.refuse("batch.rows", reason)?;
        }
        let whole = batch.tokens.or(batch.rows).is_some();
        if whole && batch.micro_rows.is_some() {
            let reason = "follows from the step and batch.micro_rows: take one of the three out";
            self.refuse("batch.accumulation", reason)?;
        }
        if let (Some(rows), Some(micro)) = (batch.rows, batch.micro_rows)
            && !rows.is_multiple_of(micro)
        {
            let reason = format!("must divide batch.rows = {rows}");
            self.refuse("batch.micro_rows", &reason)?;
        }
        Ok(())
    }

    fn horizon(&self) -> Checked {
        let horizon = &self.recipe.horizon;
        if horizon.epochs.is_some() {
            let reason = "horizon.epochs says when the run ends: take one of the two out";
            self.refuse("horizon.tokens", reason)?;
            self.refuse("horizon.ratio", reason)?;
        }
        if horizon.tokens.is_some() {
            let reason = "horizon.tokens says when the run ends: take one of the two out";
            self.refuse("horizon.ratio", reason)?;
        }
        if self.recipe.stage != Stage::Pretrain {
            let reason = "is for pretraining: say how many epochs or steps";
            self.refuse("horizon.ratio", reason)?;
        }
        Ok(())
    }

    /// What ends a run early, and what is kept.
    fn ends(&self) -> Checked {
        let rewards = self.recipe.stage == Stage::Rl;
        let best = self.recipe.checkpoint.keep_best;
        if best == KeepBest::Reward && !rewards {
            let reason = "rewards belong to the stage rl: use loss or off";
            return self.refuse("checkpoint.keep_best", reason);
        }
        if best == KeepBest::Loss && rewards {
            let reason = "the stage rl has rewards and no loss: use reward or off";
            return self.refuse("checkpoint.keep_best", reason);
        }
        if rewards {
            let reason = "the loss of the stage rl is no measure of it, and may be of either sign";
            for name in ["divergence", "patience", "window"] {
                self.refuse(&format!("watchdog.{name}"), reason)?;
            }
            return self.refuse(
                "evaluation.rows",
                "in the stage rl, rl.eval_prompts says how many",
            );
        }
        if !self.recipe.data.validates() {
            let reason = "nothing is held back to measure: set data.validation_split or data.validation_path";
            self.refuse_section("early_stopping", reason)?;
            self.refuse("evaluation.rows", reason)?;
            if best == KeepBest::Loss {
                self.refuse("checkpoint.keep_best", reason)?;
            }
        }
        Ok(())
    }
}
