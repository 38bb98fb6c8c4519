//! From a checkpoint's bytes to tensors of the compute type, shape by shape checked.

use tch::{Kind, Tensor};

use super::names::Part;
use super::{Compute, LlamaError, ModelConfig};
use crate::kernels::{Matrix, Slabs};
use crate::store::Checkpoint;

/// What is read, and for whom; threads may share it.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    checkpoint: &'a Checkpoint,
    config: &'a ModelConfig,
    compute: Compute,
}

impl<'a> Source<'a> {
    /// Reads it into memory of its own.
    pub(super) fn weights(self) -> Weights<'a> {
        Weights::new(self.checkpoint, self.config, self.compute)
    }
}

/// Reads tensors of one checkpoint for one device.
pub(super) struct Weights<'a> {
    checkpoint: &'a Checkpoint,
    config: &'a ModelConfig,
    compute: Compute,
    gguf: bool,
    /// Where what is packed lies.
    slabs: Slabs,
}

/// Bytes of packed weights that lie beside each other: many matrices, of which each alone would be less than a large page.
const SLAB: usize = 32 << 20;

impl<'a> Weights<'a> {
    pub(super) fn new(
        checkpoint: &'a Checkpoint,
        config: &'a ModelConfig,
        compute: Compute,
    ) -> Self {
        Weights {
            checkpoint,
            config,
            compute,
            gguf: checkpoint.metadata().is_some(),
            slabs: Slabs::new(SLAB),
        }
    }

    /// What is read, for threads of their own.
    pub(super) fn source(&self) -> Source<'a> {
        Source {
            checkpoint: self.checkpoint,
            config: self.config,
            compute: self.compute,
        }
    }

    /// What it is read for.
    pub(super) fn compute(&self) -> Compute {
        self.compute
    }

    /// The weight of `part`, in the compute type.
    pub(super) fn weight(&self, part: Part, shape: &[usize]) -> Result<Tensor, LlamaError> {
        let tensor = self.read(&format!("{}.weight", part.name(self.gguf)), shape)?;
        let tensor = self.straighten(part, tensor)?;
        Ok(tensor
            .f_to_kind(self.compute.kind)?
            .f_to_device(self.compute.device)?)
    }

    /// The weight of a norm: always float32, for it multiplies the float32 residual stream.
    pub(super) fn norm(&self, part: Part) -> Result<Tensor, LlamaError> {
        let name = format!("{}.weight", part.name(self.gguf));
        let tensor = self.read(&name, &[self.config.hidden])?;
        Ok(tensor.f_to_device(self.compute.device)?)
    }

    /// The weight of `part` at its own width, for the kernels; `None` when they do not read its type.
    pub(super) fn packed(
        &self,
        part: Part,
        rows: usize,
        cols: usize,
    ) -> Result<Option<Matrix>, LlamaError> {
        let name = format!("{}.weight", part.name(self.gguf));
        let Some(info) = self.checkpoint.get(&name) else {
            // The error that names it is the tensors' own.
            return self.read(&name, &[rows, cols]).map(|_| None);
        };
        if info.shape != [rows, cols] {
            return Err(LlamaError::Shape {
                name,
                found: info.shape.clone(),
                expected: vec![rows, cols],
            });
        }
        let Some(format) = super::packed::format(info.dtype) else {
            return Ok(None);
        };
        let bytes = self.checkpoint.bytes(&name)?;
        let mut matrix = Matrix::from_blocks_in(&self.slabs, format, rows, cols, bytes)
            .map_err(|error| LlamaError::Packing(format!("{name}: {error}")))?;
        if let Some(order) = straight_rows(self.config, part, rows) {
            matrix.permute_rows(&order);
        }
        Ok(Some(matrix))
    }

    /// The weight of a norm on the host.
    pub(super) fn norm_floats(&self, part: Part) -> Result<Vec<f32>, LlamaError> {
        let name = format!("{}.weight", part.name(self.gguf));
        Ok(Vec::try_from(self.read(&name, &[self.config.hidden])?)?)
    }

    /// The bias of `part` on the host, when the file has one.
    pub(super) fn bias_floats(
        &self,
        part: Part,
        size: usize,
    ) -> Result<Option<Vec<f32>>, LlamaError> {
        let name = format!("{}.bias", part.name(self.gguf));
        if self.checkpoint.get(&name).is_none() {
            return Ok(None);
        }
        let tensor = self.straighten(part, self.read(&name, &[size])?)?;
        Ok(Some(Vec::try_from(tensor)?))
    }

    /// The bias of `part`, when the file has one.
    pub(super) fn bias(&self, part: Part, size: usize) -> Result<Option<Tensor>, LlamaError> {
        let name = format!("{}.bias", part.name(self.gguf));
        if self.checkpoint.get(&name).is_none() {
            return Ok(None);
        }
        let tensor = self.straighten(part, self.read(&name, &[size])?)?;
        Ok(Some(
            tensor
                .f_to_kind(self.compute.kind)?
                .f_to_device(self.compute.device)?,
        ))
    }

    /// Whether the file has a weight of `part`.
    pub(super) fn has(&self, part: Part) -> bool {
        let name = format!("{}.weight", part.name(self.gguf));
        self.checkpoint.get(&name).is_some()
    }

    /// The divisors of the rotary frequencies that a GGUF file carries for Llama 3 scaling.
    pub(super) fn rope_factors(&self) -> Result<Option<Vec<f32>>, LlamaError> {
        if self.checkpoint.get("rope_freqs.weight").is_none() {
            return Ok(None);
        }
        let expected = [self.config.head_dim / 2];
        let factors: Vec<f32> = Vec::try_from(self.read("rope_freqs.weight", &expected)?)?;
        Ok(Some(factors))
    }

    fn read(&self, name: &str, shape: &[usize]) -> Result<Tensor, LlamaError> {
        if let Some(info) = self.checkpoint.get(name).filter(|info| info.shape != shape) {
            return Err(LlamaError::Shape {
                name: name.to_owned(),
                found: info.shape.clone(),
                expected: shape.to_vec(),
            });
        }
        let mut values = Vec::new();
        self.checkpoint.read_f32(name, &mut values)?;
        let shape: Vec<i64> = shape.iter().map(|&n| n as i64).collect();
        Ok(Tensor::f_from_slice(&values)?.f_reshape(shape)?)
    }

    /// llama.cpp's converter stores the rows of a head for interleaved rotation: (0, 1), (2, 3), ... rotate
    /// together. Here the first half rotates with the second, so the pairs are pulled apart.
    fn straighten(&self, part: Part, tensor: Tensor) -> Result<Tensor, LlamaError> {
        let heads = match part {
            Part::Query(_) => self.config.heads,
            Part::Key(_) => self.config.kv_heads,
            _ => return Ok(tensor),
        };
        if !self.config.interleaved_rope {
            return Ok(tensor);
        }
        let shape = tensor.size();
        let split = [heads as i64, (self.config.head_dim / 2) as i64, 2, -1];
        Ok(tensor
            .f_reshape(split)?
            .f_transpose(1, 2)?
            .f_reshape(shape)?)
    }
}

/// The order of rows that turns the rows of `part` as a file of this configuration stores them into those that rotate
/// by halves: row `i` comes from the `i`-th of these. `None` when they lie so already.
pub(crate) fn straight_rows(config: &ModelConfig, part: Part, rows: usize) -> Option<Vec<usize>> {
    let heads = match part {
        Part::Query(_) => config.heads,
        Part::Key(_) => config.kv_heads,
        _ => return None,
    };
    if !config.interleaved_rope {
        return None;
    }
    let dim = rows / heads;
    let half = dim / 2;
    let row = |index: usize| {
        let (head, inside) = (index / dim, index % dim);
        head * dim + 2 * (inside % half) + inside / half
    };
    Some((0..rows).map(row).collect())
}

/// Bytes of a tensor.
pub(super) fn bytes(tensor: &Tensor) -> usize {
    tensor.numel() * tensor.kind().elt_size_in_bytes()
}

/// The dot-product type: float32 tensors stay as they are.
pub(super) fn to_kind(tensor: &Tensor, kind: Kind) -> Result<Tensor, tch::TchError> {
    if tensor.f_kind()? == kind {
        Ok(tensor.shallow_clone())
    } else {
        tensor.f_to_kind(kind)
    }
}
