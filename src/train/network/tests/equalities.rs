//! Two ways to compute the same.

use super::*;

fn gradients(network: &Network) -> Vec<f32> {
    let parameters = network.parameters();
    let all = parameters.iter().flat_map(|p| p.gradient.iter().copied());
    all.collect()
}

fn learnt(mut network: Network, passes: &[Pass]) -> Vec<f32> {
    for pass in passes {
        network.learn(pass, Moment::default()).unwrap();
    }
    gradients(&network)
}

const SAMPLES: [&[TokenId]; 4] = [&[1, 5, 9, 2], &[3, 3, 8, 1], &[0, 7, 4, 6], &[10, 2, 2, 5]];

#[test]
fn four_passes_of_one_sample_are_one_pass_of_four() {
    let network = || lively(&minute_config(), true, options());
    let one_by_one = SAMPLES.map(|sample| Pass::next_tokens(&[sample]));
    let apart = learnt(network(), &one_by_one);
    let together = learnt(network(), &[Pass::next_tokens(&SAMPLES)]);
    let largest = together.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    let off = largest_difference(&apart, &together);
    assert!(off <= 1e-5 * largest.max(1.0), "{off} of {largest}");
}

#[test]
fn packed_losses_are_unpacked_losses() {
    let mut network = lively(&minute_config(), false, options());
    let together = network.evaluate(&Pass::next_tokens(&SAMPLES)).unwrap();
    let mut apart = Vec::new();
    for sample in SAMPLES {
        apart.extend(network.evaluate(&Pass::next_tokens(&[sample])).unwrap());
    }
    assert!(largest_difference(&together, &apart) < 1e-5);
}

#[test]
fn recomputed_gradients_are_kept_ones_to_the_bit() {
    for dropout in [0.0, 0.3] {
        let run = |recompute| {
            let options = NetworkOptions {
                recompute,
                lora: lora(dropout),
                ..options()
            };
            learnt(
                lively(&minute_config(), true, options),
                &[packed(), packed()],
            )
        };
        assert_eq!(run(true), run(false));
    }
}

#[test]
fn threads_and_repeats_leave_the_same_bits() {
    let run = |threads| {
        let options = NetworkOptions {
            threads,
            ..options()
        };
        learnt(lively(&tiny_config(), true, options), &[packed()])
    };
    let first = run(2);
    assert_eq!(first, run(2));
    assert_eq!(first, run(1));
}

#[test]
fn new_adapters_leave_logits_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = tiny_checkpoint(folder.path());
    let mut plain = Network::open(&checkpoint, options()).unwrap();
    let adapted = NetworkOptions {
        lora: lora(0.5),
        ..options()
    };
    let mut adapted = Network::open(&checkpoint, adapted).unwrap();
    let pass = packed();
    assert_eq!(plain.logits(&pass).unwrap(), adapted.logits(&pass).unwrap());
}

#[test]
fn dropout_changes_learning_with_the_moment_and_never_evaluation() {
    let options = NetworkOptions {
        lora: lora(0.5),
        ..options()
    };
    let at = |step, micro_step| {
        let mut network = lively(&minute_config(), true, options.clone());
        network
            .learn(&packed(), Moment { step, micro_step })
            .unwrap();
        gradients(&network)
    };
    assert_eq!(at(3, 1), at(3, 1));
    assert_ne!(at(3, 1), at(4, 1));
    assert_ne!(at(3, 1), at(3, 2));
    let mut dropping = lively(&minute_config(), true, options.clone());
    let whole = NetworkOptions {
        lora: lora(0.0),
        ..options
    };
    let mut whole = lively(&minute_config(), true, whole);
    let pass = packed();
    assert_eq!(
        dropping.evaluate(&pass).unwrap(),
        whole.evaluate(&pass).unwrap()
    );
}

#[test]
fn gradients_are_zeroed_and_rows_of_no_weight_give_none() {
    let mut network = lively(&minute_config(), true, options());
    let mut pass = packed();
    network.learn(&pass, Moment::default()).unwrap();
    network.zero_gradients();
    pass.objective.weights.fill(0.0);
    let cost = network.learn(&pass, Moment::default()).unwrap();
    assert_eq!((cost.loss_sum, cost.weight, cost.tokens), (0.0, 0.0, 12));
    assert!(gradients(&network).iter().all(|g| *g == 0.0));
    assert!(network.evaluate(&pass).unwrap().iter().all(|l| *l == 0.0));
}

#[test]
fn a_quantised_base_learns_as_the_same_numbers_in_floats() {
    let folder = tempfile::tempdir().unwrap();
    let config = ModelConfig {
        interleaved_rope: true,
        ..tiny_config()
    };
    let checkpoint = tiny_checkpoint(folder.path());
    let quantised = NetworkOptions {
        lora: lora(0.0),
        quantised: true,
        ..options()
    };
    let mut narrow = Network::open(&checkpoint, quantised).unwrap();
    // The width of 48 of the feed-forward layer is no whole number of blocks, so `down` stays as it is.
    let widened: Vec<_> = narrow.merged().collect();
    assert_eq!(widened.len(), 3 + 9 * config.layers);
    let plain = NetworkOptions {
        quantised: false,
        ..narrow.options().clone()
    };
    let mut wide = Network::open(&checkpoint, plain).unwrap();
    for parameter in wide.parameters_mut() {
        if let Some((_, _, values)) = widened.iter().find(|(name, ..)| name == parameter.name) {
            parameter.values.copy_from_slice(values);
        }
    }
    assert!(narrow.weight_bytes() * 2 < wide.weight_bytes());
    let pass = packed();
    for network in [&mut narrow, &mut wide] {
        network.learn(&pass, Moment::default()).unwrap();
    }
    let of_adapters = |network: &Network| -> Vec<f32> {
        let all = network.parameters();
        let adapters = all.iter().filter(|p| p.trainable);
        adapters.flat_map(|p| p.gradient.iter().copied()).collect()
    };
    assert!(largest_difference(&of_adapters(&narrow), &of_adapters(&wide)) < 1e-4);
}
