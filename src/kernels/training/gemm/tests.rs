use half::bf16;
use proptest::prelude::*;

use super::super::{Arithmetic, Strided};
use super::gemm;
use crate::kernels::{Level, Pool, amount};

/// Numbers of both signs without a pattern, not all of which `bf16` has.
pub(in super::super) fn noise(len: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12345);
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(next).collect()
}

fn rounded(arithmetic: Arithmetic, x: f32) -> f64 {
    f64::from(match arithmetic {
        Arithmetic::Float32 => x,
        Arithmetic::Bfloat16 => bf16::from_f32(x).to_f32(),
    })
}

/// Compares every level with loops in doubles, both operands either way round.
fn check(pool: &Pool, (m, n, k): (usize, usize, usize), add: bool) {
    let (a, b) = (noise(m * (k + 3), 1), noise(k * (n + 5), 2));
    let (across, down) = (noise(k * (m + 3), 3), noise(n * (k + 5), 4));
    let c_step = n + 2;
    let before = noise(m * c_step, 5);
    let lefts = [
        Strided::with_step(&a, m, k, k + 3),
        Strided::with_step(&across, k, m, m + 3).transposed(),
    ];
    let rights = [
        Strided::with_step(&b, k, n, n + 5),
        Strided::with_step(&down, n, k, k + 5).transposed(),
    ];
    for arithmetic in [Arithmetic::Float32, Arithmetic::Bfloat16] {
        for (left, right) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let (a, b) = (lefts[left], rights[right]);
            let mut expected: Vec<f64> = before.iter().map(|x| f64::from(*x)).collect();
            for r in 0..m {
                for c in 0..n {
                    let x = |i| rounded(arithmetic, a.at(r, i)) * rounded(arithmetic, b.at(i, c));
                    let sum: f64 = (0..k).map(x).sum();
                    let to = &mut expected[r * c_step + c];
                    *to = if add { *to + sum } else { sum };
                }
            }
            for level in Level::available() {
                let mut found = before.clone();
                gemm(level, pool, arithmetic, a, b, &mut found, c_step, add);
                for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
                    let error = (f64::from(*found) - expected).abs();
                    let bound = 1e-6 * (1.0 + (k as f64).sqrt());
                    let case = (level, arithmetic, (m, n, k), (left, right), i);
                    assert!(error <= bound, "{case:?}: {found}, not {expected}");
                }
            }
        }
    }
}

#[test]
fn every_level_multiplies_as_doubles_do() {
    let pool = Pool::new(2).unwrap();
    for (i, size) in [
        (1, 1, 1),
        (7, 17, 33),
        (8, 48, 16),
        (16, 96, 32),
        (33, 7, 100),
        (100, 100, 17),
        (17, 33, 7),
        (64, 8, 130),
        (8, 64, 257),
        (3, 49, 641),
        (161, 50, 2),
    ]
    .into_iter()
    .enumerate()
    {
        check(&pool, size, i % 2 == 0);
        check(&pool, size, i % 2 == 1);
    }
}

#[test]
fn columns_are_packed_in_as_many_turns_as_they_need() {
    let pool = Pool::new(2).unwrap();
    let (m, n, k) = (3, super::PACKED / 2000 + 100, 2100);
    let (a, b) = (noise(m * k, 1), noise(n * k, 2));
    let (a, b) = (Strided::new(&a, m, k), Strided::new(&b, n, k).transposed());
    let mut c = vec![f32::NAN; m * n];
    gemm(
        Level::best(),
        &pool,
        Arithmetic::Float32,
        a,
        b,
        &mut c,
        n,
        false,
    );
    for r in 0..m {
        for col in (0..n).step_by(7).chain([n - 1]) {
            let sum: f64 = (0..k)
                .map(|i| f64::from(a.at(r, i)) * f64::from(b.at(i, col)))
                .sum();
            assert!((f64::from(c[r * n + col]) - sum).abs() < 1e-4);
        }
    }
}

#[test]
fn the_bits_are_those_of_any_number_of_threads() {
    let (m, n, k) = (333, 130, 700);
    let (a, b) = (noise(m * k, 1), noise(n * k, 2));
    for level in Level::available() {
        for arithmetic in [Arithmetic::Float32, Arithmetic::Bfloat16] {
            let found: Vec<Vec<f32>> = [1, 2, 3, 2]
                .into_iter()
                .map(|threads| {
                    let pool = Pool::new(threads).unwrap();
                    let mut c = vec![0.0; m * n];
                    let (a, b) = (Strided::new(&a, m, k), Strided::new(&b, k, n));
                    gemm(level, &pool, arithmetic, a, b, &mut c, n, false);
                    c
                })
                .collect();
            assert!(found.iter().all(|c| *c == found[0]), "{level:?}");
        }
    }
}

#[test]
fn nothing_to_sum_is_zero_and_nothing_to_write_is_left() {
    let pool = Pool::new(1).unwrap();
    let level = Level::best();
    let float32 = Arithmetic::Float32;
    let (a, b) = (Strided::new(&[], 2, 0), Strided::new(&[], 0, 3));
    let mut c = [1.0; 8];
    gemm(level, &pool, float32, a, b, &mut c, 4, true);
    assert_eq!(c, [1.0; 8]);
    gemm(level, &pool, float32, a, b, &mut c, 4, false);
    assert_eq!(c, [0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]);
    let a = Strided::new(&[], 0, 0);
    gemm(level, &pool, float32, a, b, &mut [], 0, false);
}

#[test]
#[should_panic(expected = "c: 2 rows of 3, 4 apart")]
fn a_short_result_panics() {
    let pool = Pool::new(1).unwrap();
    let (a, b) = ([1.0; 4], [1.0; 6]);
    let (a, b) = (Strided::new(&a, 2, 2), Strided::new(&b, 2, 3));
    let mut c = [0.0; 6];
    gemm(
        Level::best(),
        &pool,
        Arithmetic::Float32,
        a,
        b,
        &mut c,
        4,
        false,
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(amount(24, 2) as u32))]

    #[test]
    fn any_size_multiplies_as_doubles_do(m in 1usize..90, n in 1usize..110, k in 1usize..70, add: bool) {
        check(&Pool::new(2).unwrap(), (m, n, k), add);
    }
}
