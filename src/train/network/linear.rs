//! Linears with the same input as one product, with their biases and adapters.

use super::Drawn;
use super::lora::{self, Adapter};
use super::processor::Processor;
use super::tensor::Tensor;
use crate::kernels::Aligned;
use crate::kernels::training::Arithmetic;

/// `y = x · Wᵀ + b`, plus what adapters add.
#[derive(Debug)]
pub(super) struct Linear {
    pub(super) weight: Tensor,
    pub(super) bias: Option<Tensor>,
    pub(super) adapters: Vec<Adapter>,
}

/// What linears compute with.
#[derive(Clone, Copy)]
pub(super) struct Compute<'a> {
    pub(super) processor: &'a Processor,
    pub(super) arithmetic: Arithmetic,
    /// What dropout is drawn from, while learning.
    pub(super) learning: Option<Drawn>,
}

/// Memory that linears take turns in.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    panel: Aligned,
    adapter: lora::Scratch,
}

impl Linear {
    pub(super) fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        let adapters = self.adapters.iter().flat_map(Adapter::tensors);
        [&self.weight].into_iter().chain(&self.bias).chain(adapters)
    }

    pub(super) fn tensors_mut(&mut self) -> impl Iterator<Item = &mut Tensor> {
        let adapters = self.adapters.iter_mut().flat_map(Adapter::tensors_mut);
        let own = [&mut self.weight].into_iter().chain(&mut self.bias);
        own.chain(adapters)
    }

    pub(super) fn is_trained(&self) -> bool {
        self.tensors().any(Tensor::is_trained)
    }

    /// `x` `[n, inputs]` -> `y` `[n, outputs]`, replaced or added to.
    pub(super) fn forward(
        &mut self,
        compute: Compute<'_>,
        x: &[f32],
        y: &mut [f32],
        add: bool,
        scratch: &mut Scratch,
    ) {
        let with = (compute.processor, compute.arithmetic);
        let width = self.weight.rows();
        self.weight.forward(with, x, y, add, &mut scratch.panel);
        if let Some(bias) = &self.bias {
            for row in y.chunks_exact_mut(width) {
                row.iter_mut().zip(bias.floats()).for_each(|(y, b)| *y += b);
            }
        }
        for adapter in &mut self.adapters {
            let y = (&mut *y, width);
            adapter.forward(with, compute.learning, x, y, &mut scratch.adapter);
        }
    }

    /// Adds to the gradients of what is trained, and replaces `dx`, if it is wanted. `x` is what went in.
    pub(super) fn back(
        &mut self,
        compute: Compute<'_>,
        x: &[f32],
        dy: &[f32],
        mut dx: Option<&mut [f32]>,
        scratch: &mut Scratch,
    ) {
        let with = (compute.processor, compute.arithmetic);
        let width = self.weight.rows();
        self.weight.learn(with, dy, x);
        if let Some((_, Some(gradient))) = self.bias.as_mut().map(Tensor::floats_and_gradient) {
            for row in dy.chunks_exact(width) {
                gradient.iter_mut().zip(row).for_each(|(g, dy)| *g += dy);
            }
        }
        if let Some(dx) = dx.as_deref_mut() {
            self.weight.back(with, dy, dx, false, &mut scratch.panel);
        }
        for adapter in &mut self.adapters {
            let dx = dx.as_deref_mut();
            adapter.back(
                with,
                compute.learning,
                x,
                (dy, width),
                dx,
                &mut scratch.adapter,
            );
        }
    }

    /// Copies of the weights with what adapters add, in order of the pieces.
    pub(super) fn merged(&self, processor: &Processor) -> Vec<(String, Vec<usize>, Vec<f32>)> {
        let mut first = 0;
        let mut merged = Vec::new();
        for (piece, shape, mut values) in self.weight.copies() {
            for adapter in self.adapters.iter().filter(|a| a.at() == first) {
                adapter.fold(processor, &mut values);
            }
            first += piece.rows;
            merged.push((piece.name.clone(), shape, values));
        }
        let bias = self.bias.iter().flat_map(Tensor::copies);
        merged.extend(bias.map(|(piece, shape, values)| (piece.name.clone(), shape, values)));
        merged
    }
}
