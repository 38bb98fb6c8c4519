//! Lessons from data: batches to learn from, and the loss on what was held back.

use serde_json::Value;

use super::supply::Supply;
use super::teacher::Lesson;
use super::{TrainError, pass};
use crate::data::{Batches, BitsPerByte, Cursor, Loader};
use crate::train::network::{Moment, Network};
use crate::train::plan::Plan;
use crate::train::recipe::Recipe;

/// Encoded data, and the place in it.
pub(super) struct Lessons {
    supply: Supply,
    cursor: Cursor,
    /// Reads ahead, once the run has begun.
    loader: Option<Loader>,
}

impl Lessons {
    pub(super) fn new(supply: Supply) -> Lessons {
        Lessons {
            supply,
            cursor: Cursor::default(),
            loader: None,
        }
    }

    pub(super) fn context(&self) -> u32 {
        self.supply.context
    }

    pub(super) fn judges(&self) -> bool {
        self.supply.held.is_some()
    }

    /// Rows of an epoch, and rows held back.
    pub(super) fn rows(&self, recipe: &Recipe) -> Result<(u64, u64), TrainError> {
        let packing = recipe.data.packing.unwrap_or(recipe.stage.packing());
        let options = self.supply.batches(recipe, packing, 1);
        let count = |corpus| -> Result<u64, TrainError> {
            Ok(options.plan(corpus, 0)?.batches.len() as u64)
        };
        let held = self.supply.held.as_deref();
        Ok((count(&self.supply.train)?, held.map_or(Ok(0), count)?))
    }

    pub(super) fn start(
        &mut self,
        recipe: &Recipe,
        plan: &Plan,
        place: Option<Value>,
    ) -> Result<(), TrainError> {
        if let Some(place) = place {
            self.cursor = serde_json::from_value(place).map_err(TrainError::place)?;
        }
        let rows = plan.micro_rows as usize;
        let options = self.supply.batches(recipe, plan.packing, rows);
        let ahead = recipe.data.prefetch as usize;
        let train = self.supply.train.clone();
        self.loader = Some(Loader::start(train, options, self.cursor.clone(), ahead)?);
        Ok(())
    }

    pub(super) fn place(&self) -> Result<Value, serde_json::Error> {
        serde_json::to_value(&self.cursor)
    }

    pub(super) fn learn(
        &mut self,
        network: &mut Network,
        plan: &Plan,
        step: u64,
    ) -> Result<Lesson, TrainError> {
        let mut lesson = Lesson::default();
        for micro_step in 0..plan.accumulation {
            let loaded = self.loader.as_mut().and_then(Iterator::next);
            let loaded = loaded.ok_or(TrainError::Ended { step })??;
            let learnt_from = loaded.batch.tokens as u64;
            let moment = Moment { step, micro_step };
            let cost = network.learn(&pass(loaded.batch), moment)?;
            lesson.loss += cost.loss_sum;
            lesson.divisor += cost.weight;
            lesson.tokens += learnt_from;
            let epoch = self.cursor.epoch;
            self.cursor = loaded.cursor;
            // The last group of an epoch steps with what there is.
            if self.cursor.epoch != epoch {
                break;
            }
        }
        Ok(lesson)
    }

    /// The mean loss in nats a token that counts, and bits a byte, of the rows held back, at most `evaluation.rows`.
    pub(super) fn held(
        &self,
        network: &mut Network,
        recipe: &Recipe,
        plan: &Plan,
    ) -> Result<(f64, Option<f64>), TrainError> {
        let Some(held) = self.supply.held.clone() else {
            return Ok((f64::NAN, None));
        };
        let rows = plan.micro_rows as usize;
        let mut options = self.supply.batches(recipe, plan.packing, rows);
        options.shuffle = false;
        options.epochs = Some(1);
        let most = recipe.evaluation.rows.unwrap_or(u64::MAX);
        let (mut nats, mut counted, mut seen) = (0.0, 0.0, 0);
        let mut bits = BitsPerByte::default();
        for loaded in Batches::new(held, options, Cursor::default())? {
            if seen >= most {
                break;
            }
            let batch = loaded?.batch;
            seen += batch.rows as u64;
            let pass = pass(batch);
            let losses = network.evaluate(&pass)?;
            let objective = &pass.objective;
            for ((loss, target), weight) in losses
                .iter()
                .zip(&objective.targets)
                .zip(&objective.weights)
            {
                nats += f64::from(loss * weight);
                counted += f64::from(*weight);
                if *weight > 0.0 {
                    let bytes = self.supply.bytes.get(*target as usize).copied();
                    bits.add(f64::from(*loss), bytes.unwrap_or(0));
                }
            }
        }
        let mean = match counted > 0.0 {
            true => nats / counted,
            false => f64::NAN,
        };
        Ok((mean, bits.value()))
    }
}
