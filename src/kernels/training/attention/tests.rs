use half::bf16;

use super::super::Arithmetic;
use super::super::gemm::tests::noise;
use super::*;
use crate::kernels::{Level, Pool};

struct Expected {
    out: Vec<f64>,
    lse: Vec<f64>,
    dqkv: Vec<f64>,
}

/// Loops in doubles.
fn expected(shape: &Causal<'_>, qkv: &[f32], dout: &[f32]) -> Expected {
    let Causal {
        heads,
        kv_heads,
        dim,
        ..
    } = *shape;
    let width = shape.width();
    let rows = qkv.len() / width;
    let scale = f64::from(shape.scale);
    let mut all = Expected {
        out: vec![0.0; rows * heads * dim],
        lse: vec![0.0; rows * heads],
        dqkv: vec![0.0; qkv.len()],
    };
    for (start, len) in shape.spans {
        for head in 0..heads {
            let kv = head / (heads / kv_heads);
            let q = |row: usize, i: usize| (start + row) * width + head * dim + i;
            let k = |row: usize, i: usize| (start + row) * width + (heads + kv) * dim + i;
            let v = |row: usize, i: usize| k(row, i) + kv_heads * dim;
            let o = |row: usize, i: usize| ((start + row) * heads + head) * dim + i;
            let at = |i: usize| f64::from(qkv[i]);
            for row in 0..*len {
                let scores: Vec<f64> = (0..=row)
                    .map(|key| {
                        let products = (0..dim).map(|i| at(q(row, i)) * at(k(key, i)));
                        scale * products.sum::<f64>()
                    })
                    .collect();
                let total: f64 = scores.iter().map(|score| score.exp()).sum();
                all.lse[(start + row) * heads + head] = total.ln();
                let p: Vec<f64> = scores.iter().map(|score| score.exp() / total).collect();
                let d = |i: usize| f64::from(dout[o(row, i)]);
                let slopes: Vec<f64> = (0..=row)
                    .map(|key| (0..dim).map(|i| d(i) * at(v(key, i))).sum())
                    .collect();
                let mean: f64 = p.iter().zip(&slopes).map(|(p, slope)| p * slope).sum();
                for key in 0..=row {
                    let slope = scale * p[key] * (slopes[key] - mean);
                    for i in 0..dim {
                        all.out[o(row, i)] += p[key] * at(v(key, i));
                        all.dqkv[v(key, i)] += p[key] * d(i);
                        all.dqkv[q(row, i)] += slope * at(k(key, i));
                        all.dqkv[k(key, i)] += slope * at(q(row, i));
                    }
                }
            }
        }
    }
    all
}

struct Found {
    out: Vec<f32>,
    lse: Vec<f32>,
    dqkv: Vec<f32>,
}

fn found(
    level: Level,
    pool: &Pool,
    arithmetic: Arithmetic,
    shape: &Causal<'_>,
    (qkv, dout): (&[f32], &[f32]),
) -> Found {
    let mut out = vec![f32::NAN; dout.len()];
    let mut lse = vec![f32::NAN; dout.len() / shape.dim];
    let mut dqkv = vec![f32::NAN; qkv.len()];
    causal_attention(level, pool, arithmetic, shape, qkv, &mut out, &mut lse);
    causal_attention_backward(
        level, pool, arithmetic, shape, qkv, &out, &lse, dout, &mut dqkv,
    );
    Found { out, lse, dqkv }
}

fn distance(found: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let errors = found.iter().zip(expected);
    errors
        .map(|(found, expected)| (f64::from(*found) - expected).abs())
        .fold(0.0, |most, error| {
            if error.is_nan() {
                f64::INFINITY
            } else {
                error.max(most)
            }
        })
}

fn check(heads: usize, kv_heads: usize, dim: usize, lens: &[usize]) {
    let mut rows = 0;
    let spans: Vec<(usize, usize)> = lens
        .iter()
        .map(|len| {
            rows += len;
            (rows - len, *len)
        })
        .collect();
    let shape = Causal {
        heads,
        kv_heads,
        dim,
        scale: 2.0 / (dim as f32).sqrt(),
        spans: &spans,
    };
    let qkv: Vec<f32> = noise(rows * shape.width(), 1);
    // What bf16 has too, so that only what is computed is rounded.
    let qkv: Vec<f32> = qkv
        .into_iter()
        .map(|x| bf16::from_f32(2.0 * x).to_f32())
        .collect();
    let dout: Vec<f32> = noise(rows * heads * dim, 2)
        .into_iter()
        .map(|x| bf16::from_f32(x).to_f32())
        .collect();
    let expected = expected(&shape, &qkv, &dout);
    for level in Level::available() {
        for (arithmetic, bound) in [(Arithmetic::Float32, 3e-5), (Arithmetic::Bfloat16, 0.05)] {
            let mut before: Option<Found> = None;
            for threads in [2, 1] {
                let pool = Pool::new(threads).unwrap();
                let found = found(level, &pool, arithmetic, &shape, (&qkv, &dout));
                let errors = [
                    distance(&found.out, &expected.out),
                    distance(&found.lse, &expected.lse),
                    distance(&found.dqkv, &expected.dqkv),
                ];
                let case = (level, arithmetic, heads, kv_heads, dim, lens);
                assert!(errors.iter().all(|e| *e <= bound), "{case:?}: {errors:?}");
                if let Some(before) = &before {
                    let same = before.out == found.out && before.lse == found.lse;
                    assert!(same && before.dqkv == found.dqkv, "{case:?}");
                }
                before = Some(found);
            }
        }
    }
}

#[test]
fn every_level_attends_and_goes_back_as_doubles_do() {
    check(1, 1, 1, &[1]);
    check(3, 1, 7, &[1, 17, 0, 5]);
    check(4, 2, 17, &[33, 100, 2]);
    check(9, 3, 64, &[40, 65]);
    check(2, 2, 33, &[7; 5]);
}

#[test]
fn long_sequences_go_on_from_block_to_block_of_keys() {
    check(2, 1, 16, &[KEYS + 70, 3]);
    check(1, 1, 5, &[2 * KEYS + 1]);
}

#[test]
fn a_key_that_towers_above_those_before_takes_it_all() {
    let pool = Pool::new(1).unwrap();
    let rows = KEYS + 20;
    let mut qkv = vec![0.0; rows * 3];
    for (row, qkv) in qkv.chunks_mut(3).enumerate() {
        let key = if row == KEYS + 3 { 300.0 } else { -300.0 };
        qkv.copy_from_slice(&[1.0, key, row as f32]);
    }
    let shape = Causal {
        heads: 1,
        kv_heads: 1,
        dim: 1,
        scale: 1.0,
        spans: &[(0, rows)],
    };
    for level in Level::available() {
        let (mut out, mut lse) = (vec![0.0; rows], vec![0.0; rows]);
        let float32 = Arithmetic::Float32;
        causal_attention(level, &pool, float32, &shape, &qkv, &mut out, &mut lse);
        assert!((out[KEYS + 2] - (KEYS + 2) as f32 / 2.0).abs() < 1e-2);
        assert_eq!(out[KEYS + 3..], [(KEYS + 3) as f32; 17]);
        assert_eq!(lse[rows - 1], 300.0);
    }
}

#[test]
#[should_panic(expected = "spans follow each other")]
fn a_gap_between_spans_panics() {
    let shape = Causal {
        heads: 1,
        kv_heads: 1,
        dim: 1,
        scale: 1.0,
        spans: &[(0, 1), (2, 1)],
    };
    shape.check(&[0.0; 9]);
}

#[test]
#[should_panic(expected = "3 heads on 2")]
fn heads_that_cannot_be_shared_panic() {
    let shape = Causal {
        heads: 3,
        kv_heads: 2,
        dim: 1,
        scale: 1.0,
        spans: &[],
    };
    shape.check(&[]);
}
