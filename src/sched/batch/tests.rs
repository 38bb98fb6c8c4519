//! How steps are cut.

use std::time::Duration;

use super::*;
use crate::units;
use proptest::prelude::*;

fn exact(to_line: usize) -> Claim {
    Claim {
        to_line,
        whole: false,
        context: 0,
    }
}

fn bounded(to_line: usize) -> Claim {
    Claim {
        whole: true,
        ..exact(to_line)
    }
}

fn config() -> Config {
    Config {
        step_tokens: 600,
        min_chunk: 32,
        max_chunk: 1_000,
        target_step: units::Duration(Duration::from_millis(50)),
        ..Config::default()
    }
}

fn decodes(rows: usize) -> StepCost {
    let mut step = StepCost::default();
    (0..rows).for_each(|_| step.add_decode(1, 200));
    step
}

#[test]
fn v9_a_fixed_chunk_is_shared_with_running_answers_and_filled_in_order() {
    let fixed = FixedChunk::new(&config());
    let predictor = Predictor::default();
    assert_eq!(fixed.budget(&decodes(88), None, &predictor), 512);
    assert_eq!(fixed.budget(&decodes(700), None, &predictor), 0);
    for (budget, claims, shares) in [
        (512, vec![exact(512), exact(9)], vec![512, 0]),
        (512, vec![exact(400), exact(200), exact(9)], vec![400, 0, 9]),
        // Alike pieces, not all that fits and a crumb.
        (500, vec![exact(512)], vec![256]),
        (500, vec![bounded(512), exact(3)], vec![512, 0]),
        (500, vec![exact(100), bounded(512)], vec![100, 0]),
        (0, vec![bounded(512), exact(3)], vec![0, 0]),
    ] {
        assert_eq!(fixed.share(budget, &claims), shares, "{claims:?}");
    }
}

#[test]
fn a_dynamic_chunk_holds_the_target_whatever_runs_beside_it() {
    let dynamic = DynamicChunk::new(&config());
    let truth = |step: &StepCost| {
        let millis = 5.0 + 2.0 * step.decodes as f64 + 0.25 * step.prefill as f64;
        Duration::from_secs_f64(millis / 1e3)
    };
    let mut predictor = Predictor::default();
    let first = Some(exact(512));
    assert_eq!(dynamic.budget(&decodes(4), first.as_ref(), &predictor), 128);
    for round in 0..80 {
        let mut step = decodes(1 + round % 6);
        if round % 2 == 0 {
            step.add_prompt(20 + round * 5, round * 20);
        }
        predictor.observe(&step, truth(&step));
    }
    // (50 - 5 - 2 n) / 0.25
    for (rows, wanted) in [(1, 172), (4, 148), (10, 100)] {
        let budget = dynamic.budget(&decodes(rows), first.as_ref(), &predictor);
        assert!(budget.abs_diff(wanted) < 12, "{rows}: {budget}");
    }
    assert_eq!(
        dynamic.budget(&decodes(60), first.as_ref(), &predictor),
        32,
        "prompts are read on even if the target is out of reach"
    );
    assert_eq!(
        dynamic.budget(&decodes(0), first.as_ref(), &predictor),
        1_000
    );
    assert_eq!(dynamic.share(100, &[exact(180), exact(9)]), [90, 9]);
    assert_eq!(dynamic.share(100, &[exact(80), exact(300)]), [80, 0]);
}

#[test]
fn pieces_that_can_be_put_off_are_longer_by_the_number_of_slices() {
    let truth = |step: &StepCost| {
        let millis = 5.0 + step.decodes as f64 + 0.25 * step.prefill as f64;
        Duration::from_secs_f64(millis / 1e3)
    };
    let mut predictor = Predictor::with_slices(10);
    for round in 0..80 {
        let mut step = decodes(1 + round % 6);
        if round % 2 == 0 {
            step.add_prompt(20 + round * 5, round * 20);
        }
        predictor.observe(&step, truth(&step));
    }
    let first = Some(exact(1_000));
    // Answers take 9 ms: 1.7 times that is allowed, and what is beyond is had ten times, of which 35 % are filled.
    for kind in [BatcherKind::Dynamic, BatcherKind::SpaceSharing] {
        let batcher = batcher(&Config {
            batcher: kind,
            ..config()
        });
        let slice = batcher.slice(&decodes(4), &predictor).unwrap();
        assert!(slice.abs_diff(Duration::from_micros(6_300)) < Duration::from_micros(700));
        let budget = batcher.budget(&decodes(4), first.as_ref(), &predictor);
        assert!(budget.abs_diff(88) < 15, "{kind:?}: {budget}");
        assert_eq!(batcher.slice(&decodes(0), &predictor), None, "nobody waits");
        // Of a burst more is read: six prompts beside four answers take three times what one may, up to the target.
        let among = |prompts| {
            let crowd = StepCost {
                prompts,
                ..decodes(4)
            };
            batcher.slice(&crowd, &predictor).unwrap()
        };
        assert_eq!([among(1), among(2)], [slice; 2]);
        assert!(among(6).abs_diff(slice * 3) < Duration::from_millis(1));
        let alone = predictor.step(&decodes(4)).unwrap();
        assert_eq!(among(500) + alone, config().target_step.get());
    }
    let fixed = FixedChunk::new(&config());
    assert_eq!(fixed.slice(&decodes(4), &predictor), None);
}

#[test]
fn short_prompts_are_not_stuck_behind_a_long_one() {
    let space = SpaceSharing::new(&config());
    assert_eq!(space.share(120, &[exact(512), exact(10)]), [103, 10]);
    assert_eq!(
        space.share(96, &[exact(512), exact(512), exact(30)]),
        [32, 32, 30]
    );
    assert_eq!(
        space.share(64, &[exact(512), exact(64), exact(5)]),
        [32, 32, 0],
        "no crumbs: the third has its turn when one of the first two is done"
    );
    assert_eq!(space.share(120, &[bounded(512), exact(10)]), [512, 10]);
    assert_eq!(space.share(120, &[exact(10), bounded(512)]), [10, 0]);
}

proptest! {
    #[test]
    fn nobody_gets_more_than_is_asked_or_than_there_is(
        budget in 1usize..2_000,
        claims in prop::collection::vec((1usize..600, any::<bool>()), 1..12),
        kind in 0usize..3,
    ) {
        let kind = [BatcherKind::Fixed, BatcherKind::Dynamic, BatcherKind::SpaceSharing][kind];
        let batcher = batcher(&Config { batcher: kind, ..config() });
        let claims: Vec<Claim> = claims
            .into_iter()
            .map(|(to_line, whole)| if whole { bounded(to_line) } else { exact(to_line) })
            .collect();
        let shares = batcher.share(budget, &claims);
        prop_assert_eq!(shares.len(), claims.len());
        prop_assert!(shares[0] > 0, "the first always moves");
        for (share, claim) in shares.iter().zip(&claims) {
            prop_assert!(*share <= claim.to_line);
            prop_assert!(!claim.whole || *share == 0 || *share == claim.to_line);
        }
        let sum: usize = shares.iter().sum();
        let excused = if claims[0].whole { claims[0].to_line } else { 0 };
        prop_assert!(sum <= budget + excused);
    }
}
