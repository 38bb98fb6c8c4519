use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use case::{Case, Kind, Rows, case, kind};

mod case;

/// How far a level may be from the reference in `f64`, relative and absolute.
const BOUND: f64 = 2e-5;

fn assert_close<T: Copy + Into<f64>>(actual: &[f32], expected: &[T], bound: f64, what: &str) {
    assert_eq!(actual.len(), expected.len());
    for (i, (a, b)) in actual.iter().zip(expected).enumerate() {
        let (a, b) = (f64::from(*a), (*b).into());
        assert!(
            (a - b).abs() <= bound * (1.0 + b.abs()),
            "{what} {i}: {a} instead of {b}"
        );
    }
}

proptest! {
    #[test]
    fn every_level_equals_the_reference(case in case()) {
        let (output, mass) = case.reference();
        for level in Level::available() {
            let (actual_output, actual_mass) = case.attend(level);
            assert_close(&actual_output, &output, BOUND, &format!("{level:?} output"));
            assert_close(&actual_mass, &mass, BOUND, &format!("{level:?} mass"));
        }
    }

    #[test]
    fn the_mass_is_the_group_when_anything_is_visible(case in case()) {
        let hidden = |bias: &Vec<f32>| bias.iter().all(|b| *b == f32::NEG_INFINITY);
        let visible = case.slots() > 0 && !case.bias.as_ref().is_some_and(hidden);
        let expected = if visible { case.group() as f32 } else { 0.0 };
        for level in Level::available() {
            let (output, mass) = case.attend(level);
            let total: f32 = mass.iter().sum();
            prop_assert!((total - expected).abs() <= 1e-4, "{level:?}: {total}");
            prop_assert!(visible || output.iter().all(|x| *x == 0.0), "{level:?}");
        }
    }

    #[test]
    fn splitting_a_segment_changes_nothing(
        head_dim in 1usize..=130, group in 1usize..=5, keys in kind(), values in kind(),
        cuts in vec(0usize..=200, 0..4), seed in any::<u64>(),
    ) {
        let len = 200;
        let case = Case::new(head_dim, group, &[(keys, values, len)], Some(0.1), seed);
        let mut cuts = [vec![0, len], cuts].concat();
        cuts.sort_unstable();
        let pieces = cuts.windows(2);
        let pieces: Vec<_> = pieces
            .map(|cut| case.parts[0].segment(cut[0], cut[1], head_dim))
            .collect();
        for level in Level::available() {
            let (output, mass) = case.attend(level);
            let split = case.attend_over(level, &pieces, &mut Scratch::default());
            assert_close(&split.0, &output, BOUND, &format!("{level:?} output"));
            assert_close(&split.1, &mass, BOUND, &format!("{level:?} mass"));
        }
    }

    #[test]
    fn permuting_slots_changes_nothing_but_the_place_of_the_mass(
        head_dim in 1usize..=130, group in 1usize..=5, keys in kind(), values in kind(),
        order in Just((0..70).collect::<Vec<usize>>()).prop_shuffle(), seed in any::<u64>(),
    ) {
        let case = Case::new(head_dim, group, &[(keys, values, 70)], Some(0.1), seed);
        let mut permuted = case.clone();
        permuted.parts[0].keys = case.parts[0].keys.permuted(&order, head_dim);
        permuted.parts[0].values = case.parts[0].values.permuted(&order, head_dim);
        permuted.bias = case.bias.as_ref().map(|bias| order.iter().map(|j| bias[*j]).collect());
        for level in Level::available() {
            let (output, mass) = case.attend(level);
            let mass: Vec<f32> = order.iter().map(|j| mass[*j]).collect();
            let (permuted_output, permuted_mass) = permuted.attend(level);
            assert_close(&permuted_output, &output, BOUND, &format!("{level:?} output"));
            assert_close(&permuted_mass, &mass, BOUND, &format!("{level:?} mass"));
        }
    }
}

/// More than one block of rows, and a group of more than one part.
#[test]
#[cfg_attr(
    miri,
    ignore = "takes minutes there; shorter tests take the same paths"
)]
fn long_segments_and_large_groups_equal_the_reference() {
    for (head_dim, group) in [(64, 3), (128, 8), (80, 7), (256, 1), (33, 9)] {
        for kind in [Kind::F32, Kind::Bf16, Kind::Int8] {
            let shapes = [(kind, kind, 4500), (kind, kind, 131)];
            let case = Case::new(head_dim, group, &shapes, None, 7);
            let (output, mass) = case.reference();
            for level in Level::available() {
                let (actual_output, actual_mass) = case.attend(level);
                let what = format!("{level:?} {kind:?} {head_dim}x{group}");
                assert_close(&actual_output, &output, BOUND, &what);
                assert_close(&actual_mass, &mass, BOUND, &what);
            }
        }
    }
}

#[test]
fn what_a_hidden_slot_holds_has_no_effect() {
    let shapes = [(Kind::F32, Kind::F32, 20), (Kind::Int8, Kind::Int8, 20)];
    let mut case = Case::new(20, 3, &shapes, Some(0.0), 3);
    let hidden = [0, 7, 19, 20, 38];
    if let Some(bias) = &mut case.bias {
        hidden.iter().for_each(|j| bias[*j] = f32::NEG_INFINITY);
    }
    let mut poisoned = case.clone();
    for part in &mut poisoned.parts {
        for rows in [&mut part.keys, &mut part.values] {
            match rows {
                Rows::F32(rows) => [0, 7, 19]
                    .into_iter()
                    .for_each(|j| rows[j * 20..(j + 1) * 20].fill(f32::NAN)),
                Rows::Int8(_, scales) => {
                    [0, 18].into_iter().for_each(|j| scales[j] = f32::INFINITY)
                }
                Rows::Bf16(_) => {}
            }
        }
    }
    for level in Level::available() {
        let (output, mass) = poisoned.attend(level);
        assert_eq!(
            (output, &mass),
            (case.attend(level).0, &case.attend(level).1)
        );
        assert!(hidden.iter().all(|j| mass[*j] == 0.0));
    }
}

#[test]
fn logits_far_apart_neither_overflow_nor_vanish() {
    let (head_dim, len) = (64, 50);
    let mut case = Case::new(head_dim, 2, &[(Kind::F32, Kind::F32, len)], None, 11);
    case.queries.iter_mut().for_each(|q| *q *= 100.0);
    let (output, mass) = case.reference();
    for level in Level::available() {
        let (actual_output, actual_mass) = case.attend(level);
        // Logits of some hundreds carry errors of some 1e-5, and so do the probabilities.
        assert_close(&actual_output, &output, 5e-4, &format!("{level:?} output"));
        assert_close(&actual_mass, &mass, 5e-4, &format!("{level:?} mass"));
    }
}

#[test]
fn scratch_of_a_longer_call_does_not_leak_into_a_shorter_one() {
    let long = Case::new(128, 5, &[(Kind::Int8, Kind::F32, 100)], None, 1);
    let short = Case::new(5, 2, &[(Kind::Int8, Kind::F32, 3)], None, 2);
    for level in Level::available() {
        let mut scratch = Scratch::default();
        long.attend_over(level, &long.segments(), &mut scratch);
        let reused = short.attend_over(level, &short.segments(), &mut scratch);
        assert_eq!(reused, short.attend(level));
    }
}

#[test]
fn a_level_that_the_cpu_lacks_falls_back_to_the_best() {
    let case = Case::new(64, 3, &[(Kind::F32, Kind::Bf16, 40)], None, 5);
    for level in [Level::Neon, Level::Avx2, Level::Avx512] {
        if !level.is_available() {
            assert_eq!(case.attend(level), case.attend(Level::best()));
        }
    }
}

#[test]
fn wrong_lengths_panic() {
    let case = Case::new(8, 2, &[(Kind::F32, Kind::F32, 4)], Some(0.0), 5);
    let bias = case.bias.as_deref().unwrap_or_default();
    let call = |queries: usize, head_dim: usize, len: usize, bias_len: usize, mass_len: usize| {
        std::panic::catch_unwind(|| {
            let mut segment = case.segments()[0];
            segment.len = len;
            attend(
                Level::best(),
                &case.queries[..queries],
                head_dim,
                &[segment],
                Some(&bias[..bias_len]),
                &mut Scratch::default(),
                &mut [0.0; 16],
                Some(&mut vec![0.0; mass_len]),
            );
        })
        .is_err()
    };
    assert!(!call(16, 8, 4, 4, 4));
    for (queries, head_dim, len, bias, mass) in [
        (16, 0, 4, 4, 4),
        (15, 8, 4, 4, 4),
        (8, 8, 4, 4, 4),
        (16, 4, 4, 4, 4),
        (16, 8, 3, 3, 3),
        (16, 8, 5, 4, 4),
        (16, 8, 4, 3, 4),
        (16, 8, 4, 4, 3),
    ] {
        let panics = call(queries, head_dim, len, bias, mass);
        assert!(panics, "{queries} {head_dim} {len} {bias} {mass}");
    }
}
