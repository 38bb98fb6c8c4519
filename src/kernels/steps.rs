//! The steps of attention that every level writes in its own instructions, and the choice between the levels.

use super::lanes::Lanes;
use super::level::Level;
use super::plain::Plain;
use super::rows::RowsRef;

/// Floats of the widest vector register: padded rows are multiples of it.
pub(super) const LANES: usize = 16;

/// Queries `[group, stride]`, of which the first `head_dim` of each row are read; `stride` is a multiple of [`LANES`].
#[derive(Clone, Copy)]
pub(super) struct Packed<'a> {
    pub(super) rows: &'a [f32],
    pub(super) stride: usize,
    pub(super) head_dim: usize,
}

impl Packed<'_> {
    pub(super) fn group(&self) -> usize {
        self.rows.len() / self.stride
    }
}

/// The weights of a segment's slots: that of query `g` for slot `j` is `rows[g * stride + j]`.
#[derive(Clone, Copy)]
pub(super) struct Weights<'a> {
    pub(super) rows: &'a [f32],
    pub(super) stride: usize,
    /// The bias of each slot, where there is one: what `-inf` hides is not read.
    pub(super) bias: Option<&'a [f32]>,
}

impl Weights<'_> {
    /// Whether slot `j` has no effect, so that its row must not be read.
    #[inline(always)]
    pub(super) fn hides(&self, j: usize) -> bool {
        self.bias.is_some_and(|bias| bias[j] == f32::NEG_INFINITY)
    }
}

/// What a level implements. The lengths have been checked by the callers, and are checked again where a wrong one
/// would be unsound.
pub(super) trait Steps: Copy + Send + Sync {
    /// The vectors of this level.
    type Vectors: Lanes;

    fn vectors(self) -> Self::Vectors;

    /// Sets `out[g * out_stride + j]` to the dot product of query `g` and key `j`.
    fn logits(self, queries: Packed<'_>, keys: RowsRef<'_>, out: &mut [f32], out_stride: usize);

    /// Replaces logits by `exp(logit + bias - max)` and returns the sum; all zeros when every slot is hidden.
    /// `row` is a multiple of [`LANES`] long and `-inf` beyond the last slot.
    fn softmax(self, row: &mut [f32], bias: Option<&[f32]>) -> f64 {
        self.exponentials(row, bias, f32::NEG_INFINITY).1
    }

    /// Likewise with the larger of `least` and the row's own maximum. Returns it, too.
    fn exponentials(self, row: &mut [f32], bias: Option<&[f32]>, least: f32) -> (f32, f64);

    /// Adds the weighted sums of the value rows to `out`, `[group, head_dim]`.
    fn values(self, weights: Weights<'_>, values: RowsRef<'_>, head_dim: usize, out: &mut [f32]);

    /// Adds `row * factor` to `out`.
    fn add_scaled(self, row: &[f32], factor: f32, out: &mut [f32]);
}

/// Something that runs on any level.
pub(super) trait Job {
    fn run<S: Steps>(self, steps: S);
}

/// Runs `job` on `level`, or on the best level when the CPU lacks it.
pub(super) fn run(level: Level, job: impl Job) {
    let level = if level.is_available() {
        level
    } else {
        Level::best()
    };
    #[cfg(target_arch = "x86_64")]
    match level {
        Level::Avx512 | Level::Bf16 | Level::Amx => {
            if let Some(simd) = super::x86::Avx512::detect() {
                return job.run(simd);
            }
        }
        Level::Avx2 => {
            if let Some(simd) = super::x86::Avx2::detect() {
                return job.run(simd);
            }
        }
        Level::Plain | Level::Neon => {}
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = level;
    job.run(Plain);
}

/// Adds `bias` to `row`; what `-inf` hides becomes `-inf` whatever it was. Inlined so that each level compiles it with
/// its own instructions, as is [`add_scaled`].
#[inline(always)]
pub(super) fn add_bias(row: &mut [f32], bias: &[f32]) {
    for (logit, bias) in row.iter_mut().zip(bias) {
        let sum = *logit + bias;
        *logit = if *bias == f32::NEG_INFINITY {
            f32::NEG_INFINITY
        } else {
            sum
        };
    }
}

/// Adds `row * factor` to `out`.
#[inline(always)]
pub(super) fn add_scaled(row: &[f32], factor: f32, out: &mut [f32]) {
    for (out, x) in out.iter_mut().zip(row) {
        *out += x * factor;
    }
}
