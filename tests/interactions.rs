//! Where two features meet: eviction, shared prefixes, chunked prefill, batching, re-basing, int8 rows, spilling,
//! sessions. Each of these pairs has gone wrong somewhere; each test is named for what must hold.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use llamahome::ids::{SeqId, SessionId, TokenId};
use llamahome::kernels::{Level, RowsRef, Scratch, Segment, attend};
use llamahome::kv::{
    BadPolicy, Budget, Config, HeadClasses, HeadSlots, Hybrid, KvChoice, KvDtype, KvReport, Policy,
    PolicyKind, Reading, Spill, Spread,
};
use llamahome::llama::testing::{tiny_config, tiny_gguf};
use llamahome::llama::{Compute, Dtype, KvMemory, Llama, LlamaForward, ModelConfig};
use llamahome::sample::SamplingParams;
use llamahome::sched::{
    Ended, Forward, ForwardError, Open, Origin, Phase, Plan, Row, SessionOrder, SessionReply, Want,
};
use llamahome::store::Checkpoint;

const GRID: usize = 8;
const VOCAB: usize = 96;

struct Case {
    folder: tempfile::TempDir,
    checkpoint: Checkpoint,
}

impl Case {
    fn new(seed: u64) -> Self {
        Case::of(&tiny_config(), seed)
    }

    fn of(config: &ModelConfig, seed: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file: PathBuf = folder.path().join("tiny.gguf");
        std::fs::write(&file, tiny_gguf(config, seed).unwrap()).unwrap();
        Case {
            checkpoint: Checkpoint::open(&file).unwrap(),
            folder,
        }
    }

    fn model(&self, dtype: KvDtype) -> LlamaForward {
        self.with(KvMemory {
            dtype,
            ..self.memory()
        })
    }

    fn memory(&self) -> KvMemory {
        KvMemory {
            grid: GRID,
            prefix_bytes: 1 << 24,
            folder: Some(self.folder.path().to_owned()),
            ..KvMemory::default()
        }
    }

    fn with(&self, memory: KvMemory) -> LlamaForward {
        let compute = Compute::choose(Dtype::Float32);
        LlamaForward::with_memory(
            Llama::load(&self.checkpoint, compute, 16, None).unwrap(),
            memory,
        )
    }
}

fn text(count: usize, salt: usize) -> Vec<TokenId> {
    (0..count)
        .map(|i| ((i * i * 31 + i * 7 + salt * 13) % VOCAB) as TokenId)
        .collect()
}

fn argmax(logits: &[f32]) -> TokenId {
    let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    best.unwrap().0 as TokenId
}

fn origin(prompt: &[TokenId]) -> Origin {
    Origin::Prefix {
        prompt: Arc::from(prompt),
        tenant: String::new(),
    }
}

fn rows_of(
    seq: u64,
    prompt: &[TokenId],
    policy: &Policy,
    origin: &Origin,
    start: usize,
) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut at = 0;
    while at < prompt.len() {
        let end = (((start + at) / GRID + 1) * GRID - start).min(prompt.len());
        let left = prompt.len() - end;
        rows.push(Row {
            seq: SeqId(seq),
            open: (at == 0).then(|| Open {
                policy: policy.clone(),
                sampling: SamplingParams::default(),
                origin: origin.clone(),
            }),
            tokens: prompt[at..end].to_vec(),
            start: start + at,
            want: if left == 0 { Want::Last } else { Want::Nothing },
            phase: Phase::Prompt { left },
        });
        at = end;
    }
    rows
}

fn run(model: &mut LlamaForward, rows: Vec<Row>) -> Vec<(Vec<f32>, KvReport, usize)> {
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
        .map(|row| (row.logits, row.kv, row.cached))
        .collect()
}

/// Reads a prompt in chunks of the grid. Logits, cache, and tokens that were not computed.
fn read(
    model: &mut LlamaForward,
    seq: u64,
    prompt: &[TokenId],
    policy: &Policy,
    from: &Origin,
) -> (Vec<f32>, KvReport, usize) {
    let mut cached = 0;
    let mut last = None;
    for row in rows_of(seq, prompt, policy, from, 0) {
        let (logits, kv, skipped) = run(model, vec![row]).swap_remove(0);
        cached += skipped;
        last = Some((logits, kv));
    }
    let (logits, kv) = last.unwrap();
    (logits, kv, cached)
}

fn decode(seq: u64, token: TokenId, position: usize) -> Row {
    Row {
        seq: SeqId(seq),
        open: None,
        tokens: vec![token],
        start: position,
        want: Want::Last,
        phase: Phase::Decode,
    }
}

/// Token `position` of a sequence that is fed one by one; the first opens it.
fn fed(token: TokenId, position: usize, policy: &Policy) -> Row {
    Row {
        open: (position == 0).then(|| Open {
            policy: policy.clone(),
            sampling: SamplingParams::default(),
            origin: Origin::Empty,
        }),
        ..decode(0, token, position)
    }
}

/// Greedy text after `logits`, and the last row of logits.
fn generate(
    model: &mut LlamaForward,
    seq: u64,
    mut logits: Vec<f32>,
    mut position: usize,
    count: usize,
) -> (Vec<TokenId>, Vec<f32>) {
    let mut tokens = Vec::new();
    for _ in 0..count {
        let token = argmax(&logits);
        tokens.push(token);
        logits = run(model, vec![decode(seq, token, position)])
            .swap_remove(0)
            .0;
        position += 1;
    }
    (tokens, logits)
}

fn end(model: &mut LlamaForward, ended: Ended) {
    model
        .forward(&Plan {
            rows: Vec::new(),
            paused: Vec::new(),
            ended: vec![ended],
        })
        .unwrap();
}

/// Positions kept by every layer and head.
fn kept(model: &LlamaForward, seq: u64) -> Vec<Vec<u32>> {
    let config = tiny_config();
    (0..config.layers)
        .flat_map(|layer| (0..config.kv_heads).map(move |head| (layer, head)))
        .map(|(layer, head)| {
            let held = model.held(SeqId(seq), layer, head).unwrap();
            held.into_iter().map(|(position, _)| position).collect()
        })
        .collect()
}

fn close(a: &[f32], b: &[f32], bound: f32, what: &str) {
    assert_eq!(a.len(), b.len(), "{what}");
    for (a, b) in a.iter().zip(b) {
        assert!((a - b).abs() < bound, "{what}: {a} and {b}");
    }
}

fn kl(full: &[f32], other: &[f32]) -> f64 {
    let norm = |logits: &[f32]| {
        let top = logits.iter().copied().fold(f32::MIN, f32::max);
        let sum: f64 = logits.iter().map(|&l| f64::from(l - top).exp()).sum();
        f64::from(top) + sum.ln()
    };
    let (a, b) = (norm(full), norm(other));
    let terms = full.iter().zip(other);
    terms
        .map(|(&x, &y)| {
            let (p, q) = (f64::from(x) - a, f64::from(y) - b);
            p.exp() * (p - q)
        })
        .sum()
}

fn hybrid(capacity: usize) -> Policy {
    let constants = Hybrid {
        window: 4,
        pool: 3,
        sinks: 2,
        ..Hybrid::default()
    };
    Policy::hybrid(capacity, constants).unwrap().summarised(2)
}

/// A whole prompt in one row.
fn at_once(seq: u64, prompt: &[TokenId], policy: &Policy) -> Row {
    Row {
        seq: SeqId(seq),
        open: Some(Open {
            policy: policy.clone(),
            sampling: SamplingParams::default(),
            origin: Origin::Empty,
        }),
        tokens: prompt.to_vec(),
        start: 0,
        want: Want::Last,
        phase: Phase::Prompt { left: 0 },
    }
}

fn plan(rows: Vec<Row>) -> Plan {
    Plan {
        rows,
        ..Plan::default()
    }
}

#[test]
fn a_prompt_that_is_put_off_between_blocks_comes_to_what_it_would_at_once() {
    let tiny = Case::new(11);
    let (long, short) = (text(48, 3), text(5, 4));
    for policy in [Policy::full(), Policy::h2o(8, 8).unwrap()] {
        let mut model = tiny.model(KvDtype::Float32);
        let whole = run(&mut model, vec![at_once(0, &long, &policy)]).swap_remove(0);
        let alone = run(&mut model, vec![at_once(1, &short, &policy)]).swap_remove(0);
        let (answer, after) = generate(&mut model, 1, alone.0.clone(), short.len(), 2);
        let (text_of_long, _) = generate(&mut model, 0, whole.0.clone(), long.len(), 6);

        let mut model = tiny.model(KvDtype::Float32);
        assert!(model.slices() > 1);
        run(&mut model, vec![at_once(1, &short, &policy)]);
        let none = Some(Duration::ZERO);
        let mut rows = vec![
            decode(1, answer[0], short.len()),
            at_once(0, &long, &policy),
        ];
        let (mut answered, mut read) = (Vec::new(), None);
        for _ in 0..=2 * model.slices() {
            let outputs = model
                .forward_within(&plan(std::mem::take(&mut rows)), none)
                .unwrap();
            for row in outputs.rows {
                match row.seq {
                    SeqId(1) => {
                        answered.push(row.logits);
                        if answered.len() == 1 {
                            rows.push(decode(1, answer[1], short.len() + 1));
                        }
                    }
                    _ => read = Some((row.logits, row.kv)),
                }
            }
            if read.is_some() {
                break;
            }
            assert!(
                answered.len() == 1 || rows.is_empty(),
                "answers go on meanwhile"
            );
        }
        let read = read.expect("the prompt is read after as many steps as there are blocks");
        assert_eq!(answered.last(), Some(&after));
        assert_eq!((&read.0, &read.1), (&whole.0, &whole.1));
        assert_eq!(
            generate(&mut model, 0, read.0, long.len(), 6).0,
            text_of_long
        );
    }
}

#[test]
fn a_prompt_that_is_put_off_can_be_finished_paused_and_ended() {
    let tiny = Case::new(11);
    let (long, policy) = (text(48, 3), Policy::full());
    let mut model = tiny.model(KvDtype::Float32);
    let whole = run(&mut model, vec![at_once(0, &long, &policy)]).swap_remove(0);
    let begin = |model: &mut LlamaForward, seqs: &[u64]| {
        let rows = seqs
            .iter()
            .map(|&seq| at_once(seq, &long, &policy))
            .collect();
        let begun = model
            .forward_within(&plan(rows), Some(Duration::ZERO))
            .unwrap();
        assert!(begun.rows.is_empty());
    };
    // Without a slice it is computed to its end.
    begin(&mut model, &[1]);
    assert_eq!(
        model.forward(&Plan::default()).unwrap().rows[0].logits,
        whole.0
    );
    // Paused, it is computed to its end first.
    begin(&mut model, &[2]);
    let paused = vec![SeqId(2)];
    let step = Plan {
        paused,
        ..Plan::default()
    };
    let done = model
        .forward_within(&step, Some(Duration::ZERO))
        .unwrap()
        .rows;
    assert_eq!((done[0].seq, &done[0].logits), (SeqId(2), &whole.0));
    // Ended, it is dropped; its neighbour in the same pass is not.
    begin(&mut model, &[3]);
    end(&mut model, Ended::from(SeqId(3)));
    assert!(model.forward(&Plan::default()).unwrap().rows.is_empty());
    begin(&mut model, &[4, 5]);
    let step = Plan {
        ended: vec![Ended::from(SeqId(4))],
        ..Plan::default()
    };
    let done = model.forward(&step).unwrap().rows;
    let neighbour = done.iter().find(|row| row.seq == SeqId(5)).unwrap();
    assert_eq!(neighbour.logits, whole.0);
    assert!(model.held(SeqId(4), 0, 0).is_none());
    // A short row is put off like any other, for deep in a long prompt it takes long, too; what follows the last slice
    // comes in a step of its own.
    let short = at_once(6, &long[..20], &policy);
    let mut rows = vec![short];
    let mut steps = 0;
    let done = loop {
        let step = plan(std::mem::take(&mut rows));
        let done = model.forward_within(&step, Some(Duration::ZERO)).unwrap();
        steps += 1;
        if !done.rows.is_empty() {
            break done.rows;
        }
    };
    assert_eq!((done.len(), steps), (1, model.slices() + 1));
}

#[test]
fn ragged_heads_cost_what_their_budgets_say() {
    let case = Case::new(1);
    let slot = case.model(KvDtype::Auto).kv_shape().slot_bytes();
    let weights = vec![vec![1.0, 3.0], vec![2.0, 2.0], vec![0.5, 3.5]];
    let mut classes = Policy::h2o(8, 8).unwrap();
    classes.spread = Spread::Classes(Arc::new(HeadClasses { weights }));
    for policy in [
        classes,
        Policy::adasnap(16, 4, 3).unwrap(),
        Policy::pyramid(16, 4, 3).unwrap(),
    ] {
        let mut model = case.model(KvDtype::Auto);
        let prompt = text(100, 1);
        let (logits, kv, _) = read(&mut model, 0, &prompt, &policy, &Origin::Empty);
        let held = kept(&model, 0);
        let total: usize = held.iter().map(Vec::len).sum();
        assert_eq!(total, 16 * held.len(), "{policy}");
        assert!(held.iter().any(|h| h.len() != 16), "{policy} is not ragged");
        // One slot more a head, for the next token.
        assert_eq!(kv.bytes, 17 * slot, "{policy}");
        let (_, logits) = generate(&mut model, 0, logits, 100, 20);
        assert!(logits.iter().all(|l| l.is_finite()));
    }
}

#[test]
fn one_sequence_evicting_leaves_another_on_the_same_prefix_untouched() {
    let case = Case::new(2);
    let prompt = text(64, 2);
    let full = Policy::full();
    let mut alone = case.model(KvDtype::Auto);
    let (logits, ..) = read(&mut alone, 1, &prompt, &full, &origin(&prompt));
    let expected = generate(&mut alone, 1, logits, 64, 30);

    let mut model = case.model(KvDtype::Auto);
    // The first is read whole and shared; then the second takes its blocks.
    let (logits, ..) = read(&mut model, 0, &prompt, &full, &origin(&prompt));
    let (shared, _, cached) = read(&mut model, 1, &prompt, &full, &origin(&prompt));
    assert_eq!((logits == shared, cached), (true, 56));
    // A fork of the first evicts nearly all of it.
    let fork = Row {
        open: Some(Open {
            policy: Policy::h2o(2, 2).unwrap(),
            sampling: SamplingParams::default(),
            origin: Origin::Fork(SeqId(0)),
        }),
        ..decode(7, 5, 64)
    };
    let kv = run(&mut model, vec![fork]).swap_remove(0).1;
    assert_eq!(kv.tokens_kept, 4);
    let found = generate(&mut model, 1, shared, 64, 30);
    assert_eq!(found, expected, "to the bit");
}

#[test]
fn a_hit_keeps_what_a_cold_run_keeps_and_says_the_same() {
    let case = Case::new(3);
    let (prompt, other) = (text(90, 3), [text(48, 3), text(40, 9)].concat());
    for policy in [
        Policy::h2o(6, 6).unwrap(),
        Policy::h2o(12, 0)
            .unwrap()
            .scored(llamahome::kv::Score::Mean),
        Policy::h2o(6, 6)
            .unwrap()
            .scored(llamahome::kv::Score::Decay(0.9)),
        Policy::snapkv(12, 4, 3).unwrap(),
        Policy::expected(12, 2, 4).unwrap(),
        hybrid(12),
    ] {
        let mut cold = case.model(KvDtype::Auto);
        let (logits, kv, cached) = read(&mut cold, 0, &prompt, &policy, &origin(&prompt));
        assert_eq!(cached, 0);
        let sets = kept(&cold, 0);
        let expected = generate(&mut cold, 0, logits, 90, 24);

        let mut warm = case.model(KvDtype::Auto);
        read(&mut warm, 5, &other, &policy, &origin(&other));
        end(&mut warm, SeqId(5).into());
        let (logits, hit, cached) = read(&mut warm, 0, &prompt, &policy, &origin(&prompt));
        assert_eq!(cached, 48, "{policy}");
        assert_eq!(kept(&warm, 0), sets, "{policy}");
        assert_eq!(hit, kv, "{policy}");
        let found = generate(&mut warm, 0, logits, 90, 24);
        assert_eq!(found.0, expected.0, "{policy}");
    }
}

#[test]
fn weights_over_all_segments_are_one_softmax() {
    let (dim, group, slots) = (8, 2, 30);
    let value = |i: usize| ((i * 37 % 101) as f32 / 50.0) - 1.0;
    let keys: Vec<f32> = (0..slots * dim).map(value).collect();
    let values: Vec<f32> = (0..slots * dim).map(|i| value(i + 7)).collect();
    let queries: Vec<f32> = (0..group * dim).map(|i| value(i * 3)).collect();
    let weigh = |cuts: &[usize]| {
        let mut from = 0;
        let mut segments = Vec::new();
        for &to in cuts {
            segments.push(Segment {
                keys: RowsRef::F32(&keys[from * dim..to * dim]),
                values: RowsRef::F32(&values[from * dim..to * dim]),
                len: to - from,
            });
            from = to;
        }
        let (mut output, mut mass) = (vec![0.0; group * dim], vec![0.0; slots]);
        attend(
            Level::best(),
            &queries,
            dim,
            &segments,
            None,
            &mut Scratch::default(),
            &mut output,
            Some(&mut mass),
        );
        (output, mass)
    };
    let (one, mass) = weigh(&[slots]);
    let (many, parts) = weigh(&[1, 17, 18, slots]);
    assert!((parts.iter().sum::<f32>() - group as f32).abs() < 1e-5);
    close(&mass, &parts, 1e-6, "weights");
    close(&one, &many, 1e-6, "outputs");
}

#[test]
fn the_batch_does_not_decide_what_is_kept() {
    let case = Case::new(4);
    let prompt = text(61, 4);
    let mut streaming = Policy::h2o(6, 6).unwrap();
    streaming.reading = Reading::Streaming;
    for policy in [Policy::h2o(6, 6).unwrap(), hybrid(12), streaming] {
        let mut alone = case.model(KvDtype::Auto);
        let (logits, ..) = read(&mut alone, 0, &prompt, &policy, &Origin::Empty);
        let sets = kept(&alone, 0);
        let (text_alone, _) = generate(&mut alone, 0, logits, 61, 16);

        // Among seven others.
        let mut model = case.model(KvDtype::Auto);
        let others: Vec<Vec<TokenId>> = (1..8).map(|s| text(61, s * 11)).collect();
        let mut chunks: Vec<std::vec::IntoIter<Row>> =
            vec![rows_of(0, &prompt, &policy, &Origin::Empty, 0).into_iter()];
        for (seq, other) in (1..8).zip(&others) {
            chunks.push(rows_of(seq, other, &policy, &Origin::Empty, 0).into_iter());
        }
        let mut logits = Vec::new();
        loop {
            let rows: Vec<Row> = chunks.iter_mut().filter_map(Iterator::next).collect();
            if rows.is_empty() {
                break;
            }
            logits = run(&mut model, rows).swap_remove(0).0;
        }
        assert_eq!(kept(&model, 0), sets, "{policy}");

        // Parked in between and resumed.
        let session: SessionId = "between".parse().unwrap();
        let park = Ended {
            seq: SeqId(0),
            park: Some(session.clone()),
        };
        end(&mut model, park);
        let token = argmax(&logits);
        let resumed = Row {
            open: Some(Open {
                policy: policy.clone(),
                sampling: SamplingParams::default(),
                origin: Origin::Session(session),
            }),
            ..decode(0, token, 61)
        };
        let logits = run(&mut model, vec![resumed]).swap_remove(0).0;
        let (rest, _) = generate(&mut model, 0, logits, 62, 15);
        assert_eq!([vec![token], rest].concat(), text_alone, "{policy}");
    }
}

#[test]
fn rotating_all_keys_anew_changes_no_logit_when_nothing_was_evicted() {
    let case = Case::new(5);
    let tokens = text(300, 5);
    // The context holds 256: the burst comes at the 257th token, with a budget that holds all of the last ones.
    let mut policy = Policy::window(120).unwrap();
    policy.beyond_context = true;
    let mut model = case.model(KvDtype::Auto);
    let mut rebased = Vec::new();
    for (position, &token) in tokens.iter().enumerate() {
        let row = fed(token, position, &policy);
        let (logits, kv, _) = run(&mut model, vec![row]).swap_remove(0);
        rebased.push((logits, kv.rebased));
    }
    assert_eq!(rebased[255].1, 0);
    assert_eq!(rebased[256].1, 1);
    // A window's positions are consecutive, so closing gaps moves nothing: the same as a fresh sequence of the last
    // 121 tokens would see, up to what reached them through deeper layers, and as the unlimited run.
    let wide = llamahome::llama::ModelConfig {
        context: 512,
        ..tiny_config()
    };
    let file = case.folder.path().join("wide.gguf");
    std::fs::write(&file, tiny_gguf(&wide, 5).unwrap()).unwrap();
    let checkpoint = Checkpoint::open(&file).unwrap();
    let compute = Compute::choose(Dtype::Float32);
    let mut unlimited = LlamaForward::new(Llama::load(&checkpoint, compute, 16, None).unwrap());
    for (position, &token) in tokens.iter().enumerate() {
        let row = fed(token, position, &policy);
        let (logits, kv, _) = run(&mut unlimited, vec![row]).swap_remove(0);
        assert_eq!(kv.rebased, 0);
        close(
            &logits,
            &rebased[position].0,
            2e-3,
            &format!("position {position}"),
        );
    }
}

#[test]
fn positions_stay_in_order_after_a_burst_over_gaps() {
    let case = Case::new(6);
    let mut policy = Policy::h2o(10, 10).unwrap();
    policy.beyond_context = true;
    let mut model = case.model(KvDtype::Auto);
    for position in 0..700 {
        let row = fed((position * 7 % VOCAB) as TokenId, position, &policy);
        let (logits, kv, _) = run(&mut model, vec![row]).swap_remove(0);
        assert!(logits.iter().all(|l| l.is_finite()));
        if position > 20 {
            assert_eq!(kv.tokens_kept, 20);
        }
        if position == 699 {
            // 256 positions, then 236 new ones after every burst down to 20.
            assert_eq!(kv.rebased, 2);
        }
        for layer in 0..tiny_config().layers {
            let order = model.rotations(SeqId(0), layer, 0).unwrap();
            assert!(order.windows(2).all(|w| w[0] < w[1]), "{order:?}");
        }
    }
    // Without the permission, the end of the context is an error that says so.
    let mut strict = policy.clone();
    strict.beyond_context = false;
    let long = Row {
        open: Some(Open {
            policy: strict,
            sampling: SamplingParams::default(),
            origin: Origin::Empty,
        }),
        tokens: text(257, 1),
        ..decode(1, 0, 0)
    };
    let plan = Plan {
        rows: vec![long],
        paused: Vec::new(),
        ended: Vec::new(),
    };
    let error = model.forward(&plan).unwrap_err();
    assert!(
        matches!(error, ForwardError::ContextFull { context: 256, .. }),
        "{error}"
    );
}

#[test]
fn a_burst_while_decoding_ranks_by_the_queries_so_far() {
    let case = Case::new(17);
    let tokens = text(100, 17);
    let policy = Policy::expected(24, 2, 4).unwrap();
    let mut model = case.model(KvDtype::Auto);
    for (position, &token) in tokens.iter().enumerate() {
        run(&mut model, vec![fed(token, position, &policy)]);
    }
    let sets = kept(&model, 0);
    assert!(sets.iter().all(|set| set.len() < 88), "no burst came");
    assert!(
        sets.iter().any(|set| *set != sets[0]),
        "without ranks all heads keep the oldest: {sets:?}"
    );
}

#[test]
fn int8_keys_survive_a_new_rotation() {
    let case = Case::new(7);
    let tokens = text(330, 7);
    // Kept by position, so that both hold the same keys: where scores decide, a key more or less shifts all ranks.
    let mut policy = Policy::streaming(4, 116).unwrap();
    policy.beyond_context = true;
    let rows = |dtype| {
        let mut model = case.model(dtype);
        let mut all = Vec::new();
        for (position, &token) in tokens.iter().enumerate() {
            let row = fed(token, position, &policy);
            let (logits, kv, _) = run(&mut model, vec![row]).swap_remove(0);
            all.push((logits, kv));
        }
        all
    };
    let (float, small) = (rows(KvDtype::Float32), rows(KvDtype::Int8));
    assert_eq!((float[329].1.rebased, small[329].1.rebased), (1, 1));
    let mean = |range: std::ops::Range<usize>| {
        let count = range.len() as f64;
        range.map(|i| kl(&float[i].0, &small[i].0)).sum::<f64>() / count
    };
    let (before, after) = (mean(180..255), mean(257..330));
    assert!(before < 0.02 && after < 0.02, "{before} then {after}");
}

#[test]
fn a_rejected_draft_leaves_no_trace() {
    let case = Case::new(8);
    let prompt = text(40, 8);
    let policy = Policy::h2o(5, 5).unwrap();
    let mut model = case.model(KvDtype::Auto);
    let (logits, ..) = read(&mut model, 0, &prompt, &policy, &Origin::Empty);
    let mut drafted = case.model(KvDtype::Auto);
    read(&mut drafted, 0, &prompt, &policy, &Origin::Empty);
    let draft = Row {
        open: Some(Open {
            policy: policy.clone(),
            sampling: SamplingParams::default(),
            origin: Origin::Fork(SeqId(0)),
        }),
        ..decode(1, 3, 40)
    };
    run(&mut drafted, vec![draft]);
    for position in 41..46 {
        run(&mut drafted, vec![decode(1, 4, position)]);
    }
    end(&mut drafted, SeqId(1).into());
    let expected = generate(&mut model, 0, logits.clone(), 40, 12);
    assert_eq!(generate(&mut drafted, 0, logits, 40, 12), expected);
}

#[test]
fn the_order_of_slots_does_not_matter_under_a_sliding_window() {
    // What attention sees is a set: a window is cut by position, wherever the rows lie.
    let (dim, slots, window) = (8, 20, 6);
    let value = |i: usize| ((i * 53 % 97) as f32 / 48.0) - 1.0;
    let order: Vec<usize> = (0..slots).map(|i| i * 7 % slots).collect();
    let attended = |order: &[usize]| {
        let rows = |salt: usize| -> Vec<f32> {
            let row = |&p: &usize| (0..dim).map(move |d| value(p * dim + d + salt));
            order.iter().flat_map(row).collect()
        };
        let (keys, values) = (rows(0), rows(11));
        let hide = |&p: &usize| {
            if p + window < slots {
                f32::NEG_INFINITY
            } else {
                0.0
            }
        };
        let bias: Vec<f32> = order.iter().map(hide).collect();
        let segment = Segment {
            keys: RowsRef::F32(&keys),
            values: RowsRef::F32(&values),
            len: slots,
        };
        let queries: Vec<f32> = (0..dim).map(|i| value(i * 5)).collect();
        let mut output = vec![0.0; dim];
        attend(
            Level::best(),
            &queries,
            dim,
            &[segment],
            Some(&bias),
            &mut Scratch::default(),
            &mut output,
            None,
        );
        output
    };
    let sorted: Vec<usize> = (0..slots).collect();
    close(&attended(&order), &attended(&sorted), 1e-6, "order");
}

#[test]
fn ten_thousand_small_scores_add_up() {
    let need = Policy::h2o(1, 1).unwrap().need();
    let mut head = HeadSlots::default();
    head.place(0, 0, 1);
    (0..10_000).for_each(|_| head.step(&need, &[0.001]));
    let error = (head.sums()[0] / 10.0 - 1.0).abs();
    assert!(error < 1e-3, "{error}");
}

#[test]
fn a_second_question_does_not_see_the_first_ones_selection() {
    let case = Case::new(9);
    let (context, first, second) = (text(56, 9), text(9, 21), text(11, 22));
    let policy = Policy::snapkv(16, 4, 3).unwrap();
    let answers = |order: [&[TokenId]; 2]| {
        let mut model = case.model(KvDtype::Auto);
        order.map(|question| {
            let prompt = [context.as_slice(), question].concat();
            let (logits, ..) = read(&mut model, 0, &prompt, &policy, &origin(&prompt));
            let sets = kept(&model, 0);
            let said = generate(&mut model, 0, logits, prompt.len(), 10).0;
            end(&mut model, SeqId(0).into());
            (sets, said)
        })
    };
    let [a, b] = answers([&first, &second]);
    let [b_again, a_again] = answers([&second, &first]);
    assert_eq!((a, b), (a_again, b_again));
}

#[test]
fn a_budget_below_what_is_protected_is_refused_and_small_ones_work() {
    let case = Case::new(10);
    let config = Config::default();
    let shape = case.model(KvDtype::Auto).kv_shape();
    let choice = |kind, budget, pins| KvChoice {
        policy: Some(kind),
        budget: Some(Budget::Tokens(budget)),
        pins,
        ..KvChoice::default()
    };
    let pinned = choice(PolicyKind::Hybrid, 16, vec![(0, 40)]);
    let error = pinned.resolve(&config, 256, shape).unwrap_err();
    assert!(matches!(error, BadPolicy::OverProtected { .. }), "{error}");
    let prompt = text(50, 10);
    for kind in PolicyKind::ALL {
        for budget in (1..12).rev() {
            let policy = choice(kind, budget, Vec::new())
                .resolve(&config, 256, shape)
                .unwrap();
            let mut model = case.model(KvDtype::Auto);
            let (logits, kv, _) = read(&mut model, 0, &prompt, &policy, &Origin::Empty);
            let (_, logits) = generate(&mut model, 0, logits, 50, 8);
            assert!(logits.iter().all(|l| l.is_finite()), "{policy}");
            if policy.capacity().is_some() {
                assert!(
                    kv.tokens_kept <= budget as usize,
                    "{policy} keeps {}",
                    kv.tokens_kept
                );
            }
        }
    }
}

#[test]
fn no_position_is_attended_twice_when_spilled_rows_come_back() {
    let case = Case::new(11);
    for spill in [Spill::Memory, Spill::Disk] {
        for dtype in [KvDtype::Auto, KvDtype::Int8] {
            let mut policy = hybrid(24);
            policy.spill = spill;
            policy.recall = 64;
            policy.beyond_context = true;
            let mut model = case.model(dtype);
            let prompt = text(120, 11);
            let (mut logits, ..) = read(&mut model, 0, &prompt, &policy, &Origin::Empty);
            for position in 120..330 {
                let token = argmax(&logits);
                let (next, kv, _) =
                    run(&mut model, vec![decode(0, token, position)]).swap_remove(0);
                logits = next;
                assert!(kv.recalled > 0 && kv.recalled <= 64, "{}", kv.recalled);
                assert!(kv.spilled_bytes > 0);
                for layer in 0..tiny_config().layers {
                    for head in 0..tiny_config().kv_heads {
                        let held = model.held(SeqId(0), layer, head).unwrap();
                        let recalled = model.recalled(SeqId(0), layer, head).unwrap();
                        let all = held.iter().map(|&(p, _)| p).chain(recalled);
                        let all: Vec<u32> = all.collect();
                        let distinct: HashSet<u32> = all.iter().copied().collect();
                        assert_eq!(distinct.len(), all.len(), "at {position}: {all:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn all_recalled_is_as_if_nothing_had_been_evicted() {
    let case = Case::new(12);
    let prompt = text(100, 12);
    let mut policy = Policy::h2o(8, 8).unwrap();
    policy.spill = Spill::Memory;
    policy.recall = 1024;
    let mut model = case.model(KvDtype::Auto);
    let (logits, ..) = read(&mut model, 0, &prompt, &policy, &Origin::Empty);
    let mut full = case.model(KvDtype::Auto);
    let (expected, ..) = read(&mut full, 0, &prompt, &Policy::full(), &Origin::Empty);
    close(&logits, &expected, 1e-4, "the prompt itself");
    let question = text(20, 13);
    for (at, &token) in question.iter().enumerate() {
        let found = run(&mut model, vec![decode(0, token, 100 + at)]).swap_remove(0);
        let wanted = run(&mut full, vec![decode(0, token, 100 + at)]).swap_remove(0);
        close(&found.0, &wanted.0, 2e-3, &format!("token {at}"));
        assert_eq!(found.1.recalled + found.1.tokens_kept, 100 + at);
    }
}

#[test]
fn a_request_dropped_at_any_chunk_publishes_nothing() {
    let case = Case::new(13);
    let prompt = text(64, 14);
    let policy = Policy::h2o(8, 8).unwrap();
    let mut streaming = policy.clone();
    streaming.reading = Reading::Streaming;
    for policy in [policy, streaming] {
        let rows = rows_of(0, &prompt, &policy, &origin(&prompt), 0);
        for stop in 1..rows.len() {
            let mut model = case.model(KvDtype::Auto);
            for row in rows.iter().take(stop) {
                run(&mut model, vec![row.clone()]);
            }
            end(&mut model, SeqId(0).into());
            let memory = model.memory();
            assert_eq!(
                (memory.prefix_blocks, memory.prefix_in_use),
                (0, 0),
                "after {stop}"
            );
        }
        let mut model = case.model(KvDtype::Auto);
        read(&mut model, 0, &prompt, &policy, &origin(&prompt));
        end(&mut model, SeqId(0).into());
        let memory = model.memory();
        assert!(memory.prefix_blocks > 0 && memory.prefix_in_use == 0);
    }
}

#[test]
fn bounded_reading_keeps_its_bound_and_its_snapshots_its_text() {
    let case = Case::new(14);
    let mut policy = hybrid(24);
    policy.reading = Reading::Streaming;
    policy.beyond_context = true;
    let slot = case.model(KvDtype::Auto).kv_shape().slot_bytes();
    let prompt = text(1000, 15);
    let mut model = case.model(KvDtype::Auto);
    let mut last = Vec::new();
    for row in rows_of(0, &prompt, &policy, &origin(&prompt), 0) {
        let (logits, kv, _) = run(&mut model, vec![row]).swap_remove(0);
        assert!(
            kv.peak_bytes <= (24 + GRID) * slot,
            "{} slots",
            kv.peak_bytes / slot
        );
        last = logits;
    }
    let sets = kept(&model, 0);
    let expected = generate(&mut model, 0, last, 1000, 10).0;
    let (logits, _, cached) = read(&mut model, 1, &prompt, &policy, &origin(&prompt));
    assert!(cached >= 900, "{cached} of 1000 came from the snapshot");
    assert_eq!(kept(&model, 1), sets);
    assert_eq!(generate(&mut model, 1, logits, 1000, 10).0, expected);
}

#[test]
fn sixteen_int8_sessions_at_a_fifth_take_an_eighth_of_full_bfloat16() {
    // Heads as wide as real ones: with narrow ones scales and bookkeeping weigh more.
    let config = ModelConfig {
        layers: 2,
        hidden: 64,
        heads: 2,
        kv_heads: 1,
        head_dim: 64,
        context: 4608,
        ..tiny_config()
    };
    let case = Case::of(&config, 18);
    let mut model = case.with(KvMemory {
        dtype: KvDtype::Int8,
        prefix_bytes: 0,
        ..case.memory()
    });
    let policy = hybrid(4096 / 5);
    for number in 0..16 {
        let prompt = text(4096, number as usize);
        let (logits, ..) = read(&mut model, number, &prompt, &policy, &Origin::Empty);
        // Rows at full precision are stored in batches, so how many there are depends on the step.
        generate(&mut model, number, logits, 4096, 1 + number as usize);
        let park = Ended {
            seq: SeqId(number),
            park: Some(format!("talk-{number}").parse().unwrap()),
        };
        end(&mut model, park);
    }
    let full = 16 * 4096 * config.layers * config.kv_heads * 2 * config.head_dim * 2;
    let parked = model.memory().parked_bytes;
    assert!(
        parked > full / 10 && parked <= full / 8,
        "{parked} of {full}"
    );
}

#[test]
fn thirty_two_sessions_live_in_the_memory_of_eight() {
    let case = Case::new(16);
    let policy = hybrid(24);
    let name = |number: usize| -> SessionId { format!("talk-{number}").parse().unwrap() };
    let ask = |number: usize| text(40 + number, 20 + number);
    // What each says when it is never parked.
    let mut alone = case.model(KvDtype::Int8);
    let mut expected = Vec::new();
    let mut bytes = 0;
    for number in 0..32 {
        let prompt = ask(number);
        let (logits, kv, _) = read(&mut alone, number as u64, &prompt, &policy, &Origin::Empty);
        bytes = bytes.max(kv.bytes);
        expected.push(generate(&mut alone, number as u64, logits, prompt.len(), 8).0);
    }
    let mut model = case.with(KvMemory {
        dtype: KvDtype::Int8,
        parked_bytes: 8 * bytes,
        ..case.memory()
    });
    let mut next = Vec::new();
    for number in 0..32 {
        let prompt = ask(number);
        let (logits, ..) = read(&mut model, number as u64, &prompt, &policy, &Origin::Empty);
        next.push(argmax(&logits));
        let park = Ended {
            seq: SeqId(number as u64),
            park: Some(name(number)),
        };
        end(&mut model, park);
        assert!(model.memory().parked_bytes <= 8 * bytes);
    }
    assert!(model.memory().spilled_session_bytes > 0);
    for number in (0..32).rev() {
        let seen = ask(number).len();
        let row = Row {
            open: Some(Open {
                policy: policy.clone(),
                sampling: SamplingParams::default(),
                origin: Origin::Session(name(number)),
            }),
            ..decode(100 + number as u64, next[number], seen)
        };
        let (logits, kv, cached) = run(&mut model, vec![row]).swap_remove(0);
        assert_eq!(
            (kv.tokens_seen, cached),
            (seen + 1, 0),
            "only the new token was fed"
        );
        let rest = generate(&mut model, 100 + number as u64, logits, seen + 1, 7).0;
        assert_eq!(
            [vec![next[number]], rest].concat(),
            expected[number],
            "talk {number}"
        );
        let park = Ended {
            seq: SeqId(100 + number as u64),
            park: Some(name(number)),
        };
        end(&mut model, park);
    }
}

#[test]
fn a_session_on_disk_is_the_session() {
    let case = Case::new(15);
    let prompt = text(70, 16);
    for (dtype, spill) in [
        (KvDtype::Auto, Spill::Off),
        (KvDtype::Bfloat16, Spill::Memory),
        (KvDtype::Int8, Spill::Off),
    ] {
        let mut policy = hybrid(32);
        policy.spill = spill;
        policy.recall = if spill == Spill::Off { 0 } else { 32 };
        let mut model = case.with(KvMemory {
            dtype,
            parked_bytes: 0,
            ..case.memory()
        });
        let (logits, ..) = read(&mut model, 0, &prompt, &policy, &Origin::Empty);
        let session: SessionId = "a-talk".parse().unwrap();
        let copy = Row {
            open: Some(Open {
                policy: policy.clone(),
                sampling: SamplingParams::default(),
                origin: Origin::Fork(SeqId(0)),
            }),
            ..decode(9, argmax(&logits), 70)
        };
        let expected = run(&mut model, vec![copy]).swap_remove(0).0;
        let park = Ended {
            seq: SeqId(0),
            park: Some(session.clone()),
        };
        end(&mut model, park);
        let SessionReply::Sessions(list) = model.session(SessionOrder::List).unwrap() else {
            panic!("no list");
        };
        assert_eq!((list[0].name.as_str(), list[0].place), ("a-talk", "disk"));
        let save = SessionOrder::Save {
            session: session.clone(),
            notes: "notes".to_owned(),
        };
        model.session(save).unwrap();
        // A new process has the same files and nothing else.
        let mut later = case.with(KvMemory {
            dtype,
            ..case.memory()
        });
        let restored = later
            .session(SessionOrder::Restore(session.clone()))
            .unwrap();
        let notes = "notes".to_owned();
        assert_eq!(restored, SessionReply::Restored { notes });
        let found = run(&mut later, vec![resume(&session, &policy, argmax(&logits))]);
        assert_eq!(found[0].0, expected, "{dtype:?}");
        later.session(SessionOrder::Erase(session.clone())).unwrap();
        let gone = later.session(SessionOrder::Restore(session)).unwrap_err();
        assert!(matches!(gone, ForwardError::UnknownSession(_)), "{gone}");
    }
}

fn resume(session: &SessionId, policy: &Policy, token: TokenId) -> Row {
    Row {
        open: Some(Open {
            policy: policy.clone(),
            sampling: SamplingParams::default(),
            origin: Origin::Session(session.clone()),
        }),
        ..decode(20, token, 70)
    }
}
