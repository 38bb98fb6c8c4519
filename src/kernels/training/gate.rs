//! The gated activation, backward.
#![allow(
    unsafe_code,
    reason = "parts write rows of their own, vector by vector"
)]

use super::math::{self, Job, Math, Work};
use crate::kernels::level::Level;
use crate::kernels::line::Shared;
use crate::kernels::pool::Pool;

/// Rows of a part.
const ROWS: usize = 8;

/// Sets `dboth` to what [`gate`](crate::kernels::gate) of `both`, whose rows are `inner` of `gate` and as many of `up`,
/// passes back of `dout`, `[n, inner]`: `silu(g) = g s` with the sigmoid `s` of `g`, so `dg = do u s (1 + g (1 - s))` and
/// `du = do g s`.
///
/// # Panics
///
/// When `inner` is 0, or a length is not that of whole rows.
pub fn gate_backward(
    level: Level,
    pool: &Pool,
    both: &[f32],
    inner: usize,
    dout: &[f32],
    dboth: &mut [f32],
) {
    assert!(
        inner > 0 && both.len().is_multiple_of(2 * inner),
        "both: whole rows"
    );
    assert_eq!(both.len(), 2 * dout.len(), "dout: half of both");
    assert_eq!(both.len(), dboth.len(), "dboth: the shape of both");
    let dboth = Shared::new(dboth);
    math::run(
        level,
        Gate {
            pool,
            both,
            inner,
            dout,
            dboth,
        },
    );
}

struct Gate<'a> {
    pool: &'a Pool,
    both: &'a [f32],
    inner: usize,
    dout: &'a [f32],
    dboth: Shared<'a, f32>,
}

impl Job for Gate<'_> {
    type Output = ();

    fn run<M: Math>(self, math: M) {
        let inner = self.inner;
        let rows = self.dout.len() / inner;
        self.pool.run(rows.div_ceil(ROWS), |part| {
            let (first, end) = (part * ROWS, ((part + 1) * ROWS).min(rows));
            let range = 2 * first * inner..2 * end * inner;
            math.run(Rows {
                both: &self.both[range.clone()],
                inner,
                dout: &self.dout[first * inner..end * inner],
                // SAFETY: every part has rows of its own.
                dboth: unsafe { self.dboth.part(range) },
            });
        });
    }
}

struct Rows<'a> {
    both: &'a [f32],
    inner: usize,
    dout: &'a [f32],
    dboth: &'a mut [f32],
}

impl<M: Math> Work<M> for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self, math: M) {
        let inner = self.inner;
        let one = math.splat(1.0);
        let rows = self.both.chunks_exact(2 * inner);
        let rows = rows.zip(self.dout.chunks_exact(inner));
        for ((both, dout), dboth) in rows.zip(self.dboth.chunks_exact_mut(2 * inner)) {
            let (both, dout, dboth) = (both.as_ptr(), dout.as_ptr(), dboth.as_mut_ptr());
            for at in (0..inner).step_by(M::LANES) {
                let left = inner - at;
                // SAFETY: from `at` on there are `left` floats of the gate, and from `inner + at` on as many of what it
                // multiplies.
                unsafe {
                    let gate = math.load_first(both.add(at), left);
                    let up = math.load_first(both.add(inner + at), left);
                    let dout = math.load_first(dout.add(at), left);
                    // Of the two forms of the sigmoid the one whose exponential is at most 1.
                    let negative = math.sub(math.splat(0.0), gate);
                    let power = math.exp(math.where_negative(gate, gate, negative));
                    let top = math.where_negative(gate, power, one);
                    let sigmoid = math.div(top, math.add(one, power));
                    let rest = math.fma(gate, math.sub(one, sigmoid), one);
                    let dgate = math.mul(math.mul(dout, up), math.mul(sigmoid, rest));
                    let dup = math.mul(dout, math.mul(gate, sigmoid));
                    math.store_first(dboth.add(at), dgate, left);
                    math.store_first(dboth.add(inner + at), dup, left);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::gemm::tests::noise;
    use super::*;

    #[test]
    fn every_level_goes_back_as_doubles_do() {
        let pool = Pool::new(2).unwrap();
        for (n, inner) in [(1, 1), (3, 7), (19, 33), (9, 64), (2, 100)] {
            let mut both = noise(n * 2 * inner, 1);
            both.iter_mut().for_each(|x| *x *= 20.0);
            both[0] = -200.0;
            let dout = noise(n * inner, 2);
            for level in Level::available() {
                let mut found = vec![f32::NAN; both.len()];
                gate_backward(level, &pool, &both, inner, &dout, &mut found);
                for row in 0..n {
                    for i in 0..inner {
                        let at = row * 2 * inner + i;
                        let (g, u) = (f64::from(both[at]), f64::from(both[at + inner]));
                        let d = f64::from(dout[row * inner + i]);
                        let sigmoid = 1.0 / (1.0 + (-g).exp());
                        let dgate = d * u * sigmoid * (1.0 + g * (1.0 - sigmoid));
                        let dup = d * g * sigmoid;
                        for (found, expected) in [(found[at], dgate), (found[at + inner], dup)] {
                            let error = (f64::from(found) - expected).abs();
                            assert!(error <= 2e-6 * (1.0 + expected.abs()), "{level:?}: {g} {u}");
                        }
                    }
                }
            }
        }
    }
}
