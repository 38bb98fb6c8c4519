//! What moves weights: AdamW, and Muon for the matrices of blocks.

mod error;
mod muon;
mod state;
#[cfg(test)]
mod tests;

pub use error::OptimizerError;
pub use state::Saved;

use serde::{Deserialize, Serialize};

use super::network::{Parameter, ParameterMut, Processor, Role};
use crate::kernels::training::{AdamW, adamw, sum_of_squares};
use state::State;

/// Which rule moves what. The rates of a step come with the step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimizerSpec {
    /// Moves the matrices of blocks by Muon (<https://kellerjordan.github.io/posts/muon/>), the rest by AdamW.
    pub muon: bool,
    /// How slowly AdamW's mean of gradients follows; 0 <= beta1 < 1.
    pub beta1: f32,
    /// How slowly AdamW's mean of squared gradients follows; 0 <= beta2 < 1.
    pub beta2: f32,
    /// What AdamW adds to the root of that mean.
    pub eps: f32,
}

impl Default for OptimizerSpec {
    fn default() -> Self {
        OptimizerSpec {
            muon: false,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
        }
    }
}

/// The rates of one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// AdamW's learning rate.
    pub lr: f32,
    /// Muon's learning rate.
    pub matrix_lr: f32,
    /// What fraction of a weight goes a step, times its learning rate; norms and biases keep theirs.
    pub weight_decay: f32,
    /// Muon's momentum; 0 <= momentum < 1.
    pub momentum: f32,
}

/// The size of a gradient, and what it is multiplied by to be no larger than allowed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Clipped {
    /// The Euclidean norm over all trained parameters, of the gradient as it is to be used, before clipping.
    pub norm: f64,
    /// What [`Optimizer::step`] multiplies the summed gradients by.
    pub scale: f32,
}

/// The state of training beside the weights.
#[derive(Debug)]
pub struct Optimizer {
    spec: OptimizerSpec,
    processor: Processor,
    /// Steps that were taken.
    steps: u64,
    /// Of the trained parameters, in their order.
    states: Vec<(String, State)>,
    muon: muon::Scratch,
}

impl Optimizer {
    /// For these parameters, of which the trained ones get a state; on the processor of their network.
    ///
    /// # Errors
    /// If a number of the rule is out of its range, or nothing is trained.
    pub fn new(
        spec: OptimizerSpec,
        parameters: &[Parameter<'_>],
        processor: Processor,
    ) -> Result<Self, OptimizerError> {
        for (field, value) in [("beta1", spec.beta1), ("beta2", spec.beta2)] {
            if !(0.0..1.0).contains(&value) {
                return Err(OptimizerError::Number {
                    field,
                    value,
                    range: "at least 0 and below 1",
                });
            }
        }
        if !(spec.eps > 0.0 && spec.eps.is_finite()) {
            return Err(OptimizerError::Number {
                field: "eps",
                value: spec.eps,
                range: "above 0",
            });
        }
        let trained = parameters.iter().filter(|p| p.trainable);
        let state = |p: &Parameter<'_>| {
            let muon = spec.muon && p.role == Role::Matrix;
            (p.name.to_owned(), State::new(muon, p.values.len()))
        };
        let states: Vec<_> = trained.map(state).collect();
        if states.is_empty() {
            return Err(OptimizerError::Nothing);
        }
        Ok(Optimizer {
            spec,
            processor,
            steps: 0,
            states,
            muon: muon::Scratch::default(),
        })
    }

    /// Which rule moves what.
    pub fn spec(&self) -> &OptimizerSpec {
        &self.spec
    }

    /// Steps that were taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The norm of the gradients times `factor`, which is one over the sum of weights where the mean is wanted, and the
    /// scale that makes them that mean and at most `max_norm` long. Changes nothing. A norm that is not finite gives a
    /// scale that is not, and the caller should not step with it.
    pub fn clip(
        &self,
        parameters: &[Parameter<'_>],
        factor: f64,
        max_norm: Option<f64>,
    ) -> Clipped {
        let (level, pool) = (self.processor.level, &*self.processor.pool);
        let trained = parameters.iter().filter(|p| p.trainable);
        let squares: f64 = trained
            .map(|p| sum_of_squares(level, pool, p.gradient))
            .sum();
        let norm = squares.sqrt() * factor;
        let shrink = match max_norm {
            Some(most) if norm.is_nan() || norm > most => most / norm,
            _ => 1.0,
        };
        Clipped {
            norm,
            scale: (factor * shrink) as f32,
        }
    }

    /// Moves the trained parameters against their gradients times `scale`.
    ///
    /// # Errors
    /// If these are not the parameters that it was made for; nothing is moved then.
    pub fn step(
        &mut self,
        parameters: &mut [ParameterMut<'_>],
        rates: Rates,
        scale: f32,
    ) -> Result<(), OptimizerError> {
        let mut trained: Vec<_> = parameters.iter_mut().filter(|p| p.trainable).collect();
        if trained.len() != self.states.len() {
            return Err(OptimizerError::Count {
                expected: self.states.len(),
                found: trained.len(),
            });
        }
        for (parameter, (name, state)) in trained.iter().zip(&self.states) {
            if parameter.name != name || parameter.values.len() != state.len() {
                return Err(OptimizerError::Parameter {
                    expected: name.clone(),
                    found: parameter.name.to_owned(),
                });
            }
        }
        self.steps += 1;
        let (level, pool) = (self.processor.level, &*self.processor.pool);
        for (parameter, (_, state)) in trained.iter_mut().zip(&mut self.states) {
            let weight_decay = match parameter.role {
                Role::Norm | Role::Bias => 0.0,
                _ => rates.weight_decay,
            };
            match state {
                State::Adam { first, second } => {
                    let rule = AdamW {
                        lr: rates.lr,
                        beta1: self.spec.beta1,
                        beta2: self.spec.beta2,
                        eps: self.spec.eps,
                        weight_decay,
                        step: self.steps,
                        grad_scale: scale,
                    };
                    let (values, gradient) = (&mut *parameter.values, &*parameter.gradient);
                    adamw(level, pool, &rule, values, gradient, first, second);
                }
                State::Muon { momentum } => {
                    let step = muon::Step {
                        lr: rates.matrix_lr,
                        weight_decay,
                        momentum: rates.momentum,
                        scale,
                    };
                    muon::step(&self.processor, step, parameter, momentum, &mut self.muon);
                }
            }
        }
        Ok(())
    }

    /// All that a later [`Optimizer::restore`] needs.
    pub fn saved(&self) -> Vec<Saved<'_>> {
        let states = self.states.iter();
        states.flat_map(|(name, state)| state.saved(name)).collect()
    }

    /// Takes up the state that [`Optimizer::saved`] gave after `steps` steps; `read` gives the values of a name.
    ///
    /// # Errors
    /// Of `read`, and if a tensor is of another length; the state is unspecified then.
    pub fn restore<E: From<OptimizerError>>(
        &mut self,
        steps: u64,
        mut read: impl FnMut(&str) -> Result<Vec<f32>, E>,
    ) -> Result<(), E> {
        for (name, state) in &mut self.states {
            for (label, into) in state.parts(name) {
                let values = read(&label)?;
                if values.len() != into.len() {
                    return Err(E::from(OptimizerError::Length {
                        name: label,
                        expected: into.len(),
                        found: values.len(),
                    }));
                }
                into.copy_from_slice(&values);
            }
        }
        self.steps = steps;
        Ok(())
    }
}
