//! Every element of every gradient against differences of losses, which know nothing of the backward pass.

use super::*;

/// A step of the differences: their error is its fourth power, and that of the losses over it.
const STEP: f32 = 0.02;

fn loss(network: &mut Network, pass: &Pass) -> f64 {
    let losses = network.evaluate(pass).unwrap();
    let weighted = losses.iter().zip(&pass.objective.weights);
    weighted.map(|(l, w)| f64::from(*l) * f64::from(*w)).sum()
}

/// Compares all gradients after one pass; returns how many elements were compared.
fn check(mut network: Network) -> usize {
    let pass = packed();
    let cost = network.learn(&pass, Moment::default()).unwrap();
    assert!((cost.loss_sum - loss(&mut network, &pass)).abs() < 1e-4);
    let expected: Vec<(String, Vec<f32>, bool)> = network
        .parameters()
        .iter()
        .map(|p| (p.name.to_owned(), p.gradient.to_vec(), p.trainable))
        .collect();
    let mut compared = 0;
    for (index, (name, gradient, trainable)) in expected.iter().enumerate() {
        assert_eq!(gradient.is_empty(), !trainable, "{name}");
        for (element, found) in gradient.iter().enumerate() {
            let mut at = |offset: f32| {
                let mut parameters = network.parameters_mut();
                let value = &mut parameters[index].values[element];
                let before = std::mem::replace(value, *value + offset);
                let loss = loss(&mut network, &pass);
                network.parameters_mut()[index].values[element] = before;
                loss
            };
            let step = f64::from(STEP);
            let near = at(STEP) - at(-STEP);
            let far = at(2.0 * STEP) - at(-2.0 * STEP);
            let difference = (8.0 * near - far) / (12.0 * step);
            let error = (f64::from(*found) - difference).abs();
            assert!(
                error <= 1e-3 * difference.abs().max(1.0),
                "{name}[{element}]: {found}, by differences {difference}"
            );
            compared += 1;
        }
    }
    assert!(
        expected
            .iter()
            .any(|(_, g, _)| g.iter().any(|g| g.abs() > 0.1)),
        "gradients that are all near 0 would pass"
    );
    compared
}

#[test]
fn every_gradient_of_a_tied_model_equals_its_difference() {
    let config = minute_config();
    let network = lively(&config, true, options());
    let all = network.elements();
    assert_eq!(check(network), all);
}

#[test]
fn every_gradient_of_an_untied_model_that_recomputes_equals_its_difference() {
    let recompute = NetworkOptions {
        recompute: true,
        ..options()
    };
    let network = lively(&minute_config(), false, recompute);
    let all = network.elements();
    assert_eq!(check(network), all);
}

#[test]
fn every_gradient_of_adapters_equals_its_difference_and_the_base_has_none() {
    let adapted = NetworkOptions {
        lora: lora(0.0),
        ..options()
    };
    let network = lively(&minute_config(), true, adapted);
    let adapters = network.parameters();
    let adapters = adapters.iter().filter(|p| p.role == Role::Adapter);
    let count = adapters.map(|p| p.values.len()).sum::<usize>();
    assert_eq!(check(network), count);
}

#[test]
fn adapters_above_frozen_layers_learn_and_below_there_are_none() {
    let frozen = NetworkOptions {
        lora: lora(0.0),
        freeze: Freeze {
            layers: 1,
            embeddings: false,
        },
        ..options()
    };
    let network = lively(&minute_config(), true, frozen);
    let parameters = network.parameters();
    let mut adapters = parameters.iter().filter(|p| p.role == Role::Adapter);
    assert!(adapters.all(|p| p.name.contains(".layers.1.")));
    drop(parameters);
    assert!(check(network) > 0);
}

#[test]
fn every_gradient_above_frozen_layers_equals_its_difference() {
    for (layers, embeddings) in [(1, true), (2, true), (1, false)] {
        let frozen = NetworkOptions {
            freeze: Freeze { layers, embeddings },
            ..options()
        };
        let network = lively(&minute_config(), false, frozen);
        let all = network.elements();
        let compared = check(network);
        assert!(0 < compared && compared < all, "{compared} of {all}");
    }
}

#[test]
fn gradients_in_bfloat16_are_those_in_float32_within_its_rounding() {
    let mut gradients = [Precision::Float32, Precision::Bfloat16].map(|precision| {
        let narrow = NetworkOptions {
            precision,
            ..options()
        };
        let mut network = lively(&minute_config(), true, narrow);
        network.learn(&packed(), Moment::default()).unwrap();
        let parameters = network.parameters();
        let all = parameters.iter().flat_map(|p| p.gradient.iter().copied());
        all.collect::<Vec<f32>>()
    });
    let length = |x: &[f32]| x.iter().map(|x| x * x).sum::<f32>().sqrt();
    let whole = length(&gradients[0]);
    let narrow = gradients[1].clone();
    gradients[0]
        .iter_mut()
        .zip(narrow)
        .for_each(|(a, b)| *a -= b);
    let off = length(&gradients[0]) / whole;
    assert!(0.0 < off && off < 0.03, "{off}");
}
