#![allow(clippy::unwrap_used, reason = "a test may panic")]
use super::prefix::{BLOCK, MOST};
use super::*;
use proptest::prelude::*;

const KINDS: [RouterKind; 4] = [
    RouterKind::RoundRobin,
    RouterKind::LeastLoad,
    RouterKind::Prefix,
    RouterKind::Session,
];

fn prompt(prompt: &[TokenId]) -> Call<'_> {
    Call {
        prompt,
        session: None,
        home: None,
    }
}

fn load(waiting_tokens: usize, running: usize) -> Load {
    Load {
        waiting_tokens,
        running,
        ..Load::idle()
    }
}

fn down() -> Load {
    Load {
        up: false,
        ..Load::idle()
    }
}

fn weighing(weight: u32) -> Load {
    Load {
        weight,
        ..Load::idle()
    }
}

#[test]
fn in_turn_by_weight_and_not_to_those_that_are_down() {
    let turns = |replicas: &[Load], count: usize| -> Vec<usize> {
        let mut router = RouterKind::RoundRobin.router();
        (0..count)
            .map(|_| route(router.as_mut(), &prompt(&[]), replicas).unwrap())
            .collect()
    };
    assert_eq!(turns(&[Load::idle(); 3], 6), [0, 1, 2, 0, 1, 2]);
    assert_eq!(
        turns(&[Load::idle(), down(), Load::idle()], 4),
        [0, 2, 0, 2]
    );
    assert_eq!(turns(&[weighing(3), weighing(1)], 4), [0, 0, 1, 0]);
}

#[test]
fn the_least_loaded_counts_waiting_tokens_and_running_sequences_by_weight() {
    let chosen = |replicas: &[Load]| {
        route(
            RouterKind::LeastLoad.router().as_mut(),
            &prompt(&[1]),
            replicas,
        )
    };
    assert_eq!(chosen(&[load(10, 0), load(0, 3), load(4, 0)]), Some(1));
    assert_eq!(chosen(&[load(2, 2), load(2, 2)]), Some(0));
    assert_eq!(chosen(&[down(), load(9, 9)]), Some(1));
    assert_eq!(chosen(&[down(), down()]), None);
    assert_eq!(chosen(&[]), None);
    let heavy = Load {
        weight: 4,
        ..load(12, 0)
    };
    assert_eq!(chosen(&[load(4, 0), heavy]), Some(1));
}

#[test]
fn a_prompt_goes_where_its_longest_beginning_went_unless_that_one_is_overloaded() {
    let mut router = RouterKind::Prefix.router();
    let shared: Vec<TokenId> = (0..64).collect();
    let other: Vec<TokenId> = (100..164).collect();
    let mut longer = shared.clone();
    longer.extend(500..532);
    let mut choose = |tokens: &[TokenId], replicas: &[Load]| {
        route(router.as_mut(), &prompt(tokens), replicas).unwrap()
    };
    assert_eq!(choose(&shared, &[load(5, 0), load(0, 0)]), 1);
    assert_eq!(choose(&other, &[load(0, 0), load(5, 0)]), 0);
    // A little more to do there than elsewhere is less than reading 64 tokens again; a lot is more.
    assert_eq!(choose(&shared, &[load(0, 0), load(60, 4)]), 1);
    assert_eq!(choose(&longer, &[load(0, 0), load(60, 4)]), 1);
    assert_eq!(choose(&other, &[load(64, 1), load(0, 0)]), 1);
    // Now both know it, and the longer match is with the second.
    assert_eq!(choose(&shared, &[load(0, 0), load(65, 0)]), 0);
    assert_eq!(choose(&longer, &[load(0, 0), load(0, 0)]), 1);
    // Too short to have a block, or unknown: the least loaded.
    assert_eq!(choose(&[0, 1, 2], &[load(0, 0), load(9, 0)]), 0);
    assert_eq!(choose(&[7; 64], &[load(3, 0), load(0, 1)]), 1);
    // The favourite is down.
    assert_eq!(choose(&longer, &[load(0, 0), down()]), 0);
}

#[test]
fn what_prefix_affinity_remembers_is_bounded_and_the_newest() {
    let mut router = prefix::PrefixAffinity::default();
    let replicas = [Load::idle(); 2];
    let length = 64 * BLOCK;
    let one = |n: u32| -> Vec<TokenId> { (0..length as u32).map(|i| n * 7919 + i).collect() };
    for n in 0..2_000 {
        router.choose(&prompt(&one(n)), &replicas);
        assert!(router.remembered() <= MOST, "{}", router.remembered());
    }
    // The newest prompt is still known: a busier replica is chosen for it.
    let place = router.choose(&prompt(&one(1_999)), &replicas).unwrap();
    let mut busy = replicas;
    busy[place].waiting_tokens = length / 2;
    assert_eq!(router.choose(&prompt(&one(1_999)), &busy), Some(place));
    // The first is forgotten.
    let mut first = replicas;
    first[0].waiting_tokens = 1;
    assert_eq!(router.choose(&prompt(&one(0)), &first), Some(1));
    // A prompt longer than all that is remembered is taken in.
    let endless: Vec<TokenId> = (0..(2 * MOST * BLOCK) as u32).collect();
    router.choose(&prompt(&endless), &replicas);
    assert!(router.remembered() <= MOST);
}

#[test]
fn a_session_stays_where_it_is_when_another_replica_goes() {
    let mut router = RouterKind::Session.router();
    let mut place = |name: &str, replicas: &[Load]| {
        let session: SessionId = name.parse().unwrap();
        let call = Call {
            session: Some(&session),
            ..prompt(&[])
        };
        route(router.as_mut(), &call, replicas).unwrap()
    };
    let all = [Load::idle(); 4];
    let mut counts = [0; 4];
    for n in 0..400 {
        let name = format!("s{n}");
        let home = place(&name, &all);
        counts[home] += 1;
        // Load does not move it.
        let mut busy = all;
        busy[home].waiting_tokens = 10_000;
        assert_eq!(place(&name, &busy), home);
        let mut without = all;
        let gone = (home + 1) % 4;
        without[gone].up = false;
        assert_eq!(place(&name, &without), home);
    }
    assert!(counts.iter().all(|&count| count > 60), "{counts:?}");
    let mut heavy = 0;
    for n in 0..400 {
        heavy += place(&format!("s{n}"), &[weighing(1), weighing(3)]);
    }
    assert!((260..340).contains(&heavy), "{heavy} of 400, 300 expected");
}

proptest! {
    /// Whatever the policy: nothing goes to a replica that is down, a session with a home that is up goes home, and
    /// something is chosen whenever one is up.
    #[test]
    fn every_policy_chooses_one_that_is_up(
        kind in 0usize..4,
        calls in prop::collection::vec(
            (
                prop::collection::vec((0usize..2_000, 0usize..9, 1u32..5, any::<bool>()), 0..6),
                prop::collection::vec(0u32..3, 0..100),
                prop::option::of("[a-c]{1,2}"),
                prop::option::of(0usize..8),
            ),
            1..40,
        ),
    ) {
        let mut router = KINDS[kind].router();
        for (replicas, tokens, session, home) in calls {
            let replicas: Vec<Load> = replicas
                .into_iter()
                .map(|(waiting_tokens, running, weight, up)| Load { waiting_tokens, running, weight, up })
                .collect();
            let session: Option<SessionId> = session.map(|name| name.parse().unwrap());
            let call = Call { prompt: &tokens, session: session.as_ref(), home };
            let chosen = route(router.as_mut(), &call, &replicas);
            prop_assert_eq!(chosen.is_some(), replicas.iter().any(|load| load.up));
            if let Some(place) = chosen {
                prop_assert!(replicas[place].up);
            }
            if let Some(home) = home.filter(|&home| replicas.get(home).is_some_and(|load| load.up)) {
                prop_assert_eq!(chosen, Some(home));
            }
        }
    }

    /// In turn means evenly: over whole rounds each gets its weight's share.
    #[test]
    fn turns_are_even(weights in prop::collection::vec(1u32..6, 1..6), rounds in 1usize..5) {
        let replicas: Vec<Load> = weights.iter().map(|&weight| weighing(weight)).collect();
        let mut router = RouterKind::RoundRobin.router();
        let mut counts = vec![0u32; weights.len()];
        let total: u32 = weights.iter().sum();
        for _ in 0..total as usize * rounds {
            counts[route(router.as_mut(), &prompt(&[]), &replicas).unwrap()] += 1;
        }
        let expected: Vec<u32> = weights.iter().map(|weight| weight * rounds as u32).collect();
        prop_assert_eq!(counts, expected);
    }
}
