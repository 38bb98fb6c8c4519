//! What a recipe leaves open, filled in from its stage, the shape of the model and the data.

use serde::Serialize;

use super::recipe::{Horizon, Packing, Recipe, ScheduleKind, Stage};
use super::scaling::{self, Rates, Shape};
use super::schedule::Schedule;

/// Tokens that go through the model at once when the recipe does not say how many.
pub(super) const MICRO_TOKENS: u64 = 4096;

/// What a plan needs to know besides the recipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// The model's shape.
    pub shape: Shape,
    /// Tokens of a full row.
    pub row_tokens: u64,
    /// Rows of an epoch; in the stage rl, prompts.
    pub rows: u64,
    /// Rows held back.
    pub validation_rows: u64,
}

/// A key that the recipe left open.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Filled {
    /// The key.
    pub key: &'static str,
    /// What it is now.
    pub value: serde_json::Value,
    /// Where that comes from.
    pub why: String,
}

/// All figures of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Steps of the optimiser.
    pub steps: u64,
    /// Of an epoch, the last of them with what is left.
    pub epoch_steps: u64,
    /// Rows of a full step.
    pub rows: u64,
    /// Rows that go through the model at once.
    pub micro_rows: u64,
    /// How many times, for a full step.
    pub accumulation: u64,
    /// Tokens of a full step of full rows.
    pub step_tokens: u64,
    /// Peak rates and decay.
    pub rates: Rates,
    /// What a step leaves of the mean of squared gradients.
    pub beta2: f64,
    /// The course of the rates.
    pub schedule: Schedule,
    /// How samples become rows.
    pub packing: Packing,
    /// What the recipe left open, to be told.
    pub filled: Vec<Filled>,
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// There is nothing to learn from.
    #[error(
        "the data has no rows to train on: check data.path, and data.validation_split, which holds some back"
    )]
    NoRows,
    /// The data held back does not fill a batch.
    #[error(
        "the data held back has {rows} rows, and a batch has {batch}: raise data.validation_split or lower batch.micro_rows"
    )]
    Validation {
        /// Rows held back.
        rows: u64,
        /// Rows of a batch.
        batch: u64,
    },
    /// A step is not of whole rows.
    #[error("batch.tokens = {tokens} is no multiple of {unit}, the tokens of {micro} rows of {row}: use {} or {}", below(*.tokens, *.unit), .tokens.next_multiple_of(*.unit))]
    Tokens {
        /// What was asked for.
        tokens: u64,
        /// What it must be a multiple of.
        unit: u64,
        /// Rows that go through at once, if they were given.
        micro: u64,
        /// Tokens of a row.
        row: u64,
    },
    /// A step does not divide into batches.
    #[error("batch.accumulation = {accumulation} does not divide the {rows} rows of a step")]
    Accumulation {
        /// Rows of a step.
        rows: u64,
        /// What was asked for.
        accumulation: u64,
    },
    /// The rate would never reach its peak.
    #[error(
        "optim.warmup_steps = {warmup} is more than the {steps} steps of the run: lower it, or use optim.warmup_ratio"
    )]
    Warmup {
        /// What was asked for.
        warmup: u64,
        /// Steps of the run.
        steps: u64,
    },
}

fn below(tokens: u64, unit: u64) -> u64 {
    (tokens / unit.max(1)).max(1) * unit
}

/// Steps of the optimiser for `batches` that are added up `accumulation` at a time; what is left at the end steps, too.
pub fn steps_of(batches: u64, accumulation: u64) -> u64 {
    batches.div_ceil(accumulation.max(1))
}

impl Plan {
    /// Fills in what `recipe` leaves open.
    ///
    /// # Errors
    /// The recipe and the facts do not go together.
    pub fn of(recipe: &Recipe, facts: &Facts) -> Result<Plan, PlanError> {
        if facts.rows == 0 {
            return Err(PlanError::NoRows);
        }
        let mut open = Open {
            recipe,
            facts,
            filled: Vec::new(),
        };
        let horizon = open.horizon();
        let wanted = open.wanted_tokens(&horizon);
        let (rows, micro_rows) = open.batch(wanted)?;
        let accumulation = steps_of(rows, micro_rows);
        let step_tokens = rows * facts.row_tokens;
        let epoch_steps = match recipe.stage {
            Stage::Rl => facts.rows.div_ceil(open.groups()),
            _ => steps_of(facts.rows.div_ceil(micro_rows), accumulation),
        };
        let steps = open.steps(&horizon, epoch_steps, step_tokens);
        let tokens = steps as f64 * step_tokens as f64;
        let rates = open.rates(step_tokens, tokens);
        let beta2 = open.beta2();
        let schedule = open.schedule(steps, epoch_steps)?;
        let packing = open.packing();
        Ok(Plan {
            steps,
            epoch_steps,
            rows,
            micro_rows,
            accumulation,
            step_tokens,
            rates,
            beta2,
            schedule,
            packing,
            filled: open.filled,
        })
    }

    /// The recipe with everything filled in, from which the same plan follows.
    pub fn resolved(&self, recipe: &Recipe) -> Recipe {
        let mut full = recipe.clone();
        full.optim.lr = Some(self.rates.lr);
        full.optim.matrix_lr = self.rates.matrix_lr;
        full.optim.weight_decay = Some(self.rates.weight_decay);
        full.optim.beta2 = Some(self.beta2);
        full.optim.warmup_steps = Some(self.schedule.warmup);
        full.optim.warmup_ratio = None;
        full.batch.tokens = None;
        full.batch.accumulation = None;
        full.batch.micro_rows = Some(self.micro_rows);
        full.batch.rows = Some(self.rows).filter(|_| recipe.stage != Stage::Rl);
        full.horizon.steps = Some(self.steps);
        if recipe.stage != Stage::Rl {
            full.data.packing = Some(self.packing);
        }
        full
    }
}

/// A recipe while it is filled in.
struct Open<'a> {
    recipe: &'a Recipe,
    facts: &'a Facts,
    filled: Vec<Filled>,
}

impl Open<'_> {
    fn fill<T: Serialize + Copy>(
        &mut self,
        key: &'static str,
        value: T,
        why: impl Into<String>,
    ) -> T {
        self.filled.push(Filled {
            key,
            value: serde_json::json!(value),
            why: why.into(),
        });
        value
    }

    fn pretrains(&self) -> bool {
        self.recipe.stage == Stage::Pretrain
    }

    fn groups(&self) -> u64 {
        self.recipe.rl.as_ref().map_or(1, |rl| u64::from(rl.groups))
    }

    fn horizon(&mut self) -> Horizon {
        let mut horizon = self.recipe.horizon.clone();
        if horizon != Horizon::default() {
            return horizon;
        }
        match self.recipe.stage {
            Stage::Pretrain => {
                let why = "nanochat's tokens for each weight of blocks and output layer";
                horizon.ratio = Some(self.fill("horizon.ratio", 12.0, why));
            }
            Stage::Rl => horizon.epochs = Some(1.0),
            Stage::Sft | Stage::Lora | Stage::Qlora => {
                horizon.epochs = Some(self.fill(
                    "horizon.epochs",
                    3.0,
                    "LlamaHome's and llama-recipes' default",
                ));
            }
        }
        horizon
    }

    /// Tokens of the run as far as the horizon says them without the batch.
    fn wanted_tokens(&self, horizon: &Horizon) -> f64 {
        let epoch = self.facts.rows as f64 * self.facts.row_tokens as f64;
        let scaling = self.facts.shape.scaling_parameters() as f64;
        match (horizon.epochs, horizon.tokens, horizon.ratio) {
            (Some(epochs), ..) => epochs * epoch,
            (_, Some(tokens), _) => tokens as f64,
            (.., ratio) => ratio.unwrap_or(12.0) * scaling,
        }
    }

    /// Rows of a step, and rows that go through the model at once.
    fn batch(&mut self, wanted: f64) -> Result<(u64, u64), PlanError> {
        let batch = &self.recipe.batch;
        let row = self.facts.row_tokens.max(1);
        let unit = row * batch.micro_rows.unwrap_or(1);
        if let Some(tokens) = batch.tokens.filter(|tokens| !tokens.is_multiple_of(unit)) {
            let micro = batch.micro_rows.unwrap_or(1);
            return Err(PlanError::Tokens {
                tokens,
                unit,
                micro,
                row,
            });
        }
        let given = batch.tokens.map(|tokens| tokens / row).or(batch.rows);
        let both = batch
            .micro_rows
            .zip(batch.accumulation)
            .map(|(rows, times)| rows * times);
        let rows = match (self.recipe.stage, given.or(both)) {
            (Stage::Rl, _) => {
                let samples = self
                    .recipe
                    .rl
                    .as_ref()
                    .map_or(1, |rl| u64::from(rl.samples));
                self.groups() * samples
            }
            (_, Some(rows)) => rows,
            (Stage::Pretrain, None) => {
                let rows = (scaling::batch_tokens(wanted) / row).max(1);
                let rows =
                    rows.next_multiple_of(batch.micro_rows.or(batch.accumulation).unwrap_or(1));
                self.fill(
                    "batch.rows",
                    rows,
                    "nanochat's rule from the tokens of the run",
                )
            }
            (_, None) => {
                let rows =
                    16u64.next_multiple_of(batch.micro_rows.or(batch.accumulation).unwrap_or(1));
                self.fill("batch.rows", rows, "LlamaHome's 4 rows, added up 4 times")
            }
        };
        let micro = match (batch.micro_rows, batch.accumulation) {
            (Some(micro), _) => micro,
            (None, Some(accumulation)) if rows.is_multiple_of(accumulation) => rows / accumulation,
            (None, Some(accumulation)) => {
                return Err(PlanError::Accumulation { rows, accumulation });
            }
            (None, None) => {
                let held = match self.recipe.data.validates() && self.recipe.stage != Stage::Rl {
                    true => self.facts.validation_rows.max(1),
                    false => u64::MAX,
                };
                let most = (MICRO_TOKENS / row).clamp(1, rows).min(held);
                let fits = (1..=most)
                    .rev()
                    .find(|n| rows.is_multiple_of(*n))
                    .unwrap_or(1);
                let why =
                    format!("the most that divides the step and is about {MICRO_TOKENS} tokens");
                self.fill("batch.micro_rows", fits, why)
            }
        };
        let validates = self.recipe.stage != Stage::Rl && self.recipe.data.validates();
        if validates && self.facts.validation_rows < micro {
            return Err(PlanError::Validation {
                rows: self.facts.validation_rows,
                batch: micro,
            });
        }
        Ok((rows, micro))
    }

    fn steps(&mut self, horizon: &Horizon, epoch_steps: u64, step_tokens: u64) -> u64 {
        let tokens = match (horizon.tokens, horizon.ratio) {
            (Some(tokens), _) => Some(tokens as f64),
            (_, Some(ratio)) => Some(ratio * self.facts.shape.scaling_parameters() as f64),
            _ => None,
        };
        let by_epochs = horizon
            .epochs
            .map(|epochs| (epochs * epoch_steps as f64).ceil());
        let by_tokens = tokens.map(|tokens| (tokens / step_tokens.max(1) as f64).floor());
        let whole = by_epochs.or(by_tokens).map(|steps| steps.max(1.0) as u64);
        match (whole, horizon.steps) {
            (Some(whole), Some(most)) => whole.min(most),
            (None, Some(steps)) => steps,
            (Some(whole), None) => {
                self.fill("horizon.steps", whole, "from the horizon and the batch")
            }
            (None, None) => self.fill("horizon.steps", epoch_steps.max(1), "one epoch"),
        }
    }

    fn rates(&mut self, batch: u64, tokens: f64) -> Rates {
        let optim = &self.recipe.optim;
        let adapts = self.recipe.lora.is_some();
        let rule = scaling::rates(optim.kind, self.facts.shape.width, batch, tokens);
        let (fallback, why) = match (self.recipe.stage, adapts) {
            (Stage::Pretrain, _) => (
                rule,
                "the rule for new models, from width, batch and tokens",
            ),
            (Stage::Rl, false) => (
                Rates {
                    lr: 1e-5,
                    weight_decay: 0.0,
                    ..rule
                },
                "a fifth of fine-tuning's, as rewards are noisy",
            ),
            (Stage::Rl, true) => (
                Rates {
                    lr: 5e-5,
                    weight_decay: 0.0,
                    ..rule
                },
                "half of fine-tuning's with adapters, as rewards are noisy",
            ),
            (_, true) => (
                Rates {
                    lr: 1e-4,
                    weight_decay: 0.0,
                    ..rule
                },
                "llama-recipes' default",
            ),
            (_, false) => (
                Rates {
                    lr: 5e-5,
                    weight_decay: 0.01,
                    ..rule
                },
                "LlamaHome's default",
            ),
        };
        let (lr, matrix_lr, weight_decay) = (optim.lr, optim.matrix_lr, optim.weight_decay);
        Rates {
            lr: lr.unwrap_or_else(|| self.fill("optim.lr", fallback.lr, why)),
            matrix_lr: fallback.matrix_lr.map(|own| {
                matrix_lr.unwrap_or_else(|| {
                    self.fill("optim.matrix_lr", own, "the rule for muon, from the batch")
                })
            }),
            weight_decay: weight_decay
                .unwrap_or_else(|| self.fill("optim.weight_decay", fallback.weight_decay, why)),
        }
    }

    fn beta2(&mut self) -> f64 {
        match (self.recipe.optim.beta2, self.pretrains()) {
            (Some(beta2), _) => beta2,
            (None, true) => self.fill("optim.beta2", 0.95, "what pretraining of Llama uses"),
            (None, false) => self.fill("optim.beta2", 0.999, "LlamaHome's default"),
        }
    }

    fn schedule(&mut self, steps: u64, epoch_steps: u64) -> Result<Schedule, PlanError> {
        let optim = &self.recipe.optim;
        let share = |ratio: f64| (ratio * steps as f64).round() as u64;
        let warmup = match (optim.warmup_steps, optim.warmup_ratio) {
            (Some(warmup), _) if warmup > steps => return Err(PlanError::Warmup { warmup, steps }),
            (Some(warmup), _) => warmup,
            (None, Some(ratio)) => share(ratio),
            (None, None) if self.pretrains() => self.fill(
                "optim.warmup_steps",
                (steps / 10).min(40),
                "nanochat's 40, or a tenth of a short run",
            ),
            (None, None) => self.fill("optim.warmup_steps", 0, "fine-tuning starts at its peak"),
        };
        let warmdown = match optim.schedule {
            ScheduleKind::Trapezoid => share(optim.warmdown_ratio).min(steps - warmup),
            _ => 0,
        };
        Ok(Schedule {
            kind: optim.schedule,
            steps,
            warmup,
            warmdown,
            final_fraction: optim.final_fraction,
            gamma: optim.gamma,
            epoch_steps,
        })
    }

    fn packing(&mut self) -> Packing {
        let usual = self.recipe.stage.packing();
        let why = match (self.recipe.data.packing, self.recipe.stage) {
            (Some(packing), _) => return packing,
            // Nothing to tell.
            (None, Stage::Rl) => return usual,
            (None, Stage::Pretrain) => "text is read as one",
            (None, _) => "no sample is cut, and little is padding",
        };
        self.fill("data.packing", usual, why)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::super::recipe;
    use super::*;

    fn recipe(text: &str, overrides: &[&str]) -> Recipe {
        let overrides: Vec<String> = overrides.iter().map(|&text| text.to_owned()).collect();
        recipe::parse(Path::new("r.toml"), text, &overrides)
            .unwrap()
            .recipe
    }

    const SFT: &str = "stage = \"sft\"\n[model]\nbase = \"m\"\n[data]\npath = \"d\"\n";

    fn facts(rows: u64) -> Facts {
        let model = recipe::Model {
            depth: Some(12),
            ..recipe::Model::default()
        };
        Facts {
            shape: Shape::of_depth(&model, 32_768).unwrap(),
            row_tokens: 2048,
            rows,
            validation_rows: 100,
        }
    }

    #[test]
    fn r7_accumulation_steps() {
        assert_eq!((steps_of(5, 1), steps_of(5, 2)), (5, 3));
        let plan = |times: u32| {
            let times = format!("batch.accumulation={times}");
            let recipe = recipe(SFT, &["batch.micro_rows=4", &times, "horizon.epochs=1"]);
            Plan::of(&recipe, &facts(20)).unwrap()
        };
        assert_eq!((plan(1).steps, plan(2).steps), (5, 3));
        // 19 rows are five batches, too, the last one with three rows.
        let recipe = recipe(
            SFT,
            &[
                "batch.micro_rows=4",
                "batch.accumulation=2",
                "horizon.epochs=1",
            ],
        );
        assert_eq!(Plan::of(&recipe, &facts(19)).unwrap().steps, 3);
    }

    #[test]
    fn one_dial_gives_a_run() {
        let text = include_str!("../../.config/train/pretrain.toml");
        let plan = Plan::of(&recipe(text, &[]), &facts(10_000_000)).unwrap();
        assert_eq!(plan.step_tokens, 1 << 19);
        // As many as nanochat's model of this depth.
        assert_eq!(plan.steps, 2520);
        assert_eq!(plan.rates.matrix_lr, Some(0.02));
        assert_eq!((plan.schedule.warmup, plan.schedule.warmdown), (40, 1638));
        let keys: Vec<&str> = plan.filled.iter().map(|filled| filled.key).collect();
        assert_eq!(
            keys,
            [
                "batch.rows",
                "batch.micro_rows",
                "horizon.steps",
                "optim.lr",
                "optim.matrix_lr",
                "optim.weight_decay",
                "optim.beta2",
                "optim.warmup_steps",
                "data.packing"
            ]
        );
    }

    #[test]
    fn the_shipped_run_of_shakespeare() {
        let text = include_str!("../../.config/train/pretrain-shakespeare.toml");
        let recipe = recipe(text, &[]);
        let facts = Facts {
            shape: Shape::of_depth(&recipe.model, 1024).unwrap(),
            row_tokens: 256,
            rows: 1500,
            validation_rows: 160,
        };
        let plan = Plan::of(&recipe, &facts).unwrap();
        assert_eq!((plan.steps, plan.step_tokens, plan.rows), (1000, 4096, 16));
        assert_eq!(plan.rates.lr, 3e-3);
        let operations = facts.shape.flops_per_token(256) * 4096e3;
        assert!(operations < 7e13, "{operations}");
    }

    #[test]
    fn fine_tuning_has_defaults() {
        let plan = Plan::of(&recipe(SFT, &[]), &facts(160)).unwrap();
        assert_eq!((plan.rows, plan.micro_rows, plan.accumulation), (16, 2, 8));
        assert_eq!((plan.epoch_steps, plan.steps), (10, 30));
        assert_eq!((plan.rates.lr, plan.rates.weight_decay), (5e-5, 0.01));
        let lora = Plan::of(&recipe(SFT, &["stage=lora"]), &facts(160)).unwrap();
        assert_eq!(lora.rates.lr, 1e-4);
        let capped = Plan::of(
            &recipe(SFT, &["horizon.epochs=3", "horizon.steps=7"]),
            &facts(160),
        );
        assert_eq!(capped.unwrap().steps, 7);
        let rl = recipe(
            SFT,
            &["stage=rl", "data.path=null", "rl.groups=4", "rl.samples=8"],
        );
        let rl = Plan::of(&rl, &facts(10)).unwrap();
        assert_eq!((rl.rows, rl.epoch_steps, rl.steps), (32, 3, 3));
    }

    #[test]
    fn what_does_not_go_together_is_told() {
        let wrong = |overrides: &[&str], facts: Facts| {
            Plan::of(&recipe(SFT, overrides), &facts)
                .unwrap_err()
                .to_string()
        };
        assert!(wrong(&[], facts(0)).contains("no rows"));
        let tokens = wrong(&["batch.tokens=5000", "batch.micro_rows=2"], facts(9));
        assert!(tokens.ends_with("use 4096 or 8192"), "{tokens}");
        assert!(
            wrong(&["batch.rows=4", "batch.accumulation=3"], facts(9)).contains("does not divide")
        );
        assert!(wrong(&["optim.warmup_steps=100"], facts(9)).contains("more than the 3 steps"));
    }

    /// A validation set smaller than a batch.
    #[test]
    fn r11_validation_below_a_batch_is_refused() {
        let few = Facts {
            validation_rows: 3,
            ..facts(100)
        };
        let refused = Plan::of(&recipe(SFT, &["batch.micro_rows=4"]), &few);
        assert_eq!(refused, Err(PlanError::Validation { rows: 3, batch: 4 }));
        assert_eq!(
            Plan::of(
                &recipe(SFT, &["batch.rows=8"]),
                &Facts {
                    row_tokens: 512,
                    ..few
                }
            )
            .unwrap()
            .micro_rows,
            2
        );
    }

    proptest! {
        #[test]
        fn a_resolved_recipe_gives_the_same_plan(
            rows in 1u64..5000, micro in prop::option::of(1u64..9), steps in prop::option::of(50u64..900), stage in 0usize..3,
        ) {
            let mut recipe = recipe(SFT, &[["stage=sft", "stage=lora", "stage=qlora"][stage]]);
            recipe.batch.micro_rows = micro;
            recipe.horizon.steps = steps;
            let facts = facts(rows);
            let plan = Plan::of(&recipe, &facts).unwrap();
            let resolved = plan.resolved(&recipe);
            let again = Plan::of(&resolved, &facts).unwrap();
            prop_assert!(again.filled.is_empty(), "{:?}", again.filled);
            prop_assert_eq!(Plan { filled: Vec::new(), ..plan }, again);
            let read = recipe::parse(Path::new("r.toml"), &resolved.to_toml().unwrap(), &[]).unwrap();
            prop_assert_eq!(read.recipe, resolved);
        }
    }
}
