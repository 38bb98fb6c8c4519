//! Orders with a fixed clock, and that nobody waits for ever.

use std::collections::HashMap;

use super::*;
use crate::sched::settings::{KeyWeight, PolicyKind};
use crate::units;
use proptest::prelude::*;

struct Case {
    standing: Standing,
    /// Milliseconds after the start.
    arrived: u64,
    prompt: usize,
    left: usize,
    prefill: u64,
}

fn case(arrived: u64, prefill: u64) -> Case {
    Case {
        standing: Standing::default(),
        arrived,
        prompt: 100,
        left: 100,
        prefill,
    }
}

fn candidate(seq: usize, case: &Case, start: Instant) -> Candidate<'_> {
    Candidate {
        seq: SeqId(seq as u64),
        standing: &case.standing,
        arrived: start + Duration::from_millis(case.arrived),
        prompt: case.prompt,
        left: case.left,
        max_tokens: 10,
        prefill: Duration::from_millis(case.prefill),
    }
}

fn policy(kind: PolicyKind) -> Box<dyn Prioritizer> {
    prioritizer(&Config {
        policy: kind,
        ageing: units::Duration::seconds(10),
        ..Config::default()
    })
}

/// The order of `cases` at `now` milliseconds.
fn order(policy: &dyn Prioritizer, cases: &[Case], now: u64) -> Vec<usize> {
    let start = Instant::now();
    let mut ranks: Vec<(i64, usize)> = Vec::new();
    for (seq, case) in cases.iter().enumerate() {
        let at = start + Duration::from_millis(now);
        ranks.push((policy.rank(&candidate(seq, case, start), at), seq));
    }
    ranks.sort_unstable();
    ranks.into_iter().map(|(_, seq)| seq).collect()
}

#[test]
fn v8_first_come_is_by_arrival_and_ties_by_id() {
    let cases = [case(30, 9), case(10, 5), case(20, 1), case(10, 0)];
    let first = policy(PolicyKind::Fcfs);
    for now in [30, 99_999] {
        assert_eq!(order(&*first, &cases, now), [1, 3, 2, 0]);
    }
}

#[test]
fn v8_deadlines_come_of_prompts_or_of_the_caller() {
    // Due at 1,500, at 500 for being short, at 100 + 750, and when it was asked for.
    let mut asked = case(0, 9_000);
    asked.standing.deadline = Some(Duration::from_millis(700));
    let cases = [case(0, 1_000), case(0, 10), case(100, 500), asked];
    let early = policy(PolicyKind::Deadline);
    assert_eq!(order(&*early, &cases, 0), [1, 3, 2, 0]);
    assert_eq!(order(&*early, &cases, 5_000), [1, 3, 2, 0]);
    assert_eq!(order(&*early, &[case(0, 7), case(0, 7)], 3), [0, 1]);
}

#[test]
fn v8_slack_is_what_is_left_after_the_rest_of_the_prompt() {
    // Both are due after 1,500: the one that was half read has more time to spare.
    let mut half = case(0, 1_000);
    half.left = 50;
    let least = policy(PolicyKind::Slack);
    assert_eq!(order(&*least, &[half, case(0, 1_000)], 0), [1, 0]);
    // 1,000 of 1,500 are needed by one, 10 of 500 by the other; much later the short deadline is missed by more.
    let cases = [case(0, 10), case(0, 1_000)];
    assert_eq!(order(&*least, &cases, 0), [1, 0]);
    assert_eq!(order(&*least, &cases, 2_000), [0, 1]);
    assert_eq!(order(&*least, &[case(0, 7), case(0, 7)], 3), [0, 1]);
}

#[test]
fn v8_classes_go_first_until_another_has_waited_long_enough() {
    let of = |priority, arrived| {
        let mut case = case(arrived, 0);
        case.standing.priority = priority;
        case
    };
    let classes = policy(PolicyKind::Priority);
    let cases = [of(1, 0), of(0, 5_000), of(-1, 9_000), of(0, 4_000)];
    assert_eq!(order(&*classes, &cases, 9_000), [2, 3, 1, 0]);
    // One class is worth ten seconds.
    assert_eq!(order(&*classes, &[of(1, 0), of(0, 10_001)], 10_001), [0, 1]);
    assert_eq!(order(&*classes, &[of(1, 0), of(0, 10_000)], 10_001), [0, 1]);
    assert_eq!(order(&*classes, &[of(1, 0), of(0, 9_999)], 10_001), [1, 0]);
    let extremes = [of(i32::MAX, 0), of(i32::MIN, 1)];
    assert_eq!(order(&*classes, &extremes, 2), [1, 0]);
}

/// One at a time is let in and ends at once, while `rivals` of urgent looks arrive each round. Returns the round in
/// which the first one, the least urgent, had its turn.
fn rounds_until_served(kind: PolicyKind, rivals: usize) -> Option<usize> {
    let start = Instant::now();
    let mut policy = policy(kind);
    let mut waiting: Vec<(usize, Case)> = Vec::new();
    let mut next = 0;
    for round in 0..20_000u64 {
        let arriving = if round == 0 { 1 } else { rivals };
        for _ in 0..arriving {
            let first = next == 0;
            let mut case = case(round * 10, if first { 20_000 } else { 1 });
            case.standing.priority = if first { 5 } else { 0 };
            case.standing.key = if first { "patient" } else { "pushing" }.to_owned();
            policy.arrived(&candidate(next, &case, start));
            waiting.push((next, case));
            next += 1;
        }
        // A queue has an end: what comes beyond it is refused.
        waiting.truncate(200);
        let now = start + Duration::from_millis(round * 10);
        let rank =
            |(seq, case): &(usize, Case)| (policy.rank(&candidate(*seq, case, start), now), *seq);
        let place = (0..waiting.len()).min_by_key(|&place| rank(&waiting[place]))?;
        let (seq, case) = waiting.swap_remove(place);
        policy.started(&candidate(seq, &case, start));
        policy.served(SeqId(seq as u64), 110);
        policy.ended(SeqId(seq as u64));
        if seq == 0 {
            return Some(round as usize);
        }
        waiting.sort_unstable_by_key(|(seq, _)| *seq);
    }
    None
}

#[test]
fn nobody_waits_for_ever_under_any_policy() {
    for kind in [
        PolicyKind::Fcfs,
        PolicyKind::Priority,
        PolicyKind::Fair,
        PolicyKind::Deadline,
        PolicyKind::Slack,
    ] {
        // Two come for each that is served: the queue is always full.
        let round = rounds_until_served(kind, 2);
        assert!(round.is_some(), "{kind:?} never served the first");
    }
}

proptest! {
    /// Two keys with work for ever, of any weights, in 16 places: what each is served is its share.
    #[test]
    fn shares_are_the_weights_within_a_tenth(
        weights in (1u32..5, 1u32..5),
        lengths in prop::collection::vec((20usize..200, 10usize..120), 40),
    ) {
        let names = ["a", "b"];
        let weight = |place: usize| f64::from([weights.0, weights.1][place]);
        let keys: Vec<KeyWeight> = (0..2)
            .map(|place| KeyWeight { key: names[place].to_owned(), weight: weight(place) })
            .collect();
        let mut fair = FairShare::new(&keys);
        let start = Instant::now();
        let mut running: Vec<(usize, usize, usize)> = Vec::new();
        let mut waiting: Vec<Vec<(usize, Case, usize)>> = vec![Vec::new(), Vec::new()];
        let mut next = 0;
        let mut served: HashMap<usize, f64> = HashMap::new();
        for step in 0..6_000 {
            while running.len() < 16 {
                for (place, queue) in waiting.iter_mut().enumerate() {
                    // The one sends ten times the work of the other; both always have something.
                    while queue.len() < [30, 3][place] {
                        let (prompt, output) = lengths[next % lengths.len()];
                        let mut case = case(0, 0);
                        (case.prompt, case.left) = (prompt, prompt);
                        case.standing.key = names[place].to_owned();
                        fair.arrived(&candidate(next, &case, start));
                        queue.push((next, case, output));
                        next += 1;
                    }
                }
                let rank = |place: &usize| {
                    let (seq, case, _) = &waiting[*place][0];
                    (fair.rank(&candidate(*seq, case, start), start), *seq)
                };
                let place = (0..2).min_by_key(rank).unwrap();
                let (seq, case, output) = waiting[place].remove(0);
                fair.started(&candidate(seq, &case, start));
                fair.served(SeqId(seq as u64), case.prompt);
                if step >= 1_000 {
                    *served.entry(place).or_default() += case.prompt as f64;
                }
                running.push((seq, place, output));
            }
            for (seq, place, left) in &mut running {
                fair.served(SeqId(*seq as u64), 1);
                *left -= 1;
                if step >= 1_000 {
                    *served.entry(*place).or_default() += 1.0;
                }
            }
            for (seq, ..) in running.iter().filter(|(_, _, left)| *left == 0) {
                fair.ended(SeqId(*seq as u64));
            }
            running.retain(|(_, _, left)| *left > 0);
        }
        let share = served[&0] / (served[&0] + served[&1]);
        let wanted = weight(0) / (weight(0) + weight(1));
        prop_assert!((share / wanted - 1.0).abs() < 0.1, "{share} of {wanted}");
    }
}
