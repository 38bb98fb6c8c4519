//! Guesses of the next tokens change nothing: neither the text nor, after those that were wrong are taken back, the
//! cache.

use std::collections::BTreeMap;
use std::time::Instant;

use llamahome::ids::{RequestId, SeqId, TokenId};
use llamahome::kernels::Level;
use llamahome::kv::{Hybrid, KvDtype, KvReport, Policy, Score, Spill, When};
use llamahome::llama::testing::{tiny_config, tiny_gguf};
use llamahome::llama::{Compute, Dtype, KvMemory, Llama, LlamaForward};
use llamahome::sample::{Penalties, Sampling, SamplingParams};
use llamahome::sched::{
    Admission, Config, Event, FakeModel, FinishReason, Forward, Limits, OfPrompt, Open, Origin,
    Phase, Plan, Request, Row, Scheduler, Speculate, Standing, Stepper, Want,
};
use llamahome::store::Checkpoint;
use proptest::prelude::*;

const GRID: usize = 16;
const VOCAB: usize = 96;
const SEQ: SeqId = SeqId(3);

struct Case {
    _folder: tempfile::TempDir,
    checkpoint: Checkpoint,
}

impl Case {
    fn new(seed: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tiny.gguf");
        std::fs::write(&file, tiny_gguf(&tiny_config(), seed).unwrap()).unwrap();
        Case {
            checkpoint: Checkpoint::open(&file).unwrap(),
            _folder: folder,
        }
    }

    fn model(&self, dtype: KvDtype) -> LlamaForward {
        let compute = Compute::choose(Dtype::Float32);
        let llama = Llama::load(&self.checkpoint, compute, 16, None).unwrap();
        let memory = KvMemory {
            dtype,
            grid: GRID,
            ..KvMemory::default()
        };
        LlamaForward::with_memory(llama, memory)
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

/// Reads a prompt in chunks and returns the first greedy token.
fn read(model: &mut LlamaForward, prompt: &[TokenId], policy: &Policy) -> TokenId {
    let mut logits = Vec::new();
    for (index, chunk) in prompt.chunks(GRID).enumerate() {
        let start = index * GRID;
        let left = prompt.len() - start - chunk.len();
        let row = Row {
            seq: SEQ,
            open: (index == 0).then(|| Open {
                policy: policy.clone(),
                sampling: SamplingParams::default(),
                origin: Origin::Empty,
            }),
            tokens: chunk.to_vec(),
            start,
            want: if left == 0 { Want::Last } else { Want::Nothing },
            phase: Phase::Prompt { left },
        };
        logits = step(model, row).0;
    }
    argmax(&logits)
}

fn step(model: &mut LlamaForward, row: Row) -> (Vec<f32>, KvReport, usize) {
    let plan = Plan {
        rows: vec![row],
        paused: Vec::new(),
        ended: Vec::new(),
    };
    let row = model.forward(&plan).unwrap().rows.swap_remove(0);
    (row.logits, row.kv, row.drafted)
}

/// One plain step; the next token.
fn plain(model: &mut LlamaForward, token: TokenId, at: usize) -> (TokenId, KvReport) {
    let row = Row {
        seq: SEQ,
        open: None,
        tokens: vec![token],
        start: at,
        want: Want::Last,
        phase: Phase::Decode,
    };
    let (logits, kv, _) = step(model, row);
    (argmax(&logits), kv)
}

type State = Vec<(Vec<(u32, f32)>, Vec<u32>)>;

/// Positions, rotations and sums of every head.
fn state(model: &LlamaForward) -> State {
    let config = tiny_config();
    (0..config.layers)
        .flat_map(|layer| (0..config.kv_heads).map(move |head| (layer, head)))
        .map(|(layer, head)| {
            let held = model.held(SEQ, layer, head).unwrap();
            (held, model.rotations(SEQ, layer, head).unwrap())
        })
        .collect()
}

/// The same positions and rotations, and sums up to rounding.
fn alike(found: &State, expected: &State, what: &str) {
    for ((held, rotated), (other, other_rotated)) in found.iter().zip(expected) {
        assert_eq!(rotated, other_rotated, "{what}");
        assert_eq!(held.len(), other.len(), "{what}");
        for ((position, sum), (other_position, other_sum)) in held.iter().zip(other) {
            assert_eq!(position, other_position, "{what}");
            assert!(
                (sum - other_sum).abs() < 1e-3,
                "{what}: {sum} and {other_sum}"
            );
        }
    }
}

/// What is guessed when `right` follows.
type Guess = fn(&[TokenId]) -> Vec<TokenId>;

const RIGHT: Guess = |right| right.to_vec();
const WRONG: Guess = |right| right.iter().map(|t| (t + 1) % VOCAB as u32).collect();
const HALF: Guess = |right| {
    let half = right.len() / 2;
    [&right[..half], &WRONG(&right[half..])].concat()
};

/// Greedy text with guesses. Text, last report, guesses that were checked.
fn guessed(
    model: &mut LlamaForward,
    first: TokenId,
    start: usize,
    expected: &[TokenId],
    most: usize,
    guess: Guess,
) -> (Vec<TokenId>, KvReport, usize) {
    let mut said = vec![first];
    let mut checked = 0;
    let mut report = None;
    while said.len() < expected.len() {
        let at = said.len();
        let room = most.min(expected.len() - at - 1);
        let tokens = [&said[at - 1..], &guess(&expected[at..at + room])].concat();
        let row = Row {
            seq: SEQ,
            open: None,
            tokens: tokens.clone(),
            start: start + at - 1,
            want: Want::Drafts,
            phase: Phase::Decode,
        };
        let (logits, kv, drafted) = step(model, row);
        let chosen: Vec<TokenId> = logits.chunks(VOCAB).map(argmax).collect();
        assert_eq!(chosen.len(), drafted + 1);
        let right = chosen.iter().zip(&tokens[1..]).take(drafted);
        let right = right.take_while(|(a, b)| a == b).count();
        said.extend(&chosen[..=right]);
        report = Some(match drafted {
            0 => kv,
            _ => model.keep(SEQ, right + 1).unwrap(),
        });
        checked += drafted;
    }
    (said, report.unwrap(), checked)
}

/// Policies, types of rows, and whether a head that is full can take guesses back.
fn policies() -> Vec<(Policy, KvDtype, bool)> {
    let constants = Hybrid {
        window: 4,
        pool: 3,
        sinks: 2,
        value_norm: true,
        ..Hybrid::default()
    };
    let h2o = Policy::h2o(6, 6).unwrap();
    let mut burst = h2o.clone();
    burst.when = When::Burst(5);
    let mut spilling = h2o.clone();
    spilling.spill = Spill::Memory;
    let hybrid = Policy::hybrid(12, constants).unwrap();
    let auto = KvDtype::Auto;
    vec![
        (Policy::full(), auto, true),
        (Policy::full(), KvDtype::Bfloat16, true),
        (Policy::full(), KvDtype::Int8, true),
        (h2o.clone(), auto, true),
        (h2o.clone(), KvDtype::Bfloat16, true),
        (h2o.clone(), KvDtype::Int8, false),
        (h2o.clone().scored(Score::Decay(0.9)), auto, true),
        (h2o.scored(Score::Mean), auto, true),
        (hybrid.clone(), auto, true),
        (hybrid.summarised(2), auto, false),
        (Policy::streaming(2, 8).unwrap(), auto, true),
        (Policy::snapkv(12, 4, 3).unwrap(), auto, true),
        (Policy::tova(12, 0).unwrap(), auto, false),
        (Policy::expected(12, 2, 4).unwrap(), auto, false),
        (burst, auto, true),
        (spilling, auto, false),
        // A prompt within its budget, which the answer outgrows.
        (Policy::h2o(20, 20).unwrap(), auto, true),
    ]
}

#[test]
fn text_and_cache_are_those_of_one_token_at_a_time() {
    let case = Case::new(21);
    let prompt = text(30, 5);
    for (policy, dtype, undoes) in policies() {
        let mut model = case.model(dtype);
        let mut expected = vec![read(&mut model, &prompt, &policy)];
        let mut report = None;
        for at in 0..47 {
            let (token, kv) = plain(&mut model, expected[at], prompt.len() + at);
            expected.push(token);
            report = Some(kv);
        }
        let report = report.unwrap();
        let state_alone = state(&model);
        let next = plain(&mut model, expected[47], prompt.len() + 47).0;
        // With AVX-512, which computes so few rows under AMX too, products with up to 4 rows of these weights are rounded as
        // those with 1.
        for (name, guess) in [("right", RIGHT), ("wrong", WRONG), ("half", HALF)] {
            let what = format!("{policy} {dtype:?}, {name}");
            let mut model = case.model(dtype);
            let first = read(&mut model, &prompt, &policy);
            let (said, kv, checked) = guessed(&mut model, first, prompt.len(), &expected, 3, guess);
            assert_eq!(said, expected, "{what}");
            if matches!(Level::best(), Level::Avx512 | Level::Bf16 | Level::Amx) {
                assert_eq!(state(&model), state_alone, "{what}");
            }
            alike(&state(&model), &state_alone, &what);
            assert_eq!(
                (kv.tokens_seen, kv.tokens_kept, kv.evicted, kv.pinned),
                (
                    report.tokens_seen,
                    report.tokens_kept,
                    report.evicted,
                    report.pinned
                ),
                "{what}"
            );
            if policy.capacity().is_some() && policy.when != When::PromptEnd {
                assert_eq!(kv.bytes, report.bytes, "{what}");
            }
            assert_eq!(
                plain(&mut model, said[47], prompt.len() + 47).0,
                next,
                "{what}"
            );
            assert_eq!(checked > 0, undoes, "{what}: {checked} checked");
        }
    }
}

#[test]
fn long_guesses_keep_the_same_positions() {
    let case = Case::new(22);
    let prompt = text(40, 6);
    for (policy, dtype, _) in policies() {
        let mut model = case.model(dtype);
        let mut expected = vec![read(&mut model, &prompt, &policy)];
        for at in 0..63 {
            expected.push(plain(&mut model, expected[at], prompt.len() + at).0);
        }
        let alone = state(&model);
        for guess in [RIGHT, WRONG, HALF] {
            let mut model = case.model(dtype);
            let first = read(&mut model, &prompt, &policy);
            let (said, ..) = guessed(&mut model, first, prompt.len(), &expected, 15, guess);
            assert_eq!(said, expected, "{policy} {dtype:?}");
            alike(&state(&model), &alone, &format!("{policy} {dtype:?}"));
        }
    }
}

#[test]
fn guesses_end_where_the_context_does() {
    let case = Case::new(23);
    let prompt = text(250, 7);
    let policy = Policy::full();
    let mut model = case.model(KvDtype::Auto);
    let mut expected = vec![read(&mut model, &prompt, &policy)];
    for at in 0..6 {
        expected.push(plain(&mut model, expected[at], prompt.len() + at).0);
    }
    let mut model = case.model(KvDtype::Auto);
    let first = read(&mut model, &prompt, &policy);
    let guess: Guess = |right| {
        let mut long = right.to_vec();
        long.resize(9, 1);
        long
    };
    let (said, kv, checked) = guessed(&mut model, first, prompt.len(), &expected, 3, guess);
    assert_eq!((said, kv.tokens_seen), (expected, 256));
    assert!(checked > 0);
}

#[test]
fn what_was_not_guessed_cannot_be_kept() {
    let case = Case::new(24);
    let mut model = case.model(KvDtype::Auto);
    let first = read(&mut model, &text(20, 8), &Policy::full());
    assert!(model.keep(SEQ, 1).is_err());
    plain(&mut model, first, 20);
    assert!(model.keep(SEQ, 1).is_err());
    assert!(model.keep(SeqId(99), 1).is_err());
}

fn request(prompt: Vec<TokenId>, max_tokens: usize, sampling: SamplingParams) -> Request {
    Request {
        id: RequestId::random(),
        prompt,
        max_tokens,
        stop_ids: vec![60],
        sampling,
        policy: Policy::h2o(8, 8).unwrap(),
        tenant: None,
        session: None,
        standing: Standing::default(),
        of_prompt: OfPrompt::Nothing,
    }
}

type Told = (Vec<String>, FinishReason, usize, KvReport, usize);

/// Runs all requests together with memory for all. What each was told, without times.
fn serve(
    model: Box<dyn Forward>,
    requests: &[Request],
    speculate: Speculate,
    draft_tokens: usize,
) -> Vec<Told> {
    let config = Config {
        speculate,
        draft_tokens,
        ..Config::default()
    };
    serve_within(model, requests, config, 1 << 30).0
}

/// Likewise, with so many bytes. Also how often one gave way to others.
fn serve_within(
    model: Box<dyn Forward>,
    requests: &[Request],
    config: Config,
    total_bytes: usize,
) -> (Vec<Told>, usize) {
    let shape = model.kv_shape();
    let limits = Limits { shape, total_bytes };
    let block = config.block_tokens;
    let mut scheduler = Scheduler::new(config, limits);
    scheduler.grant(limits.total_bytes);
    let mut stepper = Stepper::new(model);
    let now = Instant::now();
    let mut told = BTreeMap::new();
    for request in requests {
        told.insert(scheduler.submit(request.clone(), now).unwrap(), Vec::new());
    }
    let mut ends = BTreeMap::new();
    while let Some(plan) = scheduler.plan(now) {
        for row in &plan.rows {
            let held = scheduler.memory().accounts().table(row.seq) * block;
            let fed = row.start + row.tokens.len();
            let full = requests[row.seq.0 as usize].policy == Policy::full();
            assert!(!full || held >= fed, "{fed} tokens in the room of {held}");
        }
        for (seq, event) in scheduler.commit(stepper.step(&plan, None).unwrap(), now) {
            match event {
                Event::Token { token, logprob } => {
                    let tokens: &mut Vec<String> = told.get_mut(&seq).unwrap();
                    tokens.push(format!("{token} {logprob:?}"));
                }
                Event::Finished { reason, usage, kv } => {
                    ends.insert(seq, (reason, usage, kv));
                }
                Event::Prompt(_) | Event::States(..) => panic!("nobody asked for it"),
                Event::Failed(failure) => panic!("{failure}"),
            }
        }
        scheduler.check();
    }
    let mut preemptions = 0;
    let told = told.into_iter();
    let told = told
        .map(|(seq, tokens)| {
            let (reason, usage, kv) = ends.remove(&seq).unwrap();
            preemptions += usage.preemptions;
            let right = usage.accepted_tokens;
            assert!(usage.drafted_tokens >= right);
            (tokens, reason, usage.completion_tokens, kv, right)
        })
        .collect();
    (told, preemptions)
}

#[test]
fn the_same_seed_says_the_same_with_guesses() {
    let case = Case::new(25);
    let mut right = 0;
    for seed in 0..6 {
        // Three words, so that the text repeats itself and chance still has a say.
        let sampling = SamplingParams {
            constraint: None,
            sampling: Sampling::Random {
                temperature: 0.6,
                top_k: None,
                top_p: 1.0,
                min_p: 0.0,
            },
            penalties: Penalties {
                repetition: 1.02,
                window: 64,
                ..Penalties::default()
            },
            logprobs: Some(2),
            logit_bias: vec![(5, 60.0), (17, 60.0), (40, 60.0)],
            seed,
        };
        let prompt = text(12, 9).repeat(4);
        let requests = [request(prompt, 120, sampling)];
        let run = |speculate, most| {
            let model = Box::new(case.model(KvDtype::Auto));
            serve(model, &requests, speculate, most).swap_remove(0)
        };
        let alone = run(Speculate::Off, 1);
        let fast = run(Speculate::Lookup, 3);
        assert_eq!(fast.0, alone.0, "seed {seed}");
        assert_eq!((fast.1, fast.2, &fast.3), (alone.1, alone.2, &alone.3));
        assert_eq!(alone.4, 0);
        right += fast.4;
    }
    assert!(right > 0, "nothing was ever guessed");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// A model that counts: prompts that counted before are guessed, and the ends are where they were.
    #[test]
    fn ends_and_tokens_do_not_depend_on_guesses(
        prompts in prop::collection::vec((0u32..60, 1usize..30, 1usize..4, 1usize..70), 1..5),
        most in 1usize..16,
    ) {
        let requests: Vec<Request> = prompts
            .iter()
            .map(|&(from, len, times, max)| {
                let once: Vec<TokenId> = (from..from + len as u32).map(|t| t % 64).collect();
                request(once.repeat(times), max, SamplingParams::default())
            })
            .collect();
        let run = |speculate| {
            let served = serve(Box::new(FakeModel::new(64)), &requests, speculate, most);
            served.into_iter().map(|(tokens, reason, count, kv, _)| (tokens, reason, count, kv)).collect::<Vec<_>>()
        };
        prop_assert_eq!(run(Speculate::Lookup), run(Speculate::Off));
    }
}

#[test]
fn who_gives_way_while_it_guesses_says_what_it_would_have_said() {
    let (mut right, mut preemptions) = (0, 0);
    for block in [1, 3, 16] {
        let counted: Vec<TokenId> = (0..50).chain(0..30).collect();
        let requests: Vec<Request> = (0..4)
            .map(|nth| Request {
                policy: Policy::full(),
                ..request(counted[nth..].to_vec(), 40, SamplingParams::default())
            })
            .collect();
        let alone = serve(Box::new(FakeModel::new(64)), &requests, Speculate::Off, 1);
        let model = FakeModel::new(64);
        // Enough for two and a half.
        let total_bytes = 300 * model.kv_shape().slot_bytes();
        let config = Config {
            speculate: Speculate::Lookup,
            admission: Admission::Optimistic,
            block_tokens: block,
            watermark: 0.0,
            ..Config::default()
        };
        let (told, gave_way) = serve_within(Box::new(model), &requests, config, total_bytes);
        for (one, alone) in told.iter().zip(&alone) {
            assert_eq!((&one.0, one.1, one.2), (&alone.0, alone.1, alone.2));
            right += one.4;
        }
        preemptions += gave_way;
    }
    assert!(right > 0, "nothing was ever guessed");
    assert!(preemptions > 0, "nobody ever gave way");
}

#[test]
fn who_has_read_enough_ends_with_the_step_that_is_under_way() {
    let model = FakeModel::new(64);
    let limits = Limits {
        shape: model.kv_shape(),
        total_bytes: 1 << 30,
    };
    let config = Config {
        speculate: Speculate::Lookup,
        ..Config::default()
    };
    let mut scheduler = Scheduler::new(config, limits);
    scheduler.grant(limits.total_bytes);
    let mut stepper = Stepper::new(Box::new(model));
    let now = Instant::now();
    let counted: Vec<TokenId> = (0..50).chain(0..20).collect();
    let seq = scheduler
        .submit(request(counted, 40, SamplingParams::default()), now)
        .unwrap();
    let plan = scheduler.plan(now).unwrap();
    scheduler.commit(stepper.step(&plan, None).unwrap(), now);
    let plan = scheduler.plan(now).unwrap();
    let guesses = plan.rows[0].tokens.len() - 1;
    assert!(guesses > 0 && plan.rows[0].want == Want::Drafts);
    assert!(
        scheduler.finish(seq, now).is_none(),
        "nobody knows what its cache holds"
    );
    let events = scheduler.commit(stepper.step(&plan, None).unwrap(), now);
    assert_eq!(events.len(), guesses + 2, "all that came, and the end");
    let Some((_, Event::Finished { reason, usage, kv })) = events.last() else {
        panic!("no end");
    };
    assert_eq!(*reason, FinishReason::Stop);
    // All but the last token drawn were fed.
    assert_eq!(
        kv.tokens_seen,
        usage.prompt_tokens + usage.completion_tokens - 1
    );
    scheduler.plan(now);
    assert!(scheduler.is_idle());
}
