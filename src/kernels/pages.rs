//! Bounds on the logits of a page of keys, by which Quest chooses the pages to read
//! (<https://arxiv.org/abs/2406.10774>).

use super::aligned::Aligned;
use super::attention::pack;
use super::level::Level;
use super::rows::RowsRef;
use super::steps::{self, Job, LANES, Packed, Steps};

/// Pages whose dot products are held at a time.
const BLOCK: usize = 128;

/// Appends the element-wise minima and maxima of every page of `page` consecutive keys, `[pages, head_dim]` each; the
/// last page may hold fewer keys.
///
/// - `keys`: `[len, head_dim]`, finite.
///
/// # Panics
///
/// When `head_dim` or `page` is 0, or `keys` is not whole rows.
pub fn bounds(
    keys: &[f32],
    head_dim: usize,
    page: usize,
    mins: &mut Vec<f32>,
    maxs: &mut Vec<f32>,
) {
    assert!(head_dim > 0, "head_dim is 0");
    assert!(page > 0, "page is 0");
    assert_eq!(keys.len() % head_dim, 0, "keys: rows of {head_dim}");
    for keys in keys.chunks(page.saturating_mul(head_dim)) {
        let mut rows = keys.chunks_exact(head_dim);
        let Some(first) = rows.next() else { continue };
        let start = (mins.len(), maxs.len());
        mins.extend_from_slice(first);
        maxs.extend_from_slice(first);
        let (mins, maxs) = (&mut mins[start.0..], &mut maxs[start.1..]);
        for row in rows {
            for ((min, max), x) in mins.iter_mut().zip(maxs.iter_mut()).zip(row) {
                *min = if x < min { *x } else { *min };
                *max = if x > max { *x } else { *max };
            }
        }
    }
}

/// Sets `out` to one number per page: the maximum over the queries of `sum_d max(q_d * min_d, q_d * max_d)`, which no
/// dot product of a query and a key of the page exceeds (but for `f32` rounding).
///
/// - `queries`: `[n, head_dim]`; without any the bounds are `-inf`.
/// - `mins`, `maxs`: `[pages, head_dim]` of [`bounds`].
///
/// # Panics
///
/// When `head_dim` is 0, `queries` or `mins` are not whole rows, or `maxs` is not as long as `mins`.
pub fn upper_bounds(
    queries: &[f32],
    head_dim: usize,
    mins: &[f32],
    maxs: &[f32],
    out: &mut Vec<f32>,
) {
    assert!(head_dim > 0, "head_dim is 0");
    assert_eq!(queries.len() % head_dim, 0, "queries: rows of {head_dim}");
    assert_eq!(mins.len() % head_dim, 0, "mins: rows of {head_dim}");
    assert_eq!(mins.len(), maxs.len(), "maxs: the shape of mins");
    out.clear();
    out.resize(mins.len() / head_dim, f32::NEG_INFINITY);
    if queries.is_empty() {
        return;
    }
    // The larger product is that with the minimum where the query is negative and that with the maximum elsewhere, so
    // the bound is a sum of two dot products.
    let negative: Vec<f32> = queries.iter().map(|q| q.min(0.0)).collect();
    let positive: Vec<f32> = queries.iter().map(|q| q.max(0.0)).collect();
    let stride = head_dim.next_multiple_of(LANES);
    let len = queries.len() / head_dim * stride;
    let (mut negative_rows, mut positive_rows) = (Aligned::default(), Aligned::default());
    let (negative_rows, positive_rows) = (negative_rows.take(len), positive_rows.take(len));
    pack(&negative, head_dim, negative_rows);
    pack(&positive, head_dim, positive_rows);
    let packed = |rows| Packed {
        rows,
        stride,
        head_dim,
    };
    steps::run(
        Level::best(),
        UpperBounds {
            negative: packed(negative_rows),
            positive: packed(positive_rows),
            mins,
            maxs,
            out,
        },
    );
}

struct UpperBounds<'a> {
    negative: Packed<'a>,
    positive: Packed<'a>,
    mins: &'a [f32],
    maxs: &'a [f32],
    out: &'a mut [f32],
}

impl Job for UpperBounds<'_> {
    fn run<S: Steps>(self, steps: S) {
        let block = BLOCK * self.negative.head_dim;
        let mut low = vec![0.0; self.negative.group() * BLOCK];
        let mut high = low.clone();
        let pages = self.mins.chunks(block).zip(self.maxs.chunks(block));
        for ((mins, maxs), out) in pages.zip(self.out.chunks_mut(BLOCK)) {
            steps.logits(self.negative, RowsRef::F32(mins), &mut low, BLOCK);
            steps.logits(self.positive, RowsRef::F32(maxs), &mut high, BLOCK);
            for (low, high) in low.chunks_exact(BLOCK).zip(high.chunks_exact(BLOCK)) {
                for ((out, low), high) in out.iter_mut().zip(low).zip(high) {
                    *out = out.max(low + high);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn dot(a: &[f32], b: &[f32]) -> f64 {
        a.iter()
            .zip(b)
            .map(|(&a, &b)| f64::from(a) * f64::from(b))
            .sum()
    }

    #[test]
    fn a_partial_page_has_bounds_of_its_own_and_both_are_appended() {
        let (mut mins, mut maxs) = (vec![9.0], vec![9.0]);
        let keys = [1.0, -1.0, 0.0, 5.0, 2.0, 2.0];
        bounds(&keys, 2, 2, &mut mins, &mut maxs);
        assert_eq!(mins, [9.0, 0.0, -1.0, 2.0, 2.0]);
        assert_eq!(maxs, [9.0, 1.0, 5.0, 2.0, 2.0]);
    }

    #[test]
    fn the_bound_is_the_larger_product_per_element_and_the_best_query() {
        let (mins, maxs) = ([0.0, -1.0, 2.0, 2.0], [1.0, 5.0, 2.0, 2.0]);
        let mut out = vec![9.0; 7];
        upper_bounds(&[2.0, -3.0, 0.0, 1.0], 2, &mins, &maxs, &mut out);
        assert_eq!(out, [5.0, 2.0]);
        upper_bounds(&[], 2, &mins, &maxs, &mut out);
        assert_eq!(out, [f32::NEG_INFINITY; 2]);
        upper_bounds(&[2.0, -3.0], 2, &[], &[], &mut out);
        assert!(out.is_empty());
    }

    proptest! {
        #[test]
        fn no_dot_product_of_a_page_exceeds_its_bound_and_one_key_reaches_it(
            head_dim in 1usize..100, page in 1usize..20,
            seed in vec(-4.0f32..4.0, 100 * 5), len in 0usize..300, n in 1usize..5,
        ) {
            let at = |i: usize| seed[(i * 31 + i / 500) % seed.len()];
            let queries: Vec<f32> = (0..n * head_dim).map(at).collect();
            let keys: Vec<f32> = (0..len * head_dim).map(|i| at(i + 77)).collect();
            let (mut mins, mut maxs, mut out) = (vec![], vec![], vec![]);
            bounds(&keys, head_dim, page, &mut mins, &mut maxs);
            upper_bounds(&queries, head_dim, &mins, &maxs, &mut out);
            prop_assert_eq!(out.len(), len.div_ceil(page));
            for (rows, bound) in keys.chunks(page * head_dim).zip(&out) {
                let dots = queries.chunks(head_dim).flat_map(|query| {
                    rows.chunks(head_dim).map(move |key| dot(query, key))
                });
                let largest = dots.fold(f64::NEG_INFINITY, f64::max);
                let rounding = 1e-5 * (16.0 * head_dim as f64);
                prop_assert!(f64::from(*bound) >= largest - rounding, "{bound} {largest}");
                if rows.len() == head_dim {
                    prop_assert!(f64::from(*bound) <= largest + rounding, "{bound} {largest}");
                }
            }
        }
    }
}
