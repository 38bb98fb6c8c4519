use std::num::NonZeroU32;

use super::*;
use crate::ids::TokenId;
use crate::sample::Sampling;
use crate::text::{BpeSpec, train_bpe};
use crate::train::network::tests::{lively, minute_config, options};
use crate::train::network::{Moment, Network, Pass};
use crate::train::optimizer::{Optimizer, OptimizerSpec, Rates};
use crate::train::rollout::{Answer, Asked, Drawing, draw, engine};

fn answer(ids: &[TokenId], forced: &[usize]) -> Answer {
    Answer {
        ids: ids.to_vec(),
        drawn: (0..ids.len()).map(|at| !forced.contains(&at)).collect(),
        ended: true,
        ..Answer::default()
    }
}

#[test]
fn tokens_that_were_forced_are_read_and_not_learnt() {
    let answers = [answer(&[7, 8, 9, 10], &[1, 2]), answer(&[7, 3], &[])];
    let group = Group {
        prompt: &[1, 2, 3],
        answers: &answers,
        rewards: &[1.0, 0.0],
    };
    let found = learnt(&[group], 100);
    assert_eq!((found.tokens, found.skipped, found.passes.len()), (4, 0, 1));
    let pass = &found.passes[0];
    assert_eq!(pass.ids, [1, 2, 3, 7, 8, 9, 1, 2, 3, 7]);
    assert_eq!(pass.spans, [(0, 6), (6, 4)]);
    assert_eq!(pass.positions, [0, 1, 2, 3, 4, 5, 0, 1, 2, 3]);
    assert_eq!(pass.objective.rows, [2, 5, 8, 9]);
    assert_eq!(pass.objective.targets, [7, 10, 7, 3]);
    assert_eq!(pass.objective.weights, [0.5, 0.5, -0.5, -0.5]);
}

#[test]
fn equal_answers_are_computed_once_and_groups_without_a_difference_not_at_all() {
    let same = [
        answer(&[4, 5], &[]),
        answer(&[6], &[]),
        answer(&[4, 5], &[]),
    ];
    let groups = [
        Group {
            prompt: &[1, 2],
            answers: &same,
            rewards: &[1.0, 0.0, 1.0],
        },
        Group {
            prompt: &[3, 2],
            answers: &same,
            rewards: &[0.1, 0.1, 0.1],
        },
    ];
    let found = learnt(&groups, 100);
    assert_eq!((found.tokens, found.skipped), (5, 1));
    assert_eq!(found.passes[0].ids, [1, 2, 4, 1, 2]);
    let weights = &found.passes[0].objective.weights;
    for (weight, expected) in weights.iter().zip([2.0 / 3.0, 2.0 / 3.0, -2.0 / 3.0]) {
        assert!((weight - expected).abs() < 1e-6, "{weights:?}");
    }
    // As many tokens as a pass may have; one answer is never cut.
    let cut = learnt(&groups, 4);
    let sizes: Vec<usize> = cut.passes.iter().map(|pass| pass.ids.len()).collect();
    assert_eq!(sizes, [3, 2]);
    assert_eq!(
        learnt(&groups[1..], 100),
        Learnt {
            skipped: 1,
            ..Learnt::default()
        }
    );
}

/// The objective, answer by answer, as it is defined.
fn objective(network: &mut Network, groups: &[Group<'_>]) -> f64 {
    let (mut sum, mut tokens) = (0.0, 0);
    for group in groups {
        let mean = group.rewards.iter().sum::<f64>() / group.rewards.len() as f64;
        for (answer, reward) in group.answers.iter().zip(group.rewards) {
            let ids = [group.prompt, &answer.ids].concat();
            let losses = network.evaluate(&Pass::next_tokens(&[&ids])).unwrap();
            let own = losses[group.prompt.len() - 1..].iter().zip(&answer.drawn);
            for (loss, _) in own.filter(|(_, drawn)| **drawn) {
                sum += (reward - mean) * f64::from(*loss);
                tokens += 1;
            }
        }
    }
    sum / f64::from(tokens)
}

#[test]
fn the_gradient_is_the_difference_quotient_of_the_objective() {
    let first = [
        answer(&[7, 8, 2], &[]),
        answer(&[3, 3, 9, 1], &[1, 2]),
        answer(&[7, 8, 2], &[]),
        answer(&[10], &[]),
    ];
    let second = [answer(&[0, 4], &[]), answer(&[6, 5, 4], &[])];
    let groups = [
        Group {
            prompt: &[1, 5, 9],
            answers: &first,
            rewards: &[1.0, 0.1, 1.0, 0.0],
        },
        Group {
            prompt: &[2, 2],
            answers: &second,
            rewards: &[0.0, 1.0],
        },
    ];
    let mut network = lively(&minute_config(), true, options());
    let found = learnt(&groups, 9);
    assert!(found.passes.len() > 1);
    let mut loss = 0.0;
    for pass in &found.passes {
        loss += network.learn(pass, Moment::default()).unwrap().loss_sum;
    }
    let tokens = found.tokens as f64;
    assert!((loss / tokens - objective(&mut network, &groups)).abs() < 1e-5);
    let parameters = network.parameters();
    let gradients: Vec<Vec<f32>> = parameters.iter().map(|p| p.gradient.to_vec()).collect();
    drop(parameters);
    let mut largest: f64 = 0.0;
    for (index, gradient) in gradients.iter().enumerate() {
        for element in (index % 5..gradient.len()).step_by(13) {
            let mut at = |offset: f32| {
                let mut parameters = network.parameters_mut();
                let value = &mut parameters[index].values[element];
                let before = std::mem::replace(value, *value + offset);
                let objective = objective(&mut network, &groups);
                network.parameters_mut()[index].values[element] = before;
                objective
            };
            let step = 0.02f32;
            let near = at(step) - at(-step);
            let far = at(2.0 * step) - at(-2.0 * step);
            let difference = (8.0 * near - far) / (12.0 * f64::from(step));
            let slope = f64::from(gradient[element]) / tokens;
            assert!(
                (slope - difference).abs() < 1e-3,
                "{index}/{element}: {slope} {difference}"
            );
            largest = largest.max(slope.abs());
        }
    }
    assert!(
        largest > 0.05,
        "gradients that are all near 0 would pass: {largest}"
    );
}

/// A model of random weights comes to write the one token that is rewarded.
#[test]
fn a_model_learns_what_is_rewarded() {
    const WANTED: TokenId = 7;
    let lines = (0..9).map(|n| format!("{n} and {n}\n"));
    let tokenizer = train_bpe(lines, &BpeSpec::new(260)).unwrap();
    let mut network = Network::random(&minute_config(), false, options()).unwrap();
    let processor = network.processor().clone();
    let spec = OptimizerSpec::default();
    let mut optimizer = Optimizer::new(spec, &network.parameters(), processor).unwrap();
    let how = Drawing {
        sampling: Sampling::Random {
            temperature: 1.0,
            top_k: NonZeroU32::new(0),
            top_p: 1.0,
            min_p: 0.0,
        },
        max_new_tokens: 3,
        ends: &[],
        at_once: 64,
    };
    let prompts: [&[TokenId]; 2] = [&[1, 2, 3], &[4, 5]];
    let mut means = Vec::new();
    for step in 0..30 {
        let asked = prompts.map(|prompt| Asked {
            prompt,
            calculator: None,
            seeds: (0..16).map(|sample| step * 1000 + sample).collect(),
        });
        let mut engine = engine(&network, 8).unwrap();
        let answers = draw(&mut engine, tokenizer.tokenizer(), &asked, &how).unwrap();
        let share = |answer: &Answer| {
            let wanted = answer.ids.iter().filter(|id| **id == WANTED).count();
            wanted as f64 / answer.ids.len() as f64
        };
        let rewards: Vec<Vec<f64>> = answers
            .iter()
            .map(|group| group.iter().map(share).collect())
            .collect();
        let all: Vec<f64> = rewards.iter().flatten().copied().collect();
        means.push(all.iter().sum::<f64>() / all.len() as f64);
        let groups: Vec<Group<'_>> = prompts
            .iter()
            .zip(&answers)
            .zip(&rewards)
            .map(|((prompt, answers), rewards)| Group {
                prompt,
                answers,
                rewards,
            })
            .collect();
        let found = learnt(&groups, 64);
        network.zero_gradients();
        for pass in &found.passes {
            network.learn(pass, Moment::default()).unwrap();
        }
        if found.tokens == 0 {
            continue;
        }
        let clipped = optimizer.clip(&network.parameters(), 1.0 / found.tokens as f64, Some(1.0));
        let rates = Rates {
            lr: 0.03,
            matrix_lr: 0.0,
            weight_decay: 0.0,
            momentum: 0.0,
        };
        optimizer
            .step(&mut network.parameters_mut(), rates, clipped.scale)
            .unwrap();
    }
    assert!(means[0] < 0.3, "{means:?}");
    assert!(means[means.len() - 1] > 0.9, "{means:?}");
}
