//! Rotary position embedding, backward.
#![allow(
    unsafe_code,
    reason = "parts write rows of their own, vector by vector"
)]

use super::math::{self, Job, Math, Work};
use crate::kernels::level::Level;
use crate::kernels::line::Shared;
use crate::kernels::pool::Pool;

/// Rows of a part.
const ROWS: usize = 16;

/// Undoes [`rotate_rows`](crate::kernels::rotate_rows) of the same arguments, which is also how a gradient goes back
/// through it: the transpose of a rotation is its inverse.
///
/// # Panics
///
/// When there are not as many `angles` as rows, `heads` do not fit into `width`, or an angle has not one cosine and one
/// sine for each pair of a head.
pub fn rotate_back(
    level: Level,
    pool: &Pool,
    rows: &mut [f32],
    (width, heads, head_dim): (usize, usize, usize),
    angles: &[(Vec<f32>, Vec<f32>)],
) {
    assert!(heads * head_dim <= width, "heads of {head_dim} in {width}");
    assert_eq!(rows.len(), angles.len() * width, "rows: one per angle");
    for (cos, sin) in angles {
        assert_eq!(head_dim, 2 * cos.len(), "one cosine per pair");
        assert_eq!(cos.len(), sin.len(), "one sine per cosine");
    }
    let rotation = Rotation {
        pool,
        rows: Shared::new(rows),
        width,
        heads,
        angles,
    };
    math::run(level, rotation);
}

struct Rotation<'a> {
    pool: &'a Pool,
    rows: Shared<'a, f32>,
    width: usize,
    heads: usize,
    angles: &'a [(Vec<f32>, Vec<f32>)],
}

impl Job for Rotation<'_> {
    type Output = ();

    fn run<M: Math>(self, math: M) {
        self.pool.run(self.angles.len().div_ceil(ROWS), |part| {
            let (first, end) = (part * ROWS, ((part + 1) * ROWS).min(self.angles.len()));
            math.run(Rows {
                // SAFETY: every part has rows of its own.
                rows: unsafe { self.rows.part(first * self.width..end * self.width) },
                width: self.width,
                heads: self.heads,
                angles: &self.angles[first..end],
            });
        });
    }
}

struct Rows<'a> {
    rows: &'a mut [f32],
    width: usize,
    heads: usize,
    angles: &'a [(Vec<f32>, Vec<f32>)],
}

impl<M: Math> Work<M> for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self, math: M) {
        for (i, (cos, sin)) in self.angles.iter().enumerate() {
            let half = cos.len().min(sin.len());
            let row = &mut self.rows[i * self.width..(i + 1) * self.width];
            for head in 0..self.heads {
                let head = row[head * 2 * half..(head + 1) * 2 * half].as_mut_ptr();
                for at in (0..half).step_by(M::LANES) {
                    let left = half - at;
                    // SAFETY: the head has two halves, each of which, as the cosines and sines, has `left` floats from
                    // `at` on.
                    unsafe {
                        let cos = math.load_first(cos.as_ptr().add(at), left);
                        let sin = math.load_first(sin.as_ptr().add(at), left);
                        let (first, second) = (head.add(at), head.add(half + at));
                        let (x1, x2) =
                            (math.load_first(first, left), math.load_first(second, left));
                        let back1 = math.add(math.mul(x1, cos), math.mul(x2, sin));
                        let back2 = math.sub(math.mul(x2, cos), math.mul(x1, sin));
                        math.store_first(first, back1, left);
                        math.store_first(second, back2, left);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::gemm::tests::noise;
    use super::*;
    use crate::kernels::rotate_rows;

    #[test]
    fn a_rotation_is_undone_and_the_rest_stays() {
        let pool = Pool::new(2).unwrap();
        for (n, width, heads, dim) in [(37, 50, 3, 14), (5, 192, 2, 64), (3, 9, 0, 2), (2, 2, 1, 2)]
        {
            let rows = noise(n * width, 1);
            let angle = |row: usize, i: usize| (row * 7 + i) as f32;
            let angles: Vec<(Vec<f32>, Vec<f32>)> = (0..n)
                .map(|row| {
                    (0..dim / 2)
                        .map(|i| (angle(row, i).cos(), angle(row, i).sin()))
                        .unzip()
                })
                .collect();
            for level in Level::available() {
                let mut found = rows.clone();
                rotate_rows(level, &pool, &mut found, (width, heads, dim), &angles);
                assert!(heads == 0 || found != rows);
                rotate_back(level, &pool, &mut found, (width, heads, dim), &angles);
                for (row, found) in rows.chunks(width).zip(found.chunks(width)) {
                    for i in 0..width {
                        let bound = if i < heads * dim { 1e-6 } else { 0.0 };
                        assert!((row[i] - found[i]).abs() <= bound, "{level:?}");
                    }
                }
            }
        }
    }
}
