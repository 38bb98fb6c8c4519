//! The loss on the data held back.

use super::{TrainError, Trainer, pass};
use crate::data::{Batches, BitsPerByte, Cursor};

impl Trainer {
    /// The mean loss in nats a token that counts, and bits a byte, of the rows held back, at most `evaluation.rows`.
    pub(super) fn held(&mut self) -> Result<(f64, Option<f64>), TrainError> {
        let Some(held) = self.supply.held.clone() else {
            return Ok((f64::NAN, None));
        };
        let rows = self.plan.micro_rows as usize;
        let mut options = self.supply.batches(&self.recipe, self.plan.packing, rows);
        options.shuffle = false;
        options.epochs = Some(1);
        let most = self.recipe.evaluation.rows.unwrap_or(u64::MAX);
        let (mut nats, mut counted, mut seen) = (0.0, 0.0, 0);
        let mut bits = BitsPerByte::default();
        for loaded in Batches::new(held, options, Cursor::default())? {
            if seen >= most {
                break;
            }
            let batch = loaded?.batch;
            seen += batch.rows as u64;
            let pass = pass(batch);
            let losses = self.network.evaluate(&pass)?;
            let objective = &pass.objective;
            for ((loss, target), weight) in losses
                .iter()
                .zip(&objective.targets)
                .zip(&objective.weights)
            {
                nats += f64::from(loss * weight);
                counted += f64::from(*weight);
                if *weight > 0.0 {
                    bits.add(
                        f64::from(*loss),
                        self.supply
                            .bytes
                            .get(*target as usize)
                            .copied()
                            .unwrap_or(0),
                    );
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
