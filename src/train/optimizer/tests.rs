use super::*;
use crate::train::network::tests::{lively, minute_config, options, packed};
use crate::train::network::{Moment, Network, NetworkOptions, Pass};

fn rates() -> Rates {
    Rates {
        lr: 0.01,
        matrix_lr: 0.02,
        weight_decay: 0.1,
        momentum: 0.9,
    }
}

/// One trained tensor.
fn alone<'a>(
    role: Role,
    shape: &[usize],
    values: &'a mut [f32],
    gradient: &'a mut [f32],
) -> ParameterMut<'a> {
    ParameterMut {
        name: "x",
        shape: shape.to_vec(),
        values,
        gradient,
        trainable: true,
        role,
    }
}

fn optimizer(spec: OptimizerSpec, role: Role, shape: &[usize]) -> Optimizer {
    let zeros = vec![0.0; shape.iter().product()];
    let parameter = Parameter {
        name: "x",
        shape: shape.to_vec(),
        values: &zeros,
        gradient: &zeros,
        trainable: true,
        role,
    };
    Optimizer::new(spec, &[parameter], Processor::new(2).unwrap()).unwrap()
}

fn noise(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let draw = |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (0..12).fold(-6.0, |sum, turn| {
            let bits = state
                .rotate_left(turn * 5)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15);
            sum + (bits >> 40) as f32 / (1u64 << 24) as f32
        })
    };
    (0..count).map(draw).collect()
}

#[test]
fn n13_adamw_equals_its_definition() {
    let spec = OptimizerSpec::default();
    for (role, decay) in [(Role::Embedding, 0.1), (Role::Norm, 0.0)] {
        let mut adamw = optimizer(spec, role, &[37]);
        let mut values = noise(37, 1);
        let mut reference: Vec<f64> = values.iter().map(|x| f64::from(*x)).collect();
        let (mut first, mut second) = (vec![0.0; 37], vec![0.0; 37]);
        for step in 1..=20 {
            let mut gradient = noise(37, 100 + step);
            let wide: Vec<f64> = gradient.iter().map(|g| f64::from(*g) * 0.5).collect();
            let mut parameters = [alone(role, &[37], &mut values, &mut gradient)];
            adamw.step(&mut parameters, rates(), 0.5).unwrap();
            for (index, &g) in wide.iter().enumerate() {
                first[index] = 0.9 * first[index] + 0.1 * g;
                second[index] = 0.999 * second[index] + 0.001 * g * g;
                let mean = first[index] / (1.0 - 0.9f64.powi(step as i32));
                let square: f64 = second[index] / (1.0 - 0.999f64.powi(step as i32));
                reference[index] *= 1.0 - 0.01 * decay;
                reference[index] -= 0.01 * mean / (square.sqrt() + 1e-8);
            }
        }
        for (found, expected) in values.iter().zip(&reference) {
            let error = (f64::from(*found) - expected).abs();
            assert!(
                error <= 1e-5 * expected.abs().max(0.1),
                "{found} for {expected}"
            );
        }
    }
}

/// The squared singular values of `x`, by Jacobi's rotations of the smaller Gram matrix.
fn squared_singular_values(x: &[f32], (rows, cols): (usize, usize)) -> Vec<f64> {
    let small = rows.min(cols);
    let at = |i: usize, k: usize| {
        f64::from(if rows <= cols {
            x[i * cols + k]
        } else {
            x[k * cols + i]
        })
    };
    let gram = |i: usize, j: usize| (0..rows.max(cols)).map(|k| at(i, k) * at(j, k)).sum();
    let mut matrix: Vec<Vec<f64>> = (0..small)
        .map(|i| (0..small).map(|j| gram(i, j)).collect())
        .collect();
    for _ in 0..12 {
        for p in 0..small {
            for q in p + 1..small {
                if matrix[p][q].abs() < 1e-14 {
                    continue;
                }
                let theta = (matrix[q][q] - matrix[p][p]) / (2.0 * matrix[p][q]);
                let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
                let c = 1.0 / (t * t + 1.0).sqrt();
                let s = t * c;
                for row in &mut matrix {
                    let (a, b) = (row[p], row[q]);
                    (row[p], row[q]) = (c * a - s * b, s * a + c * b);
                }
                let (one, other) = (matrix[p].clone(), matrix[q].clone());
                for (k, (a, b)) in one.into_iter().zip(other).enumerate() {
                    matrix[p][k] = c * a - s * b;
                    matrix[q][k] = s * a + c * b;
                }
            }
        }
    }
    (0..small).map(|i| matrix[i][i]).collect()
}

#[test]
fn n13_singular_values_of_muons_update_are_alike() {
    let spec = OptimizerSpec {
        muon: true,
        ..OptimizerSpec::default()
    };
    for shape in [(16, 48), (48, 16), (24, 24)] {
        let (rows, cols) = shape;
        let count = rows * cols;
        let mut muon = optimizer(spec, Role::Matrix, &[rows, cols]);
        let mut values = vec![0.0; count];
        let mut gradient = noise(count, 5);
        let rates = Rates {
            matrix_lr: 1.0,
            weight_decay: 0.0,
            ..rates()
        };
        let mut parameters = [alone(
            Role::Matrix,
            &[rows, cols],
            &mut values,
            &mut gradient,
        )];
        muon.step(&mut parameters, rates, 1.0).unwrap();
        let squares = squared_singular_values(&values, shape);
        let (least, most) = squares
            .iter()
            .fold((f64::MAX, 0.0f64), |(l, m), x| (l.min(*x), m.max(*x)));
        let ratio = (most / least).sqrt();
        assert!(ratio < 4.0, "{shape:?}: {ratio}");
        let largest = (rows as f64 / cols as f64).max(1.0).sqrt();
        assert!(
            (0.5..1.5).contains(&(most.sqrt() / largest)),
            "{shape:?}: {most}"
        );
        let along: f32 = values.iter().zip(&gradient).map(|(v, g)| v * g).sum();
        assert!(along < 0.0, "it goes against the gradient");
    }
}

/// Mean loss after some steps on a text that repeats.
fn converged(muon: bool) -> f64 {
    let config = minute_config();
    let mut network = Network::random(&config, true, NetworkOptions { ..options() }).unwrap();
    let spec = OptimizerSpec {
        muon,
        ..OptimizerSpec::default()
    };
    let processor = network.processor().clone();
    let mut optimizer = Optimizer::new(spec, &network.parameters(), processor).unwrap();
    let text: Vec<u32> = (0..24).map(|i| [1, 4, 9, 2, 7, 5][i % 6]).collect();
    let pass = Pass::next_tokens(&[&text]);
    let mut mean = f64::MAX;
    for step in 0..150 {
        network.zero_gradients();
        let moment = Moment {
            step,
            micro_step: 0,
        };
        let cost = network.learn(&pass, moment).unwrap();
        mean = cost.loss_sum / cost.weight;
        let clipped = optimizer.clip(&network.parameters(), 1.0 / cost.weight, Some(1.0));
        let rates = Rates {
            lr: 0.02,
            weight_decay: 0.0,
            ..rates()
        };
        let mut parameters = network.parameters_mut();
        optimizer
            .step(&mut parameters, rates, clipped.scale)
            .unwrap();
    }
    mean
}

#[test]
fn n13_both_converge_on_a_toy_task() {
    for muon in [false, true] {
        let loss = converged(muon);
        assert!(loss < 0.5, "muon {muon}: {loss}");
    }
}

#[test]
fn gradients_are_clipped_to_the_longest_allowed() {
    let mut network = lively(&minute_config(), true, options());
    network.learn(&packed(), Moment::default()).unwrap();
    let processor = network.processor().clone();
    let optimizer = Optimizer::new(OptimizerSpec::default(), &network.parameters(), processor);
    let optimizer = optimizer.unwrap();
    let free = optimizer.clip(&network.parameters(), 0.5, None);
    let squares = network
        .parameters()
        .iter()
        .flat_map(|p| {
            p.gradient
                .iter()
                .map(|g| f64::from(*g) * f64::from(*g))
                .collect::<Vec<_>>()
        })
        .sum::<f64>();
    assert!((free.norm - 0.5 * squares.sqrt()).abs() < 1e-4 * free.norm);
    assert_eq!(free.scale, 0.5);
    let loose = optimizer.clip(&network.parameters(), 0.5, Some(free.norm * 2.0));
    assert_eq!(loose, free);
    let tight = optimizer.clip(&network.parameters(), 0.5, Some(free.norm / 4.0));
    assert!((tight.scale - 0.125).abs() < 1e-6 && tight.norm == free.norm);
    network.parameters_mut()[0].gradient[0] = f32::NAN;
    let broken = optimizer.clip(&network.parameters(), 1.0, Some(1.0));
    assert!(broken.norm.is_nan() && broken.scale.is_nan());
}

#[test]
fn what_does_not_fit_is_refused() {
    let network = lively(&minute_config(), true, options());
    let processor = network.processor();
    type Change = fn(&mut OptimizerSpec);
    let broken: [(Change, &str); 4] = [
        (|s| s.beta1 = 1.0, "beta1"),
        (|s| s.beta2 = -0.1, "beta2"),
        (|s| s.eps = 0.0, "eps"),
        (|s| s.eps = f32::NAN, "eps"),
    ];
    for (change, part) in broken {
        let mut spec = OptimizerSpec::default();
        change(&mut spec);
        let error = Optimizer::new(spec, &network.parameters(), processor.clone()).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
    }
    let spec = OptimizerSpec::default();
    let none = Optimizer::new(spec, &[], processor.clone()).unwrap_err();
    assert_eq!(none, OptimizerError::Nothing);
    let mut other = optimizer(spec, Role::Matrix, &[2, 2]);
    assert!(matches!(
        other.step(&mut [], rates(), 1.0),
        Err(OptimizerError::Count { .. })
    ));
    let (mut values, mut gradient) = (vec![0.0; 6], vec![0.0; 6]);
    let mut wrong = [alone(Role::Matrix, &[3, 2], &mut values, &mut gradient)];
    let error = other.step(&mut wrong, rates(), 1.0).unwrap_err();
    assert!(matches!(error, OptimizerError::Parameter { .. }));
    let error = other
        .restore(3, |_| Ok::<_, OptimizerError>(vec![0.0; 5]))
        .unwrap_err();
    assert!(
        error.to_string().contains("x.first has 5 values"),
        "{error}"
    );
}
