//! What multiplies: vectors of an instruction set with numbers of one kind.
#![allow(
    unsafe_code,
    reason = "vector loads and stores take pointers, whose bounds the callers vouch for"
)]

use half::bf16;

use super::super::arithmetic::Arithmetic;
use super::super::math::{self, Math, SQUARE, Work};
use crate::kernels::lanes::Lanes;
use crate::kernels::level::Level;

/// Vectors whose lanes are words of 32 bits: a float, or neighbours in the depth of a product.
pub(in super::super) trait Multiplier: Copy + Send + Sync {
    type Vectors: Math;

    /// Numbers of a word.
    const DEEP: usize;
    /// Rows of a tile, the width of a panel of rows.
    const ROWS: usize = Self::Vectors::TILE.0;
    /// Columns of a tile, the width of a panel of columns.
    const COLUMNS: usize = Self::Vectors::TILE.1 * Self::Vectors::LANES;

    /// Runs `work` compiled for the instruction set.
    fn run<W: Work<Self>>(self, work: W) -> W::Output;

    fn vectors(self) -> Self::Vectors;

    /// Each lane of `sums` plus the product of the words there.
    fn multiply(self, a: Vector<Self>, b: Vector<Self>, sums: Vector<Self>) -> Vector<Self>;

    /// Writes [`SQUARE`] words from the first `count` of floats that follow each other in the depth, and zeros.
    ///
    /// # Safety
    ///
    /// `count` floats can be read, or as many as make the words, and the words can be written.
    unsafe fn along(self, from: *const f32, count: usize, to: *mut f32);

    /// Writes [`SQUARE`] words, the first `count` of them from floats beside each other, `deep` in the depth, which lie
    /// `step` apart, and zeros.
    ///
    /// # Safety
    ///
    /// `deep` rows of `count` floats can be read, and the words written.
    unsafe fn across(self, from: *const f32, step: usize, size: (usize, usize), to: *mut f32);
}

/// The vectors of a [`Multiplier`].
pub(super) type Vector<P> = <<P as Multiplier>::Vectors as Lanes>::Vector;

/// In single precision, of inputs as they are or, if `ROUND`, rounded to `bf16`.
#[derive(Clone, Copy)]
struct Floats<M, const ROUND: bool>(M);

/// Work on [`Floats`] as work on its vectors.
struct Lift<W, const ROUND: bool>(W);

impl<M: Math, W: Work<Floats<M, ROUND>>, const ROUND: bool> Work<M> for Lift<W, ROUND> {
    type Output = W::Output;

    #[inline(always)]
    fn run(self, math: M) -> W::Output {
        self.0.run(Floats(math))
    }
}

impl<M: Math, const ROUND: bool> Multiplier for Floats<M, ROUND> {
    type Vectors = M;

    const DEEP: usize = 1;

    fn run<W: Work<Self>>(self, work: W) -> W::Output {
        self.0.run(Lift(work))
    }

    #[inline(always)]
    fn vectors(self) -> M {
        self.0
    }

    #[inline(always)]
    fn multiply(self, a: M::Vector, b: M::Vector, sums: M::Vector) -> M::Vector {
        self.0.fma(a, b, sums)
    }

    #[inline(always)]
    unsafe fn along(self, from: *const f32, count: usize, to: *mut f32) {
        for at in (0..SQUARE).step_by(M::LANES) {
            // SAFETY: the caller's; of a vector beyond `count` nothing is read.
            unsafe {
                let floats = self
                    .0
                    .load_first(from.wrapping_add(at), count.saturating_sub(at));
                self.0.store(to.add(at), floats);
            }
        }
        if ROUND {
            for at in 0..SQUARE {
                // SAFETY: the words were written.
                unsafe { *to.add(at) = bf16::from_f32(*to.add(at)).to_f32() };
            }
        }
    }

    #[inline(always)]
    unsafe fn across(self, from: *const f32, _: usize, (_, count): (usize, usize), to: *mut f32) {
        // SAFETY: the caller's: one row.
        unsafe { self.along(from, count, to) }
    }
}

#[cfg(target_arch = "x86_64")]
impl Multiplier for crate::kernels::x86::Bfloat16 {
    type Vectors = crate::kernels::x86::Avx512;

    const DEEP: usize = 2;

    fn run<W: Work<Self>>(self, work: W) -> W::Output {
        self.run(work)
    }

    #[inline(always)]
    fn vectors(self) -> Self::Vectors {
        self.vectors()
    }

    #[inline(always)]
    fn multiply(self, a: Vector<Self>, b: Vector<Self>, sums: Vector<Self>) -> Vector<Self> {
        self.dot(a, b, sums)
    }

    #[inline(always)]
    unsafe fn along(self, from: *const f32, count: usize, to: *mut f32) {
        let vectors = self.vectors();
        // SAFETY: the caller's; of a vector beyond `count` nothing is read.
        unsafe {
            let first = vectors.load_first(from, count);
            let second = vectors.load_first(from.wrapping_add(16), count.saturating_sub(16));
            vectors.store(to, self.halves(first, second));
        }
    }

    #[inline(always)]
    unsafe fn across(
        self,
        from: *const f32,
        step: usize,
        (deep, count): (usize, usize),
        to: *mut f32,
    ) {
        let vectors = self.vectors();
        // SAFETY: the caller's; of an absent row nothing is read.
        unsafe {
            let low = vectors.load_first(from, count);
            let second = if deep > 1 { count } else { 0 };
            let high = vectors.load_first(from.wrapping_add(step), second);
            vectors.store(to, self.pairs(low, high));
        }
    }
}

/// Something that runs on any multiplier.
pub(in super::super) trait Job {
    fn run<P: Multiplier>(self, multiplier: P);
}

struct InFloats<J, const ROUND: bool>(J);

impl<J: Job, const ROUND: bool> math::Job for InFloats<J, ROUND> {
    type Output = ();

    fn run<M: Math>(self, math: M) {
        self.0.run(Floats::<M, ROUND>(math));
    }
}

/// Runs `job` on `level`, or on the best level when the CPU lacks it.
pub(in super::super) fn run(level: Level, arithmetic: Arithmetic, job: impl Job) {
    match arithmetic {
        Arithmetic::Float32 => math::run(level, InFloats::<_, false>(job)),
        Arithmetic::Bfloat16 => {
            #[cfg(target_arch = "x86_64")]
            if let (Level::Avx512 | Level::Bf16 | Level::Amx, Some(bfloat16)) =
                (level, crate::kernels::x86::Bfloat16::detect())
            {
                return job.run(bfloat16);
            }
            math::run(level, InFloats::<_, true>(job));
        }
    }
}
