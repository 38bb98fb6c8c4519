//! The scheduler with a model that counts: what is asked for is answered, whatever runs beside it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use llamahome::ids::{RequestId, SeqId, TokenId};
use llamahome::kv::Policy;
use llamahome::sample::SamplingParams;
use llamahome::sched::{
    Busy, Config, Continue, Ended, Event, Failure, FakeModel, FinishReason, Forward, Limits, Phase,
    Plan, Request, Scheduler, Stepper,
};
use llamahome::units;
use proptest::prelude::*;

const VOCAB: usize = 64;

fn request(prompt: &[TokenId], max_tokens: usize) -> Request {
    Request {
        id: RequestId::random(),
        prompt: prompt.to_vec(),
        max_tokens,
        stop_ids: vec![60],
        sampling: SamplingParams::default(),
        policy: Policy::h2o(2, 2).unwrap(),
        tenant: None,
        session: None,
    }
}

fn limits(slots: usize) -> Limits {
    let shape = FakeModel::new(VOCAB).kv_shape();
    Limits {
        shape,
        total_bytes: slots * shape.slot_bytes(),
    }
}

fn scheduler(config: Config, slots: usize) -> Scheduler {
    let limits = limits(slots);
    let mut scheduler = Scheduler::new(config, limits);
    scheduler.grant(limits.total_bytes);
    scheduler
}

/// Steps until idle; what each sequence was told.
fn run(
    scheduler: &mut Scheduler,
    stepper: &mut Stepper,
    now: Instant,
) -> BTreeMap<SeqId, Vec<Event>> {
    let mut told: BTreeMap<SeqId, Vec<Event>> = BTreeMap::new();
    let mut steps = 0;
    while let Some(plan) = scheduler.plan(now) {
        scheduler.check();
        let drawn = stepper.step(&plan).unwrap();
        for (seq, event) in scheduler.commit(drawn, now) {
            told.entry(seq).or_default().push(event);
        }
        scheduler.check();
        steps += 1;
        assert!(steps < 10_000, "the scheduler does not come to an end");
    }
    assert!(scheduler.is_idle());
    told
}

fn tokens(events: &[Event]) -> Vec<TokenId> {
    let token = |event: &Event| match event {
        Event::Token { token, .. } => Some(*token),
        _ => None,
    };
    events.iter().filter_map(token).collect()
}

#[test]
fn an_answer_ends_by_length_or_by_the_stop_id_which_is_not_sent() {
    let mut scheduler = scheduler(Config::default(), 1000);
    let mut stepper = Stepper::new(Box::new(FakeModel::new(VOCAB)));
    let now = Instant::now();
    let long = scheduler.submit(request(&[7, 3], 4), now).unwrap();
    let stopped = scheduler.submit(request(&[56], 100), now).unwrap();
    let told = run(&mut scheduler, &mut stepper, now);
    assert_eq!(tokens(&told[&long]), [4, 5, 6, 7]);
    assert_eq!(tokens(&told[&stopped]), [57, 58, 59]);
    let Some(Event::Finished { reason, usage, kv }) = told[&stopped].last() else {
        panic!("no end");
    };
    assert_eq!(
        (*reason, usage.prompt_tokens, usage.completion_tokens),
        (FinishReason::Stop, 1, 4)
    );
    assert_eq!((kv.tokens_seen, kv.tokens_kept, kv.budget), (4, 4, Some(4)));
    let Some(Event::Finished { reason, .. }) = told[&long].last() else {
        panic!("no end");
    };
    assert_eq!(*reason, FinishReason::Length);
}

#[test]
fn a_long_prompt_is_read_in_parts_and_does_not_hold_up_running_answers() {
    let config = Config {
        prefill_tokens: 8,
        ..Config::default()
    };
    let mut scheduler = scheduler(config, 1000);
    let mut stepper = Stepper::new(Box::new(FakeModel::new(VOCAB)));
    let now = Instant::now();
    let running = scheduler.submit(request(&[1], 20), now).unwrap();
    let plan = scheduler.plan(now).unwrap();
    scheduler.commit(stepper.step(&plan).unwrap(), now);
    let long = scheduler.submit(request(&[2; 30], 3), now).unwrap();
    for part in [8, 8, 8, 6] {
        let plan = scheduler.plan(now).unwrap();
        let row = |seq| plan.rows.iter().find(|row| row.seq == seq).unwrap();
        assert_eq!(
            row(running).tokens.len(),
            1,
            "the running answer takes part in every step"
        );
        assert_eq!(row(long).tokens.len(), part);
        assert_eq!(
            row(long).phase == Phase::Prompt { left: 0 },
            part == 6,
            "the prompt's last part is known to be it"
        );
        scheduler.commit(stepper.step(&plan).unwrap(), now);
    }
    let told = run(&mut scheduler, &mut stepper, now);
    assert_eq!(
        tokens(&told[&long]).len(),
        2,
        "one more came with the prompt's last part"
    );
}

#[test]
fn what_does_not_fit_is_refused_or_waits() {
    let config = Config {
        max_queue: 2,
        max_queue_tokens: 10,
        ..Config::default()
    };
    let mut scheduler = scheduler(config, 8);
    let now = Instant::now();
    assert!(matches!(
        scheduler.submit(request(&[1; 9], 1), now),
        Err(Busy::TooLarge { .. })
    ));
    scheduler.submit(request(&[1; 6], 1), now).unwrap();
    assert!(matches!(
        scheduler.submit(request(&[1; 5], 1), now),
        Err(Busy::TokensFull {
            waiting: 6,
            limit: 10
        })
    ));
    scheduler.submit(request(&[1], 1), now).unwrap();
    assert!(matches!(
        scheduler.submit(request(&[1], 1), now),
        Err(Busy::QueueFull {
            waiting: 2,
            limit: 2
        })
    ));
    let plan = scheduler.plan(now).unwrap();
    assert_eq!(plan.rows.len(), 2, "6 and 2 slots fit into 8");
    scheduler.drain();
    assert!(matches!(
        scheduler.submit(request(&[1], 1), now),
        Err(Busy::Draining)
    ));
}

#[test]
fn admission_waits_for_a_lease_and_says_how_much_is_missing() {
    let limits = limits(100);
    let slot = limits.shape.slot_bytes();
    let mut scheduler = Scheduler::new(Config::default(), limits);
    let now = Instant::now();
    scheduler.submit(request(&[1; 10], 5), now).unwrap();
    assert_eq!(scheduler.plan(now), None);
    assert_eq!(scheduler.shortfall(), Some(10 * slot));
    scheduler.grant(12 * slot);
    assert_eq!(scheduler.shortfall(), None);
    assert_eq!(scheduler.plan(now).unwrap().rows.len(), 1);
    assert_eq!(
        scheduler.release(usize::MAX),
        2 * slot,
        "what a sequence reserved is not given back"
    );
    scheduler.check();
}

#[test]
fn a_cancelled_sequence_leaves_at_once_and_its_late_result_is_dropped() {
    let mut scheduler = scheduler(Config::default(), 1000);
    let mut stepper = Stepper::new(Box::new(FakeModel::new(VOCAB)));
    let now = Instant::now();
    let seq = scheduler.submit(request(&[1], 50), now).unwrap();
    let plan = scheduler.plan(now).unwrap();
    let drawn = stepper.step(&plan).unwrap();
    assert!(scheduler.cancel(seq, now).is_some());
    assert!(scheduler.commit(drawn, now).is_empty());
    let Plan { rows, ended } = scheduler.plan(now).unwrap();
    assert_eq!(
        (rows.len(), ended),
        (0, vec![Ended::from(seq)]),
        "the device is told to free it"
    );
    assert!(scheduler.is_idle() && scheduler.cancel(seq, now).is_none());
}

/// A turn of session `s`, whose cache has seen so many tokens.
fn turn(prompt: &[TokenId], seen: usize) -> Request {
    Request {
        session: Some(Continue {
            session: "s".parse().unwrap(),
            seen,
        }),
        ..request(prompt, 3)
    }
}

#[test]
fn a_session_is_parked_by_a_whole_turn_and_by_no_other() {
    let mut scheduler = scheduler(Config::default(), 1000);
    let mut stepper = Stepper::new(Box::new(FakeModel::new(VOCAB)));
    let now = Instant::now();
    let park = Some("s".parse().unwrap());
    let first = scheduler.submit(turn(&[1], 0), now).unwrap();
    let told = run(&mut scheduler, &mut stepper, now);
    assert_eq!(tokens(&told[&first]), [2, 3, 4]);
    // Its caller has read enough while a step was under way: parked, with what that step has fed.
    let second = scheduler.submit(turn(&[4, 10], 3), now).unwrap();
    let plan = scheduler.plan(now).unwrap();
    scheduler.commit(stepper.step(&plan).unwrap(), now);
    let late = stepper.step(&scheduler.plan(now).unwrap()).unwrap();
    let (seq, end) = scheduler.finish(second, now).unwrap();
    let Event::Finished { reason, usage, .. } = end else {
        panic!("no end: {end:?}");
    };
    assert_eq!((seq, reason), (second, FinishReason::Stop));
    assert_eq!(
        (
            usage.prompt_tokens,
            usage.cached_tokens,
            usage.completion_tokens
        ),
        (5, 3, 1)
    );
    assert!(scheduler.finish(second, now).is_none());
    assert!(scheduler.commit(late, now).is_empty());
    let plan = scheduler.plan(now).unwrap();
    assert_eq!(plan.ended, [Ended { seq: second, park }]);
    stepper.step(&plan).unwrap();
    // The next turn begins with the last token, which the cache has seen already.
    let third = scheduler.submit(turn(&[11, 20], 5), now).unwrap();
    let told = run(&mut scheduler, &mut stepper, now);
    assert_eq!(tokens(&told[&third]), [21, 22, 23]);
    let Some(Event::Finished { usage, kv, .. }) = told[&third].last() else {
        panic!("no end");
    };
    assert_eq!((usage.cached_tokens, kv.tokens_seen), (5 + 1, 5 + 2 + 2));
    // Neither a turn that was left, nor one whose end nobody was told.
    for ended in [true, false] {
        let seq = scheduler.submit(turn(&[23], 9), now).unwrap();
        let plan = scheduler.plan(now).unwrap();
        scheduler.commit(stepper.step(&plan).unwrap(), now);
        if ended {
            scheduler.finish(seq, now).unwrap();
            scheduler.abandon(seq);
        } else {
            scheduler.cancel(seq, now).unwrap();
        }
        assert_eq!(scheduler.plan(now).unwrap().ended, [Ended::from(seq)]);
    }
}

#[test]
fn a_lost_device_fails_those_that_wait_for_its_sessions_and_no_others() {
    let config = Config {
        max_batch: 1,
        ..Config::default()
    };
    let mut scheduler = scheduler(config, 1000);
    let now = Instant::now();
    let running = scheduler.submit(request(&[1], 5), now).unwrap();
    let continued = scheduler.submit(turn(&[1], 3), now).unwrap();
    let begun = scheduler.submit(turn(&[1], 0), now).unwrap();
    scheduler.plan(now).unwrap();
    let failure = Failure::WorkerLost("x".to_owned());
    let failed = scheduler.fail_running(&failure);
    let lost = Failure::SessionLost("s".parse().unwrap());
    assert!(
        matches!(&failed[..], [(a, Event::Failed(f)), (b, Event::Failed(g))]
            if (*a, *b) == (running, continued) && *f == failure && *g == lost),
        "{failed:?}"
    );
    let plan = scheduler.plan(now).unwrap();
    assert_eq!(plan.rows[0].seq, begun);
}

#[test]
fn time_in_the_queue_is_bounded() {
    let config = Config {
        queue_timeout: units::Duration::seconds(5),
        max_batch: 1,
        ..Config::default()
    };
    let mut scheduler = scheduler(config, 1000);
    let start = Instant::now();
    scheduler.submit(request(&[1], 5), start).unwrap();
    let late = scheduler.submit(request(&[1], 5), start).unwrap();
    scheduler.plan(start);
    assert!(scheduler.expire(start + Duration::from_secs(4)).is_empty());
    let failed = scheduler.expire(start + Duration::from_secs(6));
    let expected = Failure::QueueTimeout(Duration::from_secs(5));
    assert!(matches!(&failed[..], [(seq, Event::Failed(f))] if *seq == late && *f == expected));
    assert_eq!(
        scheduler.running(),
        1,
        "what runs is not timed out by the queue"
    );
}

proptest! {
    /// Whatever is submitted and cancelled when, everyone who stays is answered as if alone.
    #[test]
    fn everyone_is_answered_as_if_alone(
        asks in prop::collection::vec((1u32..50, 1usize..12, 1usize..10, any::<bool>()), 1..12),
        batch in 1usize..5,
        prefill in 1usize..9,
    ) {
        let config = Config { max_batch: batch, prefill_tokens: prefill, ..Config::default() };
        let mut scheduler = scheduler(config, 40);
        let mut stepper = Stepper::new(Box::new(FakeModel::new(VOCAB)));
        let now = Instant::now();
        let mut expected = BTreeMap::new();
        let mut told: BTreeMap<SeqId, Vec<Event>> = BTreeMap::new();
        for (first, length, max_tokens, stays) in asks {
            let prompt = vec![first; length];
            let seq = scheduler.submit(request(&prompt, max_tokens), now).unwrap();
            if stays {
                let answer: Vec<TokenId> = (first + 1..60).take(max_tokens).collect();
                expected.insert(seq, answer);
            }
            if let Some(plan) = scheduler.plan(now) {
                let drawn = stepper.step(&plan).unwrap();
                for (seq, event) in scheduler.commit(drawn, now) {
                    told.entry(seq).or_default().push(event);
                }
            }
            if !stays {
                scheduler.cancel(seq, now);
            }
            scheduler.check();
        }
        for (seq, events) in run(&mut scheduler, &mut stepper, now) {
            told.entry(seq).or_default().extend(events);
        }
        for (seq, answer) in expected {
            prop_assert_eq!(tokens(&told[&seq]), answer);
            let ended = matches!(told[&seq].last(), Some(Event::Finished { .. }));
            prop_assert!(ended);
        }
    }
}
