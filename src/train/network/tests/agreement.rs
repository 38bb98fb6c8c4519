//! The same logits as the model that serves.

use std::path::Path;

use super::*;
use crate::ids::SeqId;
use crate::llama::{Compute, Dtype, Llama, LlamaForward};
use crate::sample::SamplingParams;
use crate::sched::{Forward, Open, Origin, Phase, Plan, Row, Want};

/// Logits of all rows from the serving model, in float32.
fn served(checkpoint: &Checkpoint, tokens: &[TokenId]) -> Vec<f32> {
    let compute = Compute::choose(Dtype::Float32);
    let model = Llama::load(checkpoint, compute, 64, None).unwrap();
    let row = Row {
        seq: SeqId(1),
        open: Some(Open {
            policy: crate::kv::Policy::full(),
            sampling: SamplingParams::default(),
            origin: Origin::Empty,
        }),
        tokens: tokens.to_vec(),
        start: 0,
        want: Want::All,
        phase: Phase::Prompt { left: 0 },
    };
    let plan = Plan {
        rows: vec![row],
        paused: Vec::new(),
        ended: Vec::new(),
    };
    let outputs = LlamaForward::new(model).forward(&plan).unwrap();
    outputs
        .rows
        .into_iter()
        .flat_map(|row| row.logits)
        .collect()
}

fn compare(checkpoint: &Checkpoint, tokens: &[TokenId], within: f32) {
    let expected = served(checkpoint, tokens);
    let mut network = Network::open(checkpoint, options()).unwrap();
    let mut pass = Pass::next_tokens(&[tokens]);
    pass.objective.rows = (0..tokens.len()).collect();
    pass.objective.targets = vec![0; tokens.len()];
    pass.objective.weights = vec![1.0; tokens.len()];
    let found = network.logits(&pass).unwrap();
    let spread = expected.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    let off = largest_difference(&found, &expected);
    assert!(off <= within * spread, "{off} of {spread}");
}

#[test]
fn logits_of_the_tiny_model_agree_with_serving() {
    let folder = tempfile::tempdir().unwrap();
    let tokens: Vec<TokenId> = (0..40).map(|i| i * 31 % 96).collect();
    compare(&tiny_checkpoint(folder.path()), &tokens, 1e-4);
}

/// Both compute in float32 over the same widened weights: what remains is the order of sums through 30 blocks.
#[test]
fn logits_of_a_real_model_agree_with_serving() {
    let Some(path) = std::env::var_os("LLAMAHOME_TEST_MODEL") else {
        panic!(
            "LLAMAHOME_TEST_MODEL is not set: run `make test`, which fetches the model and sets it"
        );
    };
    let checkpoint = Checkpoint::open(Path::new(&path)).unwrap();
    let tokens = [504, 3575, 282, 4649, 314, 7042, 30, 198];
    compare(&checkpoint, &tokens, 1e-3);
}
