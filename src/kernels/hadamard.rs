//! The Walsh-Hadamard transform.

/// Elements that are transformed in registers.
const CHUNK: usize = 16;

/// Transforms `row` in place by the orthonormal Walsh-Hadamard matrix in natural order.
///
/// The matrix exists for powers of two, so consecutive blocks of the largest power of two that divides the length
/// are transformed each by itself (96 = 3 blocks of 32). The transform is its own inverse and preserves dot products;
/// it spreads outlier channels over the block, so that keys lose less to 8-bit quantisation
/// (QuaRot, <https://arxiv.org/abs/2404.00456>).
pub fn hadamard(row: &mut [f32]) {
    if row.is_empty() {
        return;
    }
    let block = block(row.len());
    for block in row.chunks_exact_mut(block) {
        transform(block);
    }
}

/// The elements of a row of `len` that are transformed together.
pub(super) fn block(len: usize) -> usize {
    match len {
        0 => 0,
        len => 1 << len.trailing_zeros(),
    }
}

/// What sums and differences of a row of `len` elements are multiplied with.
pub(super) fn norm(len: usize) -> f32 {
    1.0 / (block(len) as f32).sqrt()
}

/// Transforms a power of two of elements.
fn transform(block: &mut [f32]) {
    let norm = norm(block.len());
    let mut half = 1;
    if block.len() >= CHUNK {
        block.as_chunks_mut().0.iter_mut().for_each(transform_chunk);
        half = CHUNK;
    }
    while half < block.len() {
        for pair in block.chunks_exact_mut(2 * half) {
            let (left, right) = pair.split_at_mut(half);
            for (a, b) in left.iter_mut().zip(right) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
    block.iter_mut().for_each(|x| *x *= norm);
}

/// The steps within a chunk. Each pairs neighbours and moves the lowest bit of the index to the top, so that all bits
/// have had their turn and are back in place at the end (Pease, <https://doi.org/10.1145/321450.321457>): the compiler
/// makes vectors of that, and would not of neighbours that stay where they are.
fn transform_chunk(chunk: &mut [f32; CHUNK]) {
    for _ in 0..CHUNK.ilog2() {
        let before = *chunk;
        for i in 0..CHUNK / 2 {
            let (a, b) = (before[2 * i], before[2 * i + 1]);
            chunk[i] = a + b;
            chunk[i + CHUNK / 2] = a - b;
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
    fn each_block_is_multiplied_by_the_matrix_of_its_size() {
        let mut row = [1.0, 2.0, 3.0, 4.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 2.0];
        hadamard(&mut row);
        let expected = [
            5.0, -1.0, -2.0, 0.0, 0.5, 0.5, 0.5, 0.5, 1.0, -1.0, -1.0, 1.0,
        ];
        assert_eq!(row, expected);
    }

    #[test]
    fn an_odd_length_stays() {
        let mut row = [1.0, -2.0, 3.0];
        hadamard(&mut row);
        assert_eq!(row, [1.0, -2.0, 3.0]);
        hadamard(&mut []);
    }

    proptest! {
        #[test]
        fn twice_is_the_identity(row in vec(-8.0f32..8.0, 0..260)) {
            let mut twice = row.clone();
            hadamard(&mut twice);
            hadamard(&mut twice);
            for (a, b) in row.iter().zip(&twice) {
                prop_assert!((a - b).abs() <= 2e-5, "{a} {b}");
            }
        }

        #[test]
        fn dot_products_stay(pairs in vec((-8.0f32..8.0, -8.0f32..8.0), 0..260)) {
            let (mut a, mut b): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
            let before = dot(&a, &b);
            let size = (dot(&a, &a) * dot(&b, &b)).sqrt();
            hadamard(&mut a);
            hadamard(&mut b);
            prop_assert!((dot(&a, &b) - before).abs() <= 1e-5 * size);
        }
    }
}
