//! Low-rank adapters: <https://arxiv.org/abs/2106.09685>, in PEFT's names and shapes.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::NetworkError;
use super::dropout::Dropout;
use super::parameter::Role;
use super::processor::Processor;
use super::tensor::{Held, Piece, Tensor};
use crate::kernels::Aligned;
use crate::kernels::training::{Arithmetic, Strided, gemm, scale};

/// PEFT's word for all linears but the head.
const ALL: &str = "all-linear";

/// Which linears get adapters, and of which size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoraSpec {
    /// Columns between the two matrices of an adapter.
    pub rank: usize,
    /// An adapter's output is multiplied by `alpha / rank`.
    pub alpha: f32,
    /// The probability that a value of an adapter's input is dropped while learning.
    pub dropout: f32,
    /// `all-linear`, or patterns: a linear is taken when its name (`model.layers.0.self_attn.q_proj`) or the end of it
    /// after a dot matches one; `*` stands for any characters.
    pub targets: Vec<String>,
}

impl LoraSpec {
    pub(super) fn check(&self) -> Result<(), NetworkError> {
        if self.rank == 0 {
            return Err(NetworkError::option("lora.rank", "must be at least 1"));
        }
        if !self.alpha.is_finite() || self.alpha <= 0.0 {
            return Err(NetworkError::option("lora.alpha", "must be above 0"));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            let reason = "must be at least 0 and below 1";
            return Err(NetworkError::option("lora.dropout", reason));
        }
        match self.targets.is_empty() {
            true => Err(NetworkError::option(
                "lora.targets",
                "name at least one linear",
            )),
            false => Ok(()),
        }
    }

    /// What an adapter's output is multiplied by.
    pub fn scale(&self) -> f32 {
        self.alpha / self.rank as f32
    }

    /// Whether the linear called `name`, without `.weight`, gets an adapter.
    pub fn selects(&self, name: &str) -> bool {
        self.targets.iter().any(|target| takes(target, name))
    }

    /// The first pattern that takes none of `names`.
    pub(super) fn idle(&self, names: &[&str]) -> Option<&str> {
        let idle = |target: &&String| !names.iter().any(|name| takes(target, name));
        self.targets.iter().find(idle).map(String::as_str)
    }
}

fn takes(target: &str, name: &str) -> bool {
    let ends = || name.match_indices('.').map(|(at, _)| &name[at + 1..]);
    target == ALL || matches(target, name) || ends().any(|end| matches(target, end))
}

/// Whether `text` is `pattern`, in which `*` stands for any characters.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, tail)) => text.strip_prefix(head).is_some_and(|rest| {
            let cuts = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
            cuts.into_iter().any(|at| matches(tail, &rest[at..]))
        }),
    }
}

/// An adapter of some rows of a stacked linear.
#[derive(Debug)]
pub(super) struct Adapter {
    /// The first output.
    at: usize,
    down: Tensor,
    up: Tensor,
    scale: f32,
    dropout: f32,
    /// Among all linears: what its dropout is drawn from.
    number: u64,
    /// `[n, rank]` of the last forward pass, scaled.
    inner: Aligned,
}

/// Memory that adapters take turns in.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    dropped: Aligned,
    inner: Aligned,
    input: Aligned,
}

impl Adapter {
    /// Without effect: the first matrix is drawn as PEFT draws it, uniform within `1 / √inputs`, the second is 0.
    pub(super) fn new(
        spec: &LoraSpec,
        linear: &str,
        (at, rows, cols): (usize, usize, usize),
        (seed, number): (u64, u64),
    ) -> Adapter {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(number + 1);
        let bound = 1.0 / (cols as f32).sqrt();
        let drawn = (0..spec.rank * cols).map(|_| rng.random_range(-bound..bound));
        let named = |side: &str, rows| Piece {
            name: format!("base_model.model.{linear}.lora_{side}.weight"),
            rows,
        };
        let tensor = |piece, values, cols| {
            Tensor::new(
                vec![(piece, Held::Float(values))],
                Some(cols),
                Role::Adapter,
                true,
            )
        };
        Adapter {
            at,
            down: tensor(named("A", spec.rank), drawn.collect(), cols),
            up: tensor(named("B", rows), vec![0.0; rows * spec.rank], spec.rank),
            scale: spec.scale(),
            dropout: spec.dropout,
            number,
            inner: Aligned::default(),
        }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn tensors(&self) -> [&Tensor; 2] {
        [&self.down, &self.up]
    }

    pub(super) fn tensors_mut(&mut self) -> [&mut Tensor; 2] {
        [&mut self.down, &mut self.up]
    }

    fn dropout(&self, learning: Option<super::Drawn>) -> Option<Dropout> {
        let drawn = learning?;
        Dropout::new(self.dropout, drawn.seed, drawn.moment, self.number)
    }

    /// Adds to its columns of `y`, `[n, width]`.
    pub(super) fn forward(
        &mut self,
        (processor, arithmetic): (&Processor, Arithmetic),
        learning: Option<super::Drawn>,
        x: &[f32],
        (y, width): (&mut [f32], usize),
        scratch: &mut Scratch,
    ) {
        let (level, pool) = (processor.level, &*processor.pool);
        let (rank, rows, cols) = (self.down.rows(), self.up.rows(), self.down.cols());
        let n = x.len() / cols;
        let x = match self.dropout(learning) {
            None => x,
            Some(dropout) => {
                let dropped = scratch.dropped.take(x.len());
                dropout.apply(processor, x, dropped);
                dropped
            }
        };
        let inner = self.inner.take(n * rank);
        let down = Strided::new(self.down.floats(), rank, cols).transposed();
        let x = Strided::new(x, n, cols);
        gemm(level, pool, arithmetic, x, down, inner, rank, false);
        scale(level, pool, inner, self.scale);
        let up = Strided::new(self.up.floats(), rows, rank).transposed();
        let inner = Strided::new(inner, n, rank);
        gemm(
            level,
            pool,
            arithmetic,
            inner,
            up,
            &mut y[self.at..],
            width,
            true,
        );
    }

    /// Adds to its gradients, and to `dx` if it is wanted; `x` is the input of the last forward pass.
    pub(super) fn back(
        &mut self,
        (processor, arithmetic): (&Processor, Arithmetic),
        learning: Option<super::Drawn>,
        x: &[f32],
        (dy, width): (&[f32], usize),
        dx: Option<&mut [f32]>,
        scratch: &mut Scratch,
    ) {
        let (level, pool) = (processor.level, &*processor.pool);
        let (rank, rows, cols) = (self.down.rows(), self.up.rows(), self.down.cols());
        let n = x.len() / cols;
        let dropout = self.dropout(learning);
        let dy = Strided::with_step(&dy[self.at..], n, rows, width);
        let inner = Strided::new(self.inner.take(n * rank), n, rank);
        let (up, up_gradient) = self.up.floats_and_gradient();
        if let Some(gradient) = up_gradient {
            gemm(
                level,
                pool,
                arithmetic,
                dy.transposed(),
                inner,
                gradient,
                rank,
                true,
            );
        }
        let dinner = scratch.inner.take(n * rank);
        let up = Strided::new(up, rows, rank);
        gemm(level, pool, arithmetic, dy, up, dinner, rank, false);
        scale(level, pool, dinner, self.scale);
        let dinner = Strided::new(dinner, n, rank);
        let x = match dropout {
            None => x,
            Some(dropout) => {
                let dropped = scratch.dropped.take(x.len());
                dropout.apply(processor, x, dropped);
                dropped
            }
        };
        let x = Strided::new(x, n, cols);
        let (down, down_gradient) = self.down.floats_and_gradient();
        if let Some(gradient) = down_gradient {
            gemm(
                level,
                pool,
                arithmetic,
                dinner.transposed(),
                x,
                gradient,
                cols,
                true,
            );
        }
        let down = Strided::new(down, rank, cols);
        match (dx, dropout) {
            (None, _) => {}
            (Some(dx), None) => gemm(level, pool, arithmetic, dinner, down, dx, cols, true),
            (Some(dx), Some(dropout)) => {
                let input = scratch.input.take(n * cols);
                gemm(level, pool, arithmetic, dinner, down, input, cols, false);
                dropout.back(processor, input, dx);
            }
        }
    }

    /// Adds what it adds to the weight, `[rows, cols]`, to `weight`.
    pub(super) fn fold(&self, processor: &Processor, weight: &mut [f32]) {
        let (level, pool) = (processor.level, &*processor.pool);
        let (rank, rows, cols) = (self.down.rows(), self.up.rows(), self.down.cols());
        let mut scaled = self.up.floats().to_vec();
        scale(level, pool, &mut scaled, self.scale);
        let up = Strided::new(&scaled, rows, rank);
        let down = Strided::new(self.down.floats(), rank, cols);
        gemm(
            level,
            pool,
            Arithmetic::Float32,
            up,
            down,
            weight,
            cols,
            true,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_take_linears_as_peft_does() {
        let name = "model.layers.11.self_attn.q_proj";
        for (target, taken) in [
            ("q_proj", true),
            ("self_attn.q_proj", true),
            (name, true),
            ("all-linear", true),
            ("*_proj", true),
            ("model.layers.1*.q_proj", true),
            ("layers.11.*", true),
            ("proj", false),
            ("k_proj", false),
            ("model.layers.2*", false),
        ] {
            assert_eq!(takes(target, name), taken, "{target}");
        }
    }

    #[test]
    fn numbers_that_make_no_adapter_are_refused() {
        let sound = LoraSpec {
            rank: 8,
            alpha: 16.0,
            dropout: 0.0,
            targets: vec!["q_proj".to_owned(), "up".to_owned()],
        };
        sound.check().unwrap();
        assert_eq!(sound.idle(&["a.q_proj"]), Some("up"));
        type Change = fn(&mut LoraSpec);
        let broken: [(Change, &str); 4] = [
            (|s| s.rank = 0, "rank"),
            (|s| s.alpha = f32::NAN, "alpha"),
            (|s| s.dropout = 1.0, "dropout"),
            (|s| s.targets.clear(), "targets"),
        ];
        for (change, part) in broken {
            let mut spec = sound.clone();
            change(&mut spec);
            let error = spec.check().unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
