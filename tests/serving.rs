//! The same seed gives the same text however it is served: alone, beside others, paused in between, from a shared
//! prefix, and cut into whatever rows. With a real, tiny model under the scheduler.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use llamahome::ids::{RequestId, SeqId, TokenId};
use llamahome::kv::{Policy, Reading};
use llamahome::llama::testing::{tiny_config, tiny_gguf};
use llamahome::llama::{Compute, Dtype, KvMemory, Llama, LlamaForward};
use llamahome::sample::{Penalties, Sampling, SamplingParams};
use llamahome::sched::{
    Admission, BatcherKind, Config, Event, Forward, Limits, OfPrompt, PolicyKind, Request,
    Scheduler, SessionOrder, SessionReply, Standing, Stepper, Usage,
};
use llamahome::store::Checkpoint;

const GRID: usize = 8;
const VOCAB: usize = 96;

struct Case {
    folder: tempfile::TempDir,
    checkpoint: Checkpoint,
}

impl Case {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tiny.gguf");
        std::fs::write(&file, tiny_gguf(&tiny_config(), 11).unwrap()).unwrap();
        Case {
            checkpoint: Checkpoint::open(&file).unwrap(),
            folder,
        }
    }

    /// A model that keeps `parked` bytes of parked caches in memory.
    fn model(&self, parked: usize) -> LlamaForward {
        let memory = KvMemory {
            grid: GRID,
            prefix_bytes: 1 << 24,
            parked_bytes: parked,
            folder: Some(self.folder.path().to_owned()),
            ..KvMemory::default()
        };
        let compute = Compute::choose(Dtype::Float32);
        let llama = Llama::load(&self.checkpoint, compute, 16, None).unwrap();
        LlamaForward::with_memory(llama, memory)
    }
}

/// A scheduler and its model.
struct Engine {
    scheduler: Scheduler,
    stepper: Stepper,
    now: Instant,
    steps: usize,
}

impl Engine {
    /// With room for `slots` tokens.
    fn new(model: LlamaForward, config: Config, slots: usize) -> Self {
        let limits = Limits {
            shape: model.kv_shape(),
            total_bytes: slots * model.kv_shape().slot_bytes(),
        };
        let config = Config {
            prefill_tokens: GRID,
            block_tokens: 2,
            ..config
        };
        let mut scheduler = Scheduler::new(config, limits);
        scheduler.grant(limits.total_bytes);
        Engine {
            scheduler,
            stepper: Stepper::new(Box::new(model)),
            now: Instant::now(),
            steps: 0,
        }
    }

    fn submit(&mut self, request: Request) -> SeqId {
        self.scheduler.submit(request, self.now).unwrap()
    }

    fn step(&mut self) -> Vec<(SeqId, Event)> {
        let plan = self.scheduler.plan(self.now).unwrap_or_default();
        self.scheduler.check();
        let drawn = self.stepper.step(&plan, self.scheduler.slice()).unwrap();
        self.now += Duration::from_millis(3);
        self.steps += 1;
        assert!(self.steps < 20_000, "no end");
        self.scheduler.commit(drawn, self.now)
    }

    /// Runs until idle. The text of each sequence, as it was streamed, and what it took.
    fn run(&mut self) -> Told {
        let mut told = Told::new();
        while !self.scheduler.is_idle() {
            note(&mut told, self.step());
        }
        told
    }
}

type Told = BTreeMap<SeqId, (Vec<TokenId>, Option<Usage>)>;

fn note(told: &mut Told, events: Vec<(SeqId, Event)>) {
    for (seq, event) in events {
        let (text, end) = told.entry(seq).or_default();
        match event {
            Event::Token { token, .. } => text.push(token),
            Event::Finished { usage, .. } => *end = Some(usage),
            Event::Prompt(_) | Event::States(..) => panic!("{seq}: nobody asked for it"),
            Event::Failed(failure) => panic!("{seq}: {failure}"),
        }
    }
}

fn text(count: usize, salt: usize) -> Vec<TokenId> {
    (0..count)
        .map(|i| ((i * i * 31 + i * 7 + salt * 13) % VOCAB) as TokenId)
        .collect()
}

/// Drawn with a seed and with penalties, so that a lost sampler shows.
fn request(prompt: &[TokenId], policy: &Policy, seed: u64) -> Request {
    Request {
        id: RequestId::random(),
        prompt: prompt.to_vec(),
        max_tokens: 40,
        stop_ids: Vec::new(),
        sampling: SamplingParams {
            sampling: Sampling::Random {
                temperature: 0.9,
                top_k: None,
                top_p: 1.0,
                min_p: 0.0,
            },
            penalties: Penalties {
                repetition: 1.2,
                presence: 0.3,
                ..Penalties::default()
            },
            seed,
            ..SamplingParams::default()
        },
        policy: policy.clone(),
        tenant: None,
        session: None,
        standing: Standing::default(),
        of_prompt: OfPrompt::Nothing,
    }
}

fn policies() -> Vec<Policy> {
    let mut streamed = Policy::h2o(10, 10).unwrap();
    streamed.reading = Reading::Streaming;
    vec![
        Policy::full(),
        Policy::h2o(10, 10).unwrap(),
        Policy::snapkv(20, 5, 3).unwrap(),
        Policy::tova(24, 2).unwrap(),
        streamed,
    ]
}

/// What each of `requests` says when it is alone with the model.
fn alone(case: &Case, requests: &[Request]) -> Vec<Vec<TokenId>> {
    let one = |request: &Request| {
        let mut engine = Engine::new(case.model(1 << 24), Config::default(), 10_000);
        let seq = engine.submit(request.clone());
        engine.run().remove(&seq).unwrap().0
    };
    requests.iter().map(one).collect()
}

fn requests() -> Vec<Request> {
    let lengths = [33, 5, 61, 17, 90];
    let pairs = policies().into_iter().zip(lengths).enumerate();
    pairs
        .map(|(place, (policy, length))| request(&text(length, place), &policy, place as u64))
        .collect()
}

#[test]
fn the_same_text_alone_and_beside_others_under_every_batcher() {
    let case = Case::new();
    let requests = requests();
    let expected = alone(&case, &requests);
    assert!(expected.iter().all(|text| text.len() == 40));
    for batcher in [
        BatcherKind::Fixed,
        BatcherKind::Dynamic,
        BatcherKind::SpaceSharing,
    ] {
        let config = Config {
            batcher,
            step_tokens: 12,
            min_chunk: 3,
            max_chunk: 11,
            ..Config::default()
        };
        let mut engine = Engine::new(case.model(1 << 24), config, 10_000);
        let ids: Vec<SeqId> = requests.iter().map(|r| engine.submit(r.clone())).collect();
        let told = engine.run();
        for (seq, expected) in ids.iter().zip(&expected) {
            assert_eq!(&told[seq].0, expected, "{batcher:?}, {seq}");
        }
    }
}

#[test]
fn v10_the_same_text_when_answers_give_way_in_memory_and_on_disk() {
    let case = Case::new();
    let requests = requests();
    let expected = alone(&case, &requests);
    // Room for parked caches, and none: each goes to a file and comes back from it.
    for parked in [1 << 24, 0] {
        let config = Config {
            admission: Admission::Optimistic,
            watermark: 0.0,
            ..Config::default()
        };
        let mut engine = Engine::new(case.model(parked), config, 150);
        let ids: Vec<SeqId> = requests.iter().map(|r| engine.submit(r.clone())).collect();
        let told = engine.run();
        let paused = |seq: &SeqId| told[seq].1.unwrap().preemptions;
        assert!(ids.iter().map(paused).sum::<usize>() > 0, "nobody gave way");
        for (seq, expected) in ids.iter().zip(&expected) {
            assert_eq!(&told[seq].0, expected, "{seq}, {parked} bytes parked");
        }
        assert_eq!(engine.stepper.memory().parked_bytes, 0, "all were taken up");
        assert_eq!(engine.stepper.memory().spilled_session_bytes, 0);
    }
}

#[test]
fn v10_the_same_text_when_a_prompt_gives_way_in_the_middle() {
    let case = Case::new();
    for (policy, parked) in policies()
        .into_iter()
        .flat_map(|policy| [(policy.clone(), 1 << 24), (policy, 0)])
    {
        let long = request(&text(180, 3), &policy, 5);
        let urgent = request(&text(60, 4), &Policy::full(), 6);
        let expected = alone(&case, &[long.clone(), urgent.clone()]);
        let config = Config {
            policy: PolicyKind::Priority,
            ..Config::default()
        };
        // The long prompt alone takes more than what is left for the urgent one.
        let mut engine = Engine::new(case.model(parked), config, 230);
        let waits = Request {
            standing: Standing {
                priority: 9,
                ..Standing::default()
            },
            of_prompt: OfPrompt::Nothing,
            // A worst case that leaves no room.
            max_tokens: 40,
            ..long
        };
        let filler = Request {
            standing: waits.standing.clone(),
            ..request(&text(130, 8), &Policy::full(), 7)
        };
        let low = engine.submit(waits);
        let rest = engine.submit(filler);
        let mut told = Told::new();
        for _ in 0..18 {
            note(&mut told, engine.step());
        }
        let high = engine.submit(urgent);
        for (seq, (rest, end)) in engine.run() {
            let (text, _) = told.entry(seq).or_default();
            text.extend(rest);
            told.entry(seq).or_default().1 = end;
        }
        let name = policy.name();
        assert_eq!(told[&high].0, expected[1], "{name}");
        assert_eq!(told[&low].0, expected[0], "{name}, {parked} bytes parked");
        assert_eq!(told[&rest].0.len(), 40);
        if policy.reading == Reading::Exact {
            assert_eq!(told[&low].1.unwrap().preemptions, 1, "{name}");
        }
    }
}

#[test]
fn the_same_text_from_a_shared_prefix_which_is_not_fed_again() {
    let case = Case::new();
    for (place, policy) in policies().into_iter().enumerate() {
        let prompt = text(101, place);
        let ask = Request {
            tenant: Some("t".to_owned()),
            ..request(&prompt, &policy, 9)
        };
        let expected = alone(&case, std::slice::from_ref(&ask)).remove(0);
        for batcher in [BatcherKind::Fixed, BatcherKind::Dynamic] {
            let config = Config {
                batcher,
                ..Config::default()
            };
            let mut engine = Engine::new(case.model(1 << 24), config, 10_000);
            let first = engine.submit(ask.clone());
            assert_eq!(engine.run()[&first].0, expected);
            let before = engine.steps;
            let second = engine.submit(ask.clone());
            let told = engine.run();
            let (text, usage) = &told[&second];
            let name = policy.name();
            assert_eq!(text, &expected, "{name}");
            let cached = usage.unwrap().cached_tokens;
            assert!(cached >= 88, "{name}: {cached}");
            // One row of the grid, the rest that was not there, then the answer.
            let steps = engine.steps - before;
            assert!(steps <= 40 + 3, "{name}: {steps} steps");
        }
    }
}

#[test]
fn a_paused_sequence_is_no_session_and_leaves_nothing_behind() {
    let case = Case::new();
    let config = Config {
        admission: Admission::Optimistic,
        watermark: 0.0,
        ..Config::default()
    };
    let mut engine = Engine::new(case.model(0), config, 80);
    let first = engine.submit(request(&text(20, 1), &Policy::full(), 1));
    let second = engine.submit(request(&text(20, 2), &Policy::full(), 2));
    while engine.scheduler.paused() == 0 {
        engine.step();
    }
    let SessionReply::Sessions(known) = engine.stepper.session(SessionOrder::List).unwrap() else {
        panic!("no list");
    };
    assert!(known.is_empty(), "{known:?}");
    assert!(engine.stepper.memory().spilled_session_bytes > 0);
    engine.scheduler.cancel(second, engine.now).unwrap();
    engine.step();
    assert_eq!(engine.stepper.memory().spilled_session_bytes, 0);
    assert!(engine.run()[&first].1.is_some(), "the other one goes on");
}
