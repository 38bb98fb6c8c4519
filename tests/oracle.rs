//! The tensor path against plain loops: a small random model computed twice, here in f64 with lists that are cut and
//! never recycled, there on tch with slots that are recycled in place.

use std::collections::HashMap;
use std::path::PathBuf;

use llamahome::ids::{SeqId, TokenId};
use llamahome::kv::{KvReport, Policy};
use llamahome::llama::testing::{tiny_config, tiny_gguf};
use llamahome::llama::{Compute, Dtype, KvMemory, Llama, LlamaForward, ModelConfig};
use llamahome::sample::SamplingParams;
use llamahome::sched::{Forward, Open, Origin, Phase, Plan, Row, Want};
use llamahome::store::Checkpoint;

/// What the plain implementation remembers of a token in one KV head.
#[derive(Clone)]
struct Entry {
    position: usize,
    key: Vec<f64>,
    value: Vec<f64>,
    score: f64,
}

/// Llama with loops, straight from the file: rows of query and key rotate in interleaved pairs, as they are stored.
struct Plain {
    config: ModelConfig,
    tensors: HashMap<String, Vec<f64>>,
    /// `[layer][kv head]`.
    cache: Vec<Vec<Vec<Entry>>>,
    policy: Policy,
}

impl Plain {
    fn new(checkpoint: &Checkpoint, config: &ModelConfig, policy: Policy) -> Self {
        let mut tensors = HashMap::new();
        for name in checkpoint.names() {
            let mut values = Vec::new();
            checkpoint.read_f32(name, &mut values).unwrap();
            tensors.insert(name.to_owned(), values.into_iter().map(f64::from).collect());
        }
        let cache = vec![vec![Vec::new(); config.kv_heads]; config.layers];
        Plain {
            config: config.clone(),
            tensors,
            cache,
            policy,
        }
    }

    fn linear(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let weight = &self.tensors[&format!("{name}.weight")];
        weight
            .chunks_exact(x.len())
            .map(|row| row.iter().zip(x).map(|(w, x)| w * x).sum())
            .collect()
    }

    fn norm(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let mean = x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64;
        let scale = 1.0 / (mean + self.config.norm_eps).sqrt();
        let weight = &self.tensors[&format!("{name}.weight")];
        x.iter().zip(weight).map(|(x, w)| x * scale * w).collect()
    }

    fn rotate(&self, head: &mut [f64], position: usize) {
        for (pair, values) in head.chunks_exact_mut(2).enumerate() {
            let exponent = 2.0 * pair as f64 / self.config.head_dim as f64;
            let (sin, cos) = (position as f64 * self.config.rope_theta.powf(-exponent)).sin_cos();
            let (a, b) = (values[0], values[1]);
            values[0] = a * cos - b * sin;
            values[1] = b * cos + a * sin;
        }
    }

    /// One token; returns its logits. `evict` cuts the lists afterwards.
    fn feed(&mut self, token: TokenId, position: usize, evict: bool) -> Vec<f64> {
        let (dim, hidden) = (self.config.head_dim, self.config.hidden);
        let group = self.config.heads / self.config.kv_heads;
        let from = token as usize * hidden;
        let mut x = self.tensors["token_embd.weight"][from..from + hidden].to_vec();
        for layer in 0..self.config.layers {
            let blk = |name: &str| format!("blk.{layer}.{name}");
            let normed = self.norm(&blk("attn_norm"), &x);
            let mut queries = self.linear(&blk("attn_q"), &normed);
            let mut keys = self.linear(&blk("attn_k"), &normed);
            let values = self.linear(&blk("attn_v"), &normed);
            queries
                .chunks_exact_mut(dim)
                .for_each(|head| self.rotate(head, position));
            keys.chunks_exact_mut(dim)
                .for_each(|head| self.rotate(head, position));
            let mut output = vec![0.0; queries.len()];
            for kv_head in 0..self.config.kv_heads {
                let at = kv_head * dim;
                let mut entries = std::mem::take(&mut self.cache[layer][kv_head]);
                entries.push(Entry {
                    position,
                    key: keys[at..at + dim].to_vec(),
                    value: values[at..at + dim].to_vec(),
                    score: 0.0,
                });
                let window = self.config.sliding_window.unwrap_or(usize::MAX);
                for query_head in kv_head * group..(kv_head + 1) * group {
                    let query = &queries[query_head * dim..(query_head + 1) * dim];
                    let logit = |entry: &Entry| {
                        if position - entry.position >= window {
                            return f64::NEG_INFINITY;
                        }
                        let dot: f64 = query.iter().zip(&entry.key).map(|(q, k)| q * k).sum();
                        dot / (dim as f64).sqrt()
                    };
                    let logits: Vec<f64> = entries.iter().map(logit).collect();
                    let top = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    let sum: f64 = logits.iter().map(|l| (l - top).exp()).sum();
                    for (entry, logit) in entries.iter_mut().zip(&logits) {
                        let p = (logit - top).exp() / sum;
                        entry.score += p;
                        let out = &mut output[query_head * dim..(query_head + 1) * dim];
                        out.iter_mut()
                            .zip(&entry.value)
                            .for_each(|(o, v)| *o += p * v);
                    }
                }
                self.cache[layer][kv_head] = entries;
            }
            if evict {
                self.cut(layer);
            }
            let attended = self.linear(&blk("attn_output"), &output);
            x.iter_mut().zip(attended).for_each(|(x, a)| *x += a);
            let normed = self.norm(&blk("ffn_norm"), &x);
            let gate = self.linear(&blk("ffn_gate"), &normed);
            let up = self.linear(&blk("ffn_up"), &normed);
            let inner: Vec<f64> = gate
                .iter()
                .zip(up)
                .map(|(g, u)| g / (1.0 + (-g).exp()) * u)
                .collect();
            let down = self.linear(&blk("ffn_down"), &inner);
            x.iter_mut().zip(down).for_each(|(x, d)| *x += d);
        }
        self.linear("output", &self.norm("output_norm", &x))
    }

    /// The published rules, written out again on lists in time order.
    fn cut(&mut self, layer: usize) {
        for entries in &mut self.cache[layer] {
            let Some(capacity) = self.policy.capacity() else {
                continue;
            };
            let (first, last) = (self.policy.protect.sinks, self.policy.protect.recent);
            let by_score = capacity - first - last;
            let old = entries.len().saturating_sub(last);
            if entries.len() <= first + by_score + last {
                continue;
            }
            let mut ranked: Vec<usize> = (0..old).collect();
            ranked.sort_by(|&a, &b| {
                entries[b]
                    .score
                    .total_cmp(&entries[a].score)
                    .then(a.cmp(&b))
            });
            let heavy: Vec<usize> = ranked.into_iter().take(by_score).collect();
            let mut index = 0;
            entries.retain(|_| {
                let here = index;
                index += 1;
                here < first || here >= old || heavy.contains(&here)
            });
        }
    }
}

struct Case {
    _folder: tempfile::TempDir,
    checkpoint: Checkpoint,
    config: ModelConfig,
}

impl Case {
    fn new(seed: u64, config: ModelConfig) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file: PathBuf = folder.path().join("tiny.gguf");
        std::fs::write(&file, tiny_gguf(&config, seed).unwrap()).unwrap();
        let checkpoint = Checkpoint::open(&file).unwrap();
        let config = ModelConfig::read(&checkpoint).unwrap();
        Case {
            _folder: folder,
            checkpoint,
            config,
        }
    }

    fn model(&self, tile: usize) -> LlamaForward {
        let compute = Compute::choose(Dtype::Float32);
        let llama = Llama::load(&self.checkpoint, compute, tile, None).unwrap();
        // Small blocks, so that prompts have some.
        let memory = KvMemory {
            grid: 8,
            ..KvMemory::default()
        };
        LlamaForward::with_memory(llama, memory)
    }

    fn tokens(&self, count: usize, salt: usize) -> Vec<TokenId> {
        (0..count)
            .map(|i| ((i * i * 31 + i * 7 + salt * 13) % self.config.vocab) as TokenId)
            .collect()
    }
}

fn row(seq: u64, tokens: &[TokenId], start: usize, policy: &Policy, evict: bool) -> Row {
    Row {
        seq: SeqId(seq),
        open: (start == 0).then(|| Open {
            policy: policy.clone(),
            sampling: SamplingParams::default(),
            origin: Origin::Empty,
        }),
        tokens: tokens.to_vec(),
        start,
        want: Want::All,
        phase: match evict {
            true if start > 0 && tokens.len() == 1 => Phase::Decode,
            true => Phase::Prompt { left: 0 },
            false => Phase::Prompt { left: 1000 },
        },
    }
}

/// Feeds `rows` in one plan; logits and cache of each.
fn step(model: &mut LlamaForward, rows: Vec<Row>) -> Vec<(Vec<f32>, KvReport)> {
    let outputs = model
        .forward(&Plan {
            rows,
            paused: Vec::new(),
            ended: Vec::new(),
        })
        .unwrap();
    outputs
        .rows
        .into_iter()
        .map(|row| (row.logits, row.kv))
        .collect()
}

fn close(found: &[f32], expected: &[f64], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (index, (f, e)) in found.iter().zip(expected).enumerate() {
        assert!(
            (f64::from(*f) - e).abs() < 2e-3,
            "{what}: logit {index} is {f}, not {e}"
        );
    }
}

fn policies() -> Vec<Policy> {
    vec![
        Policy::full(),
        Policy::window(5).unwrap(),
        Policy::streaming(2, 6).unwrap(),
        Policy::h2o(4, 4).unwrap(),
        Policy::h2o(0, 6).unwrap(),
        Policy::h2o(6, 0).unwrap(),
        Policy::h2o(1, 1).unwrap(),
    ]
}

#[test]
fn a_prompt_and_then_decoding_equal_plain_loops_under_every_policy() {
    let case = Case::new(1, tiny_config());
    for (prompt, tile) in [(1, 7), (3, 7), (20, 7), (33, 64)] {
        for policy in policies() {
            let tokens = case.tokens(prompt + 30, prompt);
            let mut plain = Plain::new(&case.checkpoint, &case.config, policy.clone());
            let mut model = case.model(tile);
            let mut expected = Vec::new();
            for (position, &token) in tokens[..prompt].iter().enumerate() {
                expected.extend(plain.feed(token, position, position + 1 == prompt));
            }
            let what = format!("{policy}, prompt of {prompt}");
            let first = step(
                &mut model,
                vec![row(0, &tokens[..prompt], 0, &policy, true)],
            );
            close(&first[0].0, &expected, &what);
            for position in prompt..tokens.len() {
                let expected = plain.feed(tokens[position], position, true);
                let out = step(
                    &mut model,
                    vec![row(
                        0,
                        &tokens[position..=position],
                        position,
                        &policy,
                        true,
                    )],
                );
                close(
                    &out[0].0,
                    &expected,
                    &format!("{what}, position {position}"),
                );
            }
        }
    }
}

#[test]
fn how_a_prompt_is_split_changes_nothing() {
    let case = Case::new(2, tiny_config());
    let policy = Policy::h2o(3, 5).unwrap();
    let tokens = case.tokens(40, 5);
    let after = |chunks: &[usize], tile: usize| {
        let mut model = case.model(tile);
        let mut at = 0;
        for &size in chunks {
            let last = at + size == 30;
            step(
                &mut model,
                vec![row(0, &tokens[at..at + size], at, &policy, last)],
            );
            at += size;
        }
        let mut logits = Vec::new();
        for position in 30..40 {
            logits = step(
                &mut model,
                vec![row(
                    0,
                    &tokens[position..=position],
                    position,
                    &policy,
                    true,
                )],
            )
            .swap_remove(0)
            .0;
        }
        logits
    };
    let whole = after(&[30], 256);
    for (chunks, tile) in [
        (vec![7, 23], 256),
        (vec![1; 30], 256),
        (vec![30], 4),
        (vec![16, 14], 5),
    ] {
        for (a, b) in after(&chunks, tile).iter().zip(&whole) {
            assert!(
                (a - b).abs() < 1e-4,
                "{chunks:?} in tiles of {tile}: {a} and {b}"
            );
        }
    }
}

#[test]
fn two_sequences_in_one_batch_equal_each_alone() {
    let case = Case::new(3, tiny_config());
    let (a, b) = (case.tokens(30, 1), case.tokens(44, 2));
    let (first, second) = (Policy::h2o(4, 4).unwrap(), Policy::full());
    let mut alone = case.model(64);
    let expected = [
        step(&mut alone, vec![row(0, &a[..10], 0, &first, true)]).swap_remove(0),
        step(&mut alone, vec![row(1, &b[..24], 0, &second, true)]).swap_remove(0),
    ];
    let mut together = case.model(64);
    let found = step(
        &mut together,
        vec![
            row(0, &a[..10], 0, &first, true),
            row(1, &b[..24], 0, &second, true),
        ],
    );
    compare(&found, &expected);
    for i in 0..20 {
        let (p, q) = (10 + i, 24 + i);
        let one = step(&mut alone, vec![row(0, &a[p..=p], p, &first, true)]).swap_remove(0);
        let two = step(&mut alone, vec![row(1, &b[q..=q], q, &second, true)]).swap_remove(0);
        let found = step(
            &mut together,
            vec![
                row(0, &a[p..=p], p, &first, true),
                row(1, &b[q..=q], q, &second, true),
            ],
        );
        compare(&found, &[one, two]);
    }
}

fn compare(found: &[(Vec<f32>, KvReport)], expected: &[(Vec<f32>, KvReport)]) {
    for ((logits, kv), (wanted, wanted_kv)) in found.iter().zip(expected) {
        assert_eq!(kv, wanted_kv);
        for (a, b) in logits.iter().zip(wanted) {
            assert!((a - b).abs() < 1e-4, "{a} and {b}");
        }
    }
}

#[test]
fn a_budget_of_at_least_the_length_is_full_attention_to_the_bit() {
    let case = Case::new(4, tiny_config());
    let tokens = case.tokens(60, 3);
    let mut model = case.model(64);
    let bounded = Policy::h2o(30, 30).unwrap();
    let mut at = 0;
    for size in std::iter::once(20).chain(std::iter::repeat_n(1, 40)) {
        let chunk = &tokens[at..at + size];
        let full = step(&mut model, vec![row(0, chunk, at, &Policy::full(), true)]).swap_remove(0);
        let h2o = step(&mut model, vec![row(1, chunk, at, &bounded, true)]).swap_remove(0);
        assert_eq!(full.0, h2o.0, "at {at}");
        at += size;
    }
}

#[test]
fn bytes_are_constant_once_the_budget_is_reached() {
    let case = Case::new(5, tiny_config());
    let tokens = case.tokens(200, 9);
    let policy = Policy::h2o(6, 10).unwrap();
    let mut model = case.model(64);
    let long = step(&mut model, vec![row(0, &tokens[..100], 0, &policy, true)])
        .swap_remove(0)
        .1;
    assert_eq!(
        (
            long.tokens_seen,
            long.tokens_kept,
            long.evicted,
            long.budget
        ),
        (100, 16, 84, Some(16))
    );
    let slot = model.kv_shape().slot_bytes();
    assert_eq!(long.bytes, 17 * slot, "a long prompt's arena is given back");
    for position in 100..200 {
        let kv = step(
            &mut model,
            vec![row(
                0,
                &tokens[position..=position],
                position,
                &policy,
                true,
            )],
        )
        .swap_remove(0)
        .1;
        assert_eq!(
            (kv.bytes, kv.tokens_kept, kv.tokens_seen),
            (long.bytes, 16, position + 1)
        );
    }
    for position in 0..150 {
        let kv = step(
            &mut model,
            vec![row(
                1,
                &tokens[position..=position],
                position,
                &policy,
                true,
            )],
        )
        .swap_remove(0)
        .1;
        assert!(kv.bytes <= long.bytes && kv.tokens_kept == (position + 1).min(16));
    }
}

#[test]
fn a_sliding_window_is_cut_by_position_also_when_slots_are_in_no_order() {
    let config = ModelConfig {
        sliding_window: Some(6),
        ..tiny_config()
    };
    let case = Case::new(6, config);
    assert_eq!(case.config.sliding_window, Some(6));
    for policy in [Policy::full(), Policy::h2o(5, 4).unwrap()] {
        let tokens = case.tokens(40, 4);
        let mut plain = Plain::new(&case.checkpoint, &case.config, policy.clone());
        let mut model = case.model(5);
        let mut expected = Vec::new();
        for (position, &token) in tokens[..20].iter().enumerate() {
            expected.extend(plain.feed(token, position, position == 19));
        }
        let found = step(&mut model, vec![row(0, &tokens[..20], 0, &policy, true)]);
        close(&found[0].0, &expected, "prompt");
        for position in 20..40 {
            let expected = plain.feed(tokens[position], position, true);
            let found = step(
                &mut model,
                vec![row(
                    0,
                    &tokens[position..=position],
                    position,
                    &policy,
                    true,
                )],
            );
            close(&found[0].0, &expected, &format!("{policy} at {position}"));
        }
    }
}

#[test]
fn what_cannot_be_computed_is_an_error() {
    let case = Case::new(7, tiny_config());
    let mut model = case.model(64);
    let bad = |model: &mut LlamaForward, row: Row| {
        model
            .forward(&Plan {
                rows: vec![row],
                paused: Vec::new(),
                ended: vec![],
            })
            .unwrap_err()
    };
    let unknown = bad(&mut model, row(9, &[1], 3, &Policy::full(), true)).to_string();
    assert!(unknown.contains("seq-9"), "{unknown}");
    let token = bad(&mut model, row(0, &[96], 0, &Policy::full(), true)).to_string();
    assert!(token.contains("96"), "{token}");
    let long = bad(&mut model, row(0, &[1; 257], 0, &Policy::full(), true)).to_string();
    assert!(long.contains("256"), "{long}");
}
