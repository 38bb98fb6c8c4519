//! Cases of attention with their reference in `f64`.

use half::bf16;
use proptest::collection::vec;
use proptest::prelude::*;

use super::super::*;
use crate::kernels::quantize_row;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind {
    F32,
    Bf16,
    Int8,
}

/// Rows that own their memory.
#[derive(Debug, Clone)]
pub(super) enum Rows {
    F32(Vec<f32>),
    Bf16(Vec<bf16>),
    Int8(Vec<i8>, Vec<f32>),
}

impl Rows {
    pub(super) fn new(kind: Kind, floats: Vec<f32>, head_dim: usize) -> Rows {
        match kind {
            Kind::F32 => Rows::F32(floats),
            Kind::Bf16 => Rows::Bf16(floats.into_iter().map(bf16::from_f32).collect()),
            Kind::Int8 => {
                let mut values = vec![0; floats.len()];
                let rows = floats.chunks(head_dim).zip(values.chunks_mut(head_dim));
                let scales = rows
                    .map(|(row, values)| quantize_row(row, values))
                    .collect();
                Rows::Int8(values, scales)
            }
        }
    }

    fn slice(&self, from: usize, to: usize, head_dim: usize) -> RowsRef<'_> {
        let range = from * head_dim..to * head_dim;
        match self {
            Rows::F32(rows) => RowsRef::F32(&rows[range]),
            Rows::Bf16(rows) => RowsRef::Bf16(&rows[range]),
            Rows::Int8(values, scales) => RowsRef::Int8 {
                values: &values[range],
                scales: &scales[from..to],
            },
        }
    }

    fn get(&self, j: usize, head_dim: usize) -> Vec<f64> {
        let range = j * head_dim..(j + 1) * head_dim;
        match self {
            Rows::F32(rows) => rows[range].iter().map(|x| f64::from(*x)).collect(),
            Rows::Bf16(rows) => rows[range].iter().map(|x| x.to_f64()).collect(),
            Rows::Int8(values, scales) => values[range]
                .iter()
                .map(|x| f64::from(*x) * f64::from(scales[j]))
                .collect(),
        }
    }

    pub(super) fn permuted(&self, order: &[usize], head_dim: usize) -> Rows {
        fn pick<T: Copy>(rows: &[T], order: &[usize], width: usize) -> Vec<T> {
            let rows = order.iter().map(|j| &rows[j * width..(j + 1) * width]);
            rows.collect::<Vec<_>>().concat()
        }
        match self {
            Rows::F32(rows) => Rows::F32(pick(rows, order, head_dim)),
            Rows::Bf16(rows) => Rows::Bf16(pick(rows, order, head_dim)),
            Rows::Int8(values, scales) => {
                Rows::Int8(pick(values, order, head_dim), pick(scales, order, 1))
            }
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) keys: Rows,
    pub(super) values: Rows,
    pub(super) len: usize,
}

impl Part {
    pub(super) fn segment(&self, from: usize, to: usize, head_dim: usize) -> Segment<'_> {
        Segment {
            keys: self.keys.slice(from, to, head_dim),
            values: self.values.slice(from, to, head_dim),
            len: to - from,
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Case {
    pub(super) head_dim: usize,
    pub(super) queries: Vec<f32>,
    pub(super) parts: Vec<Part>,
    pub(super) bias: Option<Vec<f32>>,
}

/// Numbers of -1 to 1 (Knuth's MMIX generator).
fn noise(seed: &mut u64) -> f32 {
    *seed = seed
        .wrapping_mul(6364136223846793005)
        .wrapping_add(1442695040888963407);
    (*seed >> 40) as f32 / (1u64 << 23) as f32 - 1.0
}

impl Case {
    pub(super) fn new(
        head_dim: usize,
        group: usize,
        shapes: &[(Kind, Kind, usize)],
        hidden: Option<f32>,
        mut seed: u64,
    ) -> Case {
        let mut floats = |len: usize, size: f32| -> Vec<f32> {
            (0..len).map(|_| noise(&mut seed) * size).collect()
        };
        let queries = floats(group * head_dim, 3.0 / (head_dim as f32).sqrt());
        let mut parts = Vec::new();
        for &(keys, values, len) in shapes {
            parts.push(Part {
                keys: Rows::new(keys, floats(len * head_dim, 3.0), head_dim),
                values: Rows::new(values, floats(len * head_dim, 2.0), head_dim),
                len,
            });
        }
        let slots = shapes.iter().map(|shape| shape.2).sum();
        let bias = hidden.map(|share| {
            let coins = floats(slots, 1.0);
            let biases = coins.into_iter().zip(floats(slots, 2.0));
            biases
                .map(|(coin, bias)| {
                    if coin.abs() < share {
                        f32::NEG_INFINITY
                    } else {
                        bias
                    }
                })
                .collect()
        });
        Case {
            head_dim,
            queries,
            parts,
            bias,
        }
    }

    pub(super) fn group(&self) -> usize {
        self.queries.len() / self.head_dim
    }

    pub(super) fn slots(&self) -> usize {
        self.parts.iter().map(|part| part.len).sum()
    }

    pub(super) fn segments(&self) -> Vec<Segment<'_>> {
        let parts = self.parts.iter();
        parts
            .map(|part| part.segment(0, part.len, self.head_dim))
            .collect()
    }

    pub(super) fn attend(&self, level: Level) -> (Vec<f32>, Vec<f32>) {
        self.attend_over(level, &self.segments(), &mut Scratch::default())
    }

    pub(super) fn attend_over(
        &self,
        level: Level,
        segments: &[Segment<'_>],
        scratch: &mut Scratch,
    ) -> (Vec<f32>, Vec<f32>) {
        let mut output = vec![f32::NAN; self.queries.len()];
        let mut mass = vec![f32::NAN; self.slots()];
        attend(
            level,
            &self.queries,
            self.head_dim,
            segments,
            self.bias.as_deref(),
            scratch,
            &mut output,
            Some(&mut mass),
        );
        (output, mass)
    }

    pub(super) fn reference(&self) -> (Vec<f64>, Vec<f64>) {
        let (mut output, mut mass) = (Vec::new(), vec![0.0; self.slots()]);
        for query in self.queries.chunks(self.head_dim) {
            let query: Vec<f64> = query.iter().map(|x| f64::from(*x)).collect();
            let rotated = naive_hadamard(&query);
            let mut logits = Vec::new();
            let mut values = Vec::new();
            for part in &self.parts {
                for j in 0..part.len {
                    let query = match part.keys {
                        Rows::Int8(..) => &rotated,
                        Rows::F32(_) | Rows::Bf16(_) => &query,
                    };
                    let key = part.keys.get(j, self.head_dim);
                    logits.push(query.iter().zip(key).map(|(q, k)| q * k).sum::<f64>());
                    values.push(part.values.get(j, self.head_dim));
                }
            }
            if let Some(bias) = &self.bias {
                let biased = logits.iter_mut().zip(bias);
                biased.for_each(|(logit, bias)| *logit += f64::from(*bias));
            }
            let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let mut row = vec![0.0; self.head_dim];
            if max > f64::NEG_INFINITY {
                let total: f64 = logits.iter().map(|x| (x - max).exp()).sum();
                for ((logit, value), mass) in logits.iter().zip(values).zip(&mut mass) {
                    let p = (logit - max).exp() / total;
                    *mass += p;
                    row.iter_mut().zip(value).for_each(|(x, v)| *x += p * v);
                }
            }
            output.extend(row);
        }
        (output, mass)
    }
}

/// By the definition: the sign of an entry is the parity of the bits that row and column share.
fn naive_hadamard(row: &[f64]) -> Vec<f64> {
    let block = 1 << row.len().trailing_zeros();
    let entry = |i: usize, j: usize| 1.0 - 2.0 * f64::from((i & j).count_ones() % 2);
    let blocks = row.chunks(block).flat_map(|chunk| {
        (0..block).map(move |i| {
            let products = chunk.iter().enumerate().map(|(j, x)| entry(i, j) * x);
            products.sum::<f64>() / (block as f64).sqrt()
        })
    });
    blocks.collect()
}

pub(super) fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![Just(Kind::F32), Just(Kind::Bf16), Just(Kind::Int8)]
}

pub(super) fn case() -> impl Strategy<Value = Case> {
    let shapes = vec((kind(), kind(), prop_oneof![Just(0), 0usize..70]), 0..4);
    let hidden = prop_oneof![
        Just(None),
        Just(Some(0.0)),
        Just(Some(0.3)),
        Just(Some(1.1))
    ];
    (1usize..=130, 1usize..=5, shapes, hidden, any::<u64>()).prop_map(
        |(head_dim, group, shapes, hidden, seed)| Case::new(head_dim, group, &shapes, hidden, seed),
    )
}
