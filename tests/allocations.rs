//! What a decode step asks the system's allocator for: nothing for each layer, head or weight, so that it does not grow with
//! the model.
#![allow(unsafe_code, reason = "an allocator that counts is one")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use llamahome::ids::{SeqId, TokenId};
use llamahome::kv::Policy;
use llamahome::llama::testing::{tiny_config, tiny_gguf};
use llamahome::llama::{Compute, Dtype, Llama, LlamaForward, ModelConfig};
use llamahome::sample::SamplingParams;
use llamahome::sched::{Forward, Open, Origin, Phase, Plan, Row, Want};
use llamahome::store::Checkpoint;

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: the system's allocator does all of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are those that it asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        // SAFETY: likewise.
        unsafe { System.dealloc(start, layout) }
    }

    unsafe fn realloc(&self, start: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: likewise.
        unsafe { System.realloc(start, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn model(layers: usize) -> LlamaForward {
    let config = ModelConfig {
        layers,
        ..tiny_config()
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tiny.gguf");
    std::fs::write(&file, tiny_gguf(&config, 11).unwrap()).unwrap();
    let checkpoint = Checkpoint::open(&file).unwrap();
    let compute = Compute::choose(Dtype::Float32);
    LlamaForward::new(Llama::load_on(2, &checkpoint, compute, 16, None).unwrap())
}

/// Allocations of the cheapest of many decode steps of `sequences` at once: now and then rows of a cache outgrow their
/// memory.
fn cheapest(layers: usize, sequences: u64, policy: &Policy) -> usize {
    const PROMPT: usize = 20;
    let mut model = model(layers);
    let step = |start: usize, tokens: usize, phase: Phase| -> Plan {
        let row = |seq: u64| Row {
            seq: SeqId(seq),
            open: (start == 0).then(|| Open {
                policy: policy.clone(),
                sampling: SamplingParams::default(),
                origin: Origin::Empty,
            }),
            tokens: (start..start + tokens)
                .map(|at| (at as u64 * 7 + seq) as TokenId % 96)
                .collect(),
            start,
            want: Want::Last,
            phase,
        };
        Plan {
            rows: (0..sequences).map(row).collect(),
            ..Plan::default()
        }
    };
    model
        .forward(&step(0, PROMPT, Phase::Prompt { left: 0 }))
        .unwrap();
    let counts = (PROMPT..PROMPT + 60).map(|start| {
        let plan = step(start, 1, Phase::Decode);
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        let outputs = model.forward(&plan).unwrap();
        let count = ALLOCATIONS.load(Ordering::Relaxed) - before;
        assert_eq!(outputs.rows.len(), sequences as usize);
        count
    });
    counts.min().unwrap()
}

#[test]
fn layers_of_a_decode_step_allocate_nothing() {
    for policy in [Policy::full(), Policy::h2o(8, 8).unwrap()] {
        for sequences in [1, 4] {
            let (few, many) = (
                cheapest(2, sequences, &policy),
                cheapest(7, sequences, &policy),
            );
            assert_eq!(few, many, "{policy}, {sequences} sequences");
            println!("{policy}, {sequences} sequences: {few}");
        }
    }
}
