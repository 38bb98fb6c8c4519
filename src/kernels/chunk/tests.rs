use half::bf16;
use proptest::prelude::*;

use super::*;
use crate::kernels::{Scratch as StepScratch, amount, attend, quantize_row};

/// Random floats of -1 to 1 (xorshift, <https://doi.org/10.18637/jss.v008.i14>).
struct Random(u64);

impl Random {
    fn float(&mut self) -> f32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    fn floats(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.float()).collect()
    }
}

#[derive(Debug, Clone)]
enum Stored {
    F32(Vec<f32>),
    Bf16(Vec<bf16>),
    Int8(Vec<i8>, Vec<f32>),
}

impl Stored {
    /// Rows of kind 0 to 2; the int8 ones are rotated when they are keys, which here are any rows.
    fn new(kind: usize, len: usize, dim: usize, random: &mut Random) -> Stored {
        let floats = random.floats(len * dim);
        match kind {
            0 => Stored::F32(floats),
            1 => Stored::Bf16(floats.iter().map(|x| bf16::from_f32(*x)).collect()),
            _ => {
                let mut values = vec![0; floats.len()];
                let rows = floats.chunks(dim).zip(values.chunks_mut(dim));
                let scales = rows.map(|(row, out)| quantize_row(row, out)).collect();
                Stored::Int8(values, scales)
            }
        }
    }

    fn view(&self) -> RowsRef<'_> {
        match self {
            Stored::F32(rows) => RowsRef::F32(rows),
            Stored::Bf16(rows) => RowsRef::Bf16(rows),
            Stored::Int8(values, scales) => RowsRef::Int8 { values, scales },
        }
    }
}

/// Results, and what the columns received.
#[derive(Debug)]
struct Attended {
    /// `[tokens, group, head_dim]`.
    output: Vec<f32>,
    /// The same where nothing else is wanted.
    without: Vec<f32>,
    sums: Vec<f32>,
    weighed: Vec<f32>,
}

/// A sequence with `tokens` new tokens at its end.
#[derive(Debug)]
struct Case {
    dim: usize,
    tokens: usize,
    segments: Vec<(Stored, Stored, usize)>,
    queries: Vec<f32>,
    weights: Vec<f32>,
    bias: Option<Vec<f32>>,
    positions: Vec<u32>,
    width: Option<usize>,
}

impl Case {
    fn new(
        (dim, group, tokens): (usize, usize, usize),
        before: &[(usize, usize)],
        (biased, width): (bool, Option<usize>),
        seed: u64,
    ) -> Case {
        let mut random = Random(seed | 1);
        let own = [(before.len() % 2, tokens)];
        let segments: Vec<_> = before
            .iter()
            .chain(&own)
            .map(|&(kind, len)| {
                let keys = Stored::new(kind, len, dim, &mut random);
                (
                    keys,
                    Stored::new((kind + 1) % 3, len, dim, &mut random),
                    len,
                )
            })
            .collect();
        let columns: usize = segments.iter().map(|s| s.2).sum();
        // Of the columns before, the order of time is the reverse.
        let past = (columns - tokens) as u32;
        let positions = (0..past).rev().chain(past..columns as u32);
        let bias = (0..columns).map(|i| {
            if i < columns - tokens {
                random.float()
            } else {
                0.0
            }
        });
        Case {
            bias: biased.then(|| bias.collect()),
            queries: random.floats(tokens * group * dim),
            weights: (0..tokens).map(|i| i as f32 / 3.0).collect(),
            dim,
            tokens,
            segments,
            positions: positions.collect(),
            width,
        }
    }

    fn segments(&self) -> Vec<Segment<'_>> {
        let parts = self.segments.iter();
        parts
            .map(|(keys, values, len)| Segment {
                keys: keys.view(),
                values: values.view(),
                len: *len,
            })
            .collect()
    }

    fn attend(&self, level: Level, precision: Precision, pool: &Pool) -> Attended {
        let segments = self.segments();
        let row = self.queries.len() / self.tokens;
        // Apart from each other, and twice as large as they are to be.
        let stride = row + 3;
        let mut queries = vec![f32::NAN; self.tokens * stride];
        let rows = queries.chunks_mut(stride).zip(self.queries.chunks(row));
        for (to, from) in rows {
            to.iter_mut().zip(from).for_each(|(to, x)| *to = 2.0 * x);
        }
        let chunk = Chunk {
            queries: &queries,
            stride,
            scale: 0.5,
            segments: &segments,
            bias: self.bias.as_deref(),
            window: self.width.map(|width| Window {
                positions: &self.positions,
                width,
            }),
            sums: true,
            weights: &self.weights,
        };
        let without = Chunk {
            sums: false,
            weights: &[],
            ..chunk
        };
        let mut output = vec![f32::NAN; 3 * self.queries.len()];
        let shape = (self.tokens, row / self.dim, self.dim);
        let heads = [chunk, chunk, without];
        let mut found = attend_chunk(level, precision, pool, &heads, shape, &mut output);
        let third = found.pop().unwrap();
        assert!(third.sums.is_empty() && third.weighed.is_empty());
        let (second, first) = (found.pop().unwrap(), found.pop().unwrap());
        assert_eq!(first.sums, second.sums);
        assert_eq!(first.weighed, second.weighed);
        let of = |number: usize| output.chunks(row).skip(number).step_by(3).flatten();
        assert!(of(0).eq(of(1)));
        Attended {
            output: of(0).copied().collect(),
            without: of(2).copied().collect(),
            sums: first.sums,
            weighed: first.weighed,
        }
    }

    /// Query by query.
    fn reference(&self) -> Attended {
        let segments = self.segments();
        let columns = self.positions.len();
        let row = self.queries.len() / self.tokens;
        let mut output = vec![0.0; self.queries.len()];
        let (mut sums, mut weighed) = (vec![0.0; columns], vec![0.0; columns]);
        for token in 0..self.tokens {
            let now = (columns - self.tokens + token) as u32;
            let hidden = |column: usize| {
                let position = self.positions[column];
                position > now
                    || self
                        .width
                        .is_some_and(|w| position as usize + w <= now as usize)
            };
            let bias: Vec<f32> = (0..columns)
                .map(|column| match hidden(column) {
                    true => f32::NEG_INFINITY,
                    false => self.bias.as_ref().map_or(0.0, |bias| bias[column]),
                })
                .collect();
            let mut mass = vec![0.0; columns];
            attend(
                Level::Plain,
                &self.queries[token * row..(token + 1) * row],
                self.dim,
                &segments,
                Some(&bias),
                &mut StepScratch::default(),
                &mut output[token * row..(token + 1) * row],
                Some(&mut mass),
            );
            for (i, mass) in mass.iter().enumerate() {
                sums[i] += mass;
                weighed[i] += mass * self.weights[token];
            }
        }
        Attended {
            without: output.clone(),
            output,
            sums,
            weighed,
        }
    }

    fn check(&self, pool: &Pool) {
        let expected = self.reference();
        let logit = (self.dim as f32).sqrt();
        for level in Level::available() {
            for (precision, bound) in [
                (Precision::Float32, 2e-5),
                (Precision::Split, 1e-4),
                (Precision::Bfloat16, 1.2e-2),
                (Precision::Int8, 2e-2),
            ] {
                let found = self.attend(level, precision, pool);
                for (found, expected) in [
                    (&found.output, &expected.output),
                    (&found.without, &expected.without),
                    (&found.sums, &expected.sums),
                    (&found.weighed, &expected.weighed),
                ] {
                    assert_eq!(found.len(), expected.len());
                    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
                        let allowed = bound * logit * (1.0 + b.abs());
                        assert!(
                            (a - b).abs() <= allowed,
                            "{level:?} {precision:?} {i}: {a} instead of {b} +- {allowed}"
                        );
                    }
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(amount(40, 1) as u32))]

    #[test]
    fn every_level_equals_attention_query_by_query(
        dim in 1..=amount(100, 20), group in 1usize..=5, tokens in 1..=amount(60, 6),
        before in proptest::collection::vec((0usize..3, 1..amount(300, 12)), 0..4),
        biased in any::<bool>(), width in proptest::option::of(1usize..80), seed in any::<u64>(),
    ) {
        let case = Case::new((dim, group, tokens), &before, (biased, width), seed);
        case.check(&Pool::new(2).unwrap());
    }
}

#[test]
#[cfg_attr(
    miri,
    ignore = "takes minutes there; shorter tests take the same paths"
)]
fn groups_of_more_heads_than_a_tile_has_rows_equal_it_too() {
    let case = Case::new((64, 71, 3), &[(0, 20)], (false, None), 3);
    case.check(&Pool::new(1).unwrap());
}

#[test]
#[cfg_attr(
    miri,
    ignore = "takes minutes there; shorter tests take the same paths"
)]
fn what_is_not_wanted_is_empty_and_threads_change_nothing() {
    let case = Case::new((64, 3, 100), &[(1, 700)], (false, None), 5);
    let segments = case.segments();
    let chunk = Chunk {
        queries: &case.queries,
        stride: 3 * 64,
        scale: 1.0,
        segments: &segments,
        bias: None,
        window: None,
        sums: false,
        weights: &[],
    };
    for precision in [
        Precision::Float32,
        Precision::Split,
        Precision::Bfloat16,
        Precision::Int8,
    ] {
        let of = |threads| {
            let pool = Pool::new(threads).unwrap();
            let mut output = vec![0.0; case.queries.len()];
            let shape = (100, 3, 64);
            let found = attend_chunk(
                Level::best(),
                precision,
                &pool,
                &[chunk],
                shape,
                &mut output,
            );
            assert!(found[0].sums.is_empty() && found[0].weighed.is_empty());
            output
        };
        assert_eq!(of(1), of(3));
    }
}

#[test]
fn wrong_shapes_panic() {
    let case = Case::new((8, 2, 4), &[], (false, None), 5);
    let segments = case.segments();
    let call = |queries: usize, shape: (usize, usize, usize), weights: usize, output: usize| {
        let chunk = Chunk {
            queries: &case.queries[..queries],
            stride: 16,
            scale: 1.0,
            segments: &segments,
            bias: None,
            window: None,
            sums: true,
            weights: &case.weights[..weights],
        };
        std::panic::catch_unwind(|| {
            let pool = Pool::new(1).unwrap();
            let mut output = vec![0.0; output];
            let (level, precision) = (Level::best(), Precision::Float32);
            attend_chunk(level, precision, &pool, &[chunk], shape, &mut output)
        })
        .is_err()
    };
    assert!(!call(64, (4, 2, 8), 4, 64) && !call(64, (4, 2, 8), 0, 64));
    for (queries, shape, weights, output) in [
        (63, (4, 2, 8), 4, 64),
        (64, (4, 2, 0), 4, 0),
        (64, (4, 0, 8), 4, 0),
        (64, (4, 2, 4), 4, 32),
        (64, (0, 2, 8), 0, 0),
        (64, (5, 2, 8), 4, 80),
        (64, (4, 3, 8), 4, 96),
        (64, (4, 2, 8), 3, 64),
        (64, (4, 2, 8), 4, 63),
    ] {
        assert!(
            call(queries, shape, weights, output),
            "{queries} {shape:?} {weights} {output}"
        );
    }
}
