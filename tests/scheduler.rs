//! The scheduler with a model that counts: what is asked for is answered, whatever runs beside it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use llamahome::ids::{RequestId, SeqId, TokenId};
use llamahome::kv::Policy;
use llamahome::sample::SamplingParams;
use llamahome::sched::{
    Admission, BatcherKind, Busy, Config, Continue, Ended, Event, Failure, FakeModel, FinishReason,
    Forward, Limits, OfPrompt, Phase, Plan, PolicyKind, Request, Scheduler, Standing, Stepper,
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
        standing: Standing::default(),
        of_prompt: OfPrompt::Nothing,
    }
}

fn limits(slots: usize) -> Limits {
    let shape = FakeModel::new(VOCAB).kv_shape();
    Limits {
        shape,
        total_bytes: slots * shape.slot_bytes(),
    }
}

/// With blocks of one token, so that slots are counted one by one.
fn scheduler(config: Config, slots: usize) -> Scheduler {
    let limits = limits(slots);
    let config = Config {
        block_tokens: 1,
        ..config
    };
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
        let drawn = stepper.step(&plan, None).unwrap();
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
fn answers_go_on_in_every_step_while_a_prompt_is_put_off() {
    let slices = 5;
    let config = Config {
        target_step: units::Duration(Duration::from_millis(1)),
        ..Config::default()
    };
    let mut scheduler = scheduler(config, 2000).with_slices(slices);
    let delay = Duration::from_millis(2);
    let model = FakeModel::new(VOCAB).with_slices(slices).with_delay(delay);
    let mut stepper = Stepper::new(Box::new(model));
    let start = Instant::now();
    let first = scheduler.submit(request(&[1], 60), start).unwrap();
    let second = scheduler.submit(request(&[2], 60), start).unwrap();
    let mut told: BTreeMap<SeqId, Vec<Event>> = BTreeMap::new();
    let mut step = |scheduler: &mut Scheduler, told: &mut BTreeMap<SeqId, Vec<Event>>| {
        let plan = scheduler.plan(Instant::now()).unwrap();
        scheduler.check();
        let drawn = stepper.step(&plan, scheduler.slice()).unwrap();
        for (seq, event) in scheduler.commit(drawn, Instant::now()) {
            told.entry(seq).or_default().push(event);
        }
        scheduler.check();
        plan
    };
    // Long enough to know what answers take.
    for _ in 0..8 {
        step(&mut scheduler, &mut told);
    }
    let long = scheduler.submit(request(&[3; 100], 4), start).unwrap();
    let cancelled = scheduler.submit(request(&[4; 100], 4), start).unwrap();
    let mut steps = 0;
    while !told.contains_key(&long) {
        let before = tokens(&told[&first]).len();
        let plan = step(&mut scheduler, &mut told);
        assert!(scheduler.slice().is_some());
        let prompts = plan.rows.iter().filter(|row| row.phase != Phase::Decode);
        assert!(prompts.count() <= 2 && (steps % slices == 0 || plan.rows.len() == 2));
        let reading: Vec<SeqId> = scheduler.reading().map(|(seq, _)| seq).collect();
        let last = steps % slices == slices - 1;
        assert_eq!(
            reading.is_empty(),
            last,
            "until the pass is done: {reading:?}"
        );
        assert_eq!(
            tokens(&told[&first]).len(),
            before + 1,
            "every step answers"
        );
        assert_eq!(tokens(&told[&second]).len(), before + 1);
        steps += 1;
    }
    assert_eq!(steps % slices, 0, "whole passes of the prompt");
    // In the middle of its pass, one leaves.
    step(&mut scheduler, &mut told);
    assert!(scheduler.cancel(cancelled, Instant::now()).is_some());
    while !scheduler.is_idle() {
        step(&mut scheduler, &mut told);
    }
    assert_eq!(tokens(&told[&long]), [4, 5, 6, 7]);
    assert_eq!(tokens(&told[&first]), (2..60).collect::<Vec<_>>());
    assert!(!told.contains_key(&cancelled));
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
    scheduler.commit(stepper.step(&plan, None).unwrap(), now);
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
        scheduler.commit(stepper.step(&plan, None).unwrap(), now);
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
            limit: 10,
            position: 2,
            wait: None
        })
    ));
    scheduler.submit(request(&[1], 1), now).unwrap();
    assert!(matches!(
        scheduler.submit(request(&[1], 1), now),
        Err(Busy::QueueFull {
            waiting: 2,
            limit: 2,
            position: 3,
            wait: None
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
    let config = Config {
        block_tokens: 2,
        ..Config::default()
    };
    let mut scheduler = Scheduler::new(config, limits);
    let now = Instant::now();
    scheduler.submit(request(&[1; 9], 5), now).unwrap();
    assert_eq!(scheduler.plan(now), None);
    assert_eq!(scheduler.shortfall(now), Some(10 * slot), "five blocks");
    scheduler.grant(12 * slot);
    assert_eq!(scheduler.shortfall(now), None);
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
    let drawn = stepper.step(&plan, None).unwrap();
    assert!(scheduler.cancel(seq, now).is_some());
    assert!(scheduler.commit(drawn, now).is_empty());
    let Plan { rows, ended, .. } = scheduler.plan(now).unwrap();
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
    scheduler.commit(stepper.step(&plan, None).unwrap(), now);
    let late = stepper.step(&scheduler.plan(now).unwrap(), None).unwrap();
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
    stepper.step(&plan, None).unwrap();
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
        scheduler.commit(stepper.step(&plan, None).unwrap(), now);
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

/// One step, `took` long. Says what was told.
fn step(
    scheduler: &mut Scheduler,
    stepper: &mut Stepper,
    now: &mut Instant,
    took: Duration,
) -> (Plan, Vec<(SeqId, Event)>) {
    let plan = scheduler.plan(*now).unwrap_or_default();
    scheduler.check();
    let drawn = stepper.step(&plan, None).unwrap();
    *now += took;
    let events = scheduler.commit(drawn, *now);
    scheduler.check();
    (plan, events)
}

fn counting() -> Stepper {
    Stepper::new(Box::new(FakeModel::new(VOCAB)))
}

/// Keeps everything, so that it needs a slot for each token.
fn greedy(prompt: &[TokenId], max_tokens: usize) -> Request {
    Request {
        policy: Policy::full(),
        ..request(prompt, max_tokens)
    }
}

#[test]
fn a_key_that_floods_the_queue_leaves_places_for_others() {
    let of = |key: &str| {
        let mut request = greedy(&[1], 10);
        request.standing.key = key.to_owned();
        request
    };
    let now = Instant::now();
    for (policy, most) in [(PolicyKind::Fair, 4), (PolicyKind::Fcfs, 8)] {
        let config = Config {
            policy,
            max_queue: 8,
            ..Config::default()
        };
        let mut scheduler = scheduler(config, 1_000);
        let loud = (0..8).take_while(|_| scheduler.submit(of("loud"), now).is_ok());
        assert_eq!(loud.count(), most, "{policy:?}");
        let quiet = (0..8).take_while(|_| scheduler.submit(of("quiet"), now).is_ok());
        assert_eq!(quiet.count(), (8 - most) / 2, "{policy:?}");
    }
    let mut scheduler = scheduler(
        Config {
            policy: PolicyKind::Fair,
            max_queue: 1,
            ..Config::default()
        },
        1_000,
    );
    scheduler.submit(of("loud"), now).unwrap();
    assert!(matches!(
        scheduler.submit(of("quiet"), now),
        Err(Busy::QueueFull { .. })
    ));
}

#[test]
fn v9_running_answers_are_in_every_step_and_prompts_take_what_they_leave() {
    for batcher in [
        BatcherKind::Fixed,
        BatcherKind::Dynamic,
        BatcherKind::SpaceSharing,
    ] {
        let (chunk, most) = (160, 24);
        let config = Config {
            batcher,
            step_tokens: chunk,
            max_chunk: most,
            min_chunk: 4,
            prefill_tokens: 16,
            max_queue: 300,
            ..Config::default()
        };
        let mut scheduler = scheduler(config, 100_000);
        let mut stepper = counting();
        let mut now = Instant::now();
        for prompt in 0..200 {
            let length = 1 + (prompt * 7) % 60;
            scheduler.submit(greedy(&vec![1; length], 30), now).unwrap();
        }
        let mut decoding: Vec<SeqId> = Vec::new();
        let (mut fullest, mut steps) = (0, 0);
        while !scheduler.is_idle() {
            let (plan, events) = step(
                &mut scheduler,
                &mut stepper,
                &mut now,
                Duration::from_millis(10),
            );
            let decodes = plan
                .rows
                .iter()
                .filter(|r| r.phase == Phase::Decode)
                .count();
            let prompts: usize = plan.rows.iter().map(|r| r.tokens.len()).sum::<usize>() - decodes;
            let budget = match batcher {
                BatcherKind::Fixed => chunk - decodes,
                _ => most,
            };
            assert!(prompts <= budget, "{batcher:?}: {prompts} beside {decodes}");
            assert!(plan.rows.len() <= 128);
            for seq in &decoding {
                assert!(
                    plan.rows.iter().any(|row| row.seq == *seq),
                    "{seq} was left out"
                );
            }
            for row in plan.rows.iter().filter(|row| row.phase != Phase::Decode) {
                let end = row.start + row.tokens.len();
                assert!(row.start / 16 == (end - 1) / 16, "a row crosses the grid");
            }
            for (seq, event) in events {
                match event {
                    Event::Token { .. } if !decoding.contains(&seq) => decoding.push(seq),
                    Event::Token { .. } => {}
                    _ => decoding.retain(|known| *known != seq),
                }
            }
            fullest = fullest.max(plan.rows.len());
            steps += 1;
            assert!(steps < 5_000, "{batcher:?} does not come to an end");
        }
        assert!(
            fullest > 15,
            "{batcher:?} never had more than {fullest} rows"
        );
    }
}

#[test]
fn v10_without_blocks_the_last_in_order_gives_way_and_comes_back_to_the_same_text() {
    let config = Config {
        admission: Admission::Optimistic,
        watermark: 0.0,
        ..Config::default()
    };
    let mut scheduler = scheduler(config, 40);
    let mut stepper = counting();
    let mut now = Instant::now();
    let asks = [(3, 25), (10, 25), (20, 25)];
    let ids: Vec<SeqId> = asks
        .iter()
        .map(|&(first, max)| scheduler.submit(greedy(&[first; 6], max), now).unwrap())
        .collect();
    let mut told: BTreeMap<SeqId, Vec<Event>> = BTreeMap::new();
    let mut paused = Vec::new();
    while !scheduler.is_idle() {
        let used = scheduler.memory().accounts().used();
        let (plan, events) = step(
            &mut scheduler,
            &mut stepper,
            &mut now,
            Duration::from_millis(1),
        );
        if !plan.paused.is_empty() {
            assert!(
                scheduler.memory().accounts().used() < used,
                "its blocks are free"
            );
            assert!(plan.rows.iter().all(|row| !plan.paused.contains(&row.seq)));
        }
        paused.extend(plan.paused);
        for (seq, event) in events {
            told.entry(seq).or_default().push(event);
        }
    }
    assert!(
        !paused.is_empty() && !paused.contains(&ids[0]),
        "{paused:?}"
    );
    assert_eq!(paused[0], ids[2], "the last came last");
    for (&seq, &(first, max)) in ids.iter().zip(&asks) {
        let answer: Vec<TokenId> = (first + 1..60).take(max).collect();
        assert_eq!(tokens(&told[&seq]), answer);
        let Some(Event::Finished { usage, .. }) = told[&seq].last() else {
            panic!("no end");
        };
        let times = paused.iter().filter(|p| **p == seq).count();
        assert_eq!(usage.preemptions, times);
        assert_eq!(usage.paused.is_zero(), times == 0);
    }
    assert_eq!(scheduler.memory().accounts().used(), 0);
}

/// Of class `priority`.
fn classed(priority: i32, request: Request) -> Request {
    Request {
        standing: Standing {
            priority,
            ..Standing::default()
        },
        of_prompt: OfPrompt::Nothing,
        ..request
    }
}

#[test]
fn v10_a_request_of_a_better_class_has_the_memory_of_a_worse_one() {
    let config = Config {
        policy: PolicyKind::Priority,
        ..Config::default()
    };
    let mut scheduler = scheduler(config, 60);
    let mut stepper = counting();
    let mut now = Instant::now();
    let short = Duration::from_millis(1);
    let low = scheduler.submit(classed(5, greedy(&[1], 40)), now).unwrap();
    for _ in 0..20 {
        step(&mut scheduler, &mut stepper, &mut now, short);
    }
    let alike = scheduler.submit(classed(5, greedy(&[2], 30)), now).unwrap();
    let high = scheduler.submit(classed(0, greedy(&[3], 30)), now).unwrap();
    let (plan, _) = step(&mut scheduler, &mut stepper, &mut now, short);
    assert_eq!(plan.paused, [low]);
    assert_eq!(plan.rows.len(), 1);
    assert_eq!(plan.rows[0].seq, high);
    assert_eq!((scheduler.paused(), scheduler.waiting()), (1, 1));
    // The two others are of one class: the one that came first goes on first.
    let told = {
        let mut told: Vec<(SeqId, Event)> = Vec::new();
        while !scheduler.is_idle() {
            told.extend(step(&mut scheduler, &mut stepper, &mut now, short).1);
        }
        told
    };
    let ends: Vec<SeqId> = told
        .iter()
        .filter(|(_, event)| matches!(event, Event::Finished { .. }))
        .map(|(seq, _)| *seq)
        .collect();
    assert_eq!(ends, [high, low, alike]);
}

#[test]
fn v11_a_prompt_that_can_never_fit_is_refused_and_others_are_answered() {
    let mut scheduler = scheduler(Config::default(), 50);
    let mut stepper = counting();
    let now = Instant::now();
    let fits = scheduler.submit(greedy(&[1; 20], 5), now).unwrap();
    let refused = scheduler.submit(greedy(&[1; 51], 5), now).unwrap_err();
    assert!(
        matches!(refused, Busy::TooLarge { needed, total } if needed > total),
        "{refused}"
    );
    assert!(refused.to_string().contains("shorten the prompt"));
    // What it would keep is what counts.
    let bounded = scheduler.submit(request(&[1; 40], 500), now).unwrap();
    let told = run(&mut scheduler, &mut stepper, now);
    assert_eq!(tokens(&told[&fits]).len(), 5);
    assert!(matches!(
        told[&bounded].last(),
        Some(Event::Finished { .. })
    ));
}

#[test]
fn who_leaves_is_gone_with_the_next_step_wherever_it_was() {
    let config = Config {
        admission: Admission::Optimistic,
        watermark: 0.0,
        prefill_tokens: 4,
        ..Config::default()
    };
    let mut scheduler = scheduler(config, 30);
    let mut stepper = counting();
    let mut now = Instant::now();
    let short = Duration::from_millis(1);
    let answering = scheduler.submit(greedy(&[1; 3], 27), now).unwrap();
    let pausing = scheduler.submit(greedy(&[2; 3], 27), now).unwrap();
    while scheduler.paused() == 0 {
        step(&mut scheduler, &mut stepper, &mut now, short);
    }
    let waiting = scheduler.submit(greedy(&[3; 20], 5), now).unwrap();
    for (seq, on_device) in [(pausing, true), (waiting, false), (answering, true)] {
        assert!(scheduler.cancel(seq, now).is_some());
        let (plan, _) = step(&mut scheduler, &mut stepper, &mut now, short);
        assert_eq!(plan.ended.contains(&Ended::from(seq)), on_device);
        assert!(plan.rows.iter().all(|row| row.seq != seq));
    }
    let reading = scheduler.submit(greedy(&[3; 20], 5), now).unwrap();
    step(&mut scheduler, &mut stepper, &mut now, short);
    scheduler.cancel(reading, now).unwrap();
    step(&mut scheduler, &mut stepper, &mut now, short);
    assert!(scheduler.is_idle());
    assert_eq!(scheduler.memory().accounts().used(), 0);
    assert_eq!(scheduler.release(usize::MAX), 30 * limits(1).total_bytes);
}

#[test]
fn v13_each_time_limit_has_its_own_failure() {
    let seconds = units::Duration::seconds;
    let config = Config {
        max_batch: 2,
        prefill_tokens: 4,
        queue_timeout: seconds(2),
        first_token_timeout: seconds(4),
        total_timeout: seconds(9),
        ..Config::default()
    };
    let mut scheduler = scheduler(config, 1000);
    let mut stepper = counting();
    let mut now = Instant::now();
    let one = Duration::from_secs(1);
    let answering = scheduler.submit(greedy(&[1], 50), now).unwrap();
    let reading = scheduler.submit(greedy(&[2; 60], 5), now).unwrap();
    let queued = scheduler.submit(greedy(&[3], 5), now).unwrap();
    let mut failed = Vec::new();
    for second in 1..=10 {
        step(&mut scheduler, &mut stepper, &mut now, one);
        for (seq, event) in scheduler.expire(now) {
            let Event::Failed(failure) = event else {
                panic!("{event:?}");
            };
            failed.push((second, seq, failure));
        }
        scheduler.check();
    }
    let limit = Duration::from_secs;
    assert_eq!(
        failed,
        [
            (3, queued, Failure::QueueTimeout(limit(2))),
            (5, reading, Failure::FirstTokenTimeout(limit(4))),
            (10, answering, Failure::TotalTimeout(limit(9))),
        ]
    );
    let off = Config {
        queue_timeout: seconds(0),
        max_batch: 1,
        ..Config::default()
    };
    let mut patient = self::scheduler(off, 1000);
    patient.submit(greedy(&[1], 5), now).unwrap();
    patient.submit(greedy(&[1], 5), now).unwrap();
    patient.plan(now);
    assert!(patient.expire(now + limit(1_000_000)).is_empty());
}

#[test]
fn a_full_queue_says_how_long_it_is_by_the_pace_of_late() {
    let config = Config {
        max_batch: 1,
        max_queue: 3,
        ..Config::default()
    };
    let mut scheduler = scheduler(config, 1000);
    let mut stepper = counting();
    let mut now = Instant::now();
    // Ten tokens a second, so a request of one and ten takes about one.
    for _ in 0..20 {
        scheduler.submit(greedy(&[1], 10), now).unwrap();
        while !scheduler.is_idle() {
            let tenth = Duration::from_millis(100);
            step(&mut scheduler, &mut stepper, &mut now, tenth);
        }
    }
    for _ in 0..3 {
        scheduler.submit(greedy(&[1], 10), now).unwrap();
    }
    let Err(Busy::QueueFull { position, wait, .. }) = scheduler.submit(greedy(&[1], 10), now)
    else {
        panic!("not full");
    };
    let wait = wait.unwrap().as_secs_f64();
    assert_eq!(position, 4);
    assert!((2.5..4.0).contains(&wait), "{wait}");
}

#[test]
fn two_keys_have_their_shares_over_any_half_minute() {
    let config = Config {
        policy: PolicyKind::Fair,
        key_weights: vec!["gold=3".parse().unwrap()],
        max_batch: 16,
        max_queue: 1_000,
        ..Config::default()
    };
    let mut scheduler = scheduler(config, 100_000);
    let mut stepper = counting();
    let mut now = Instant::now();
    let mut key_of: BTreeMap<SeqId, &str> = BTreeMap::new();
    let mut served: Vec<(usize, usize)> = Vec::new();
    // Ten steps a second, for two minutes after a start of one.
    for round in 0..1_800 {
        // `gold` always has a few waiting, `tin` ten times as many.
        for (key, depth) in [("gold", 6), ("tin", 60)] {
            let here = key_of.values().filter(|known| **known == key).count();
            for _ in here..depth + 16 {
                let fed = key_of.len() % 7 * 5;
                let ask = Request {
                    standing: Standing {
                        key: key.to_owned(),
                        ..Standing::default()
                    },
                    of_prompt: OfPrompt::Nothing,
                    ..greedy(&vec![1; 5 + fed], 10 + fed)
                };
                key_of.insert(scheduler.submit(ask, now).unwrap(), key);
            }
        }
        let tenth = Duration::from_millis(100);
        let (plan, events) = step(&mut scheduler, &mut stepper, &mut now, tenth);
        let (mut gold, mut tin) = (0, 0);
        for row in &plan.rows {
            match key_of[&row.seq] {
                "gold" => gold += row.tokens.len(),
                _ => tin += row.tokens.len(),
            }
        }
        if round >= 600 {
            served.push((gold, tin));
        }
        for (seq, event) in events {
            if matches!(event, Event::Finished { .. }) {
                key_of.remove(&seq);
            }
        }
    }
    for window in served.windows(300).step_by(50) {
        let gold: usize = window.iter().map(|(gold, _)| gold).sum();
        let tin: usize = window.iter().map(|(_, tin)| tin).sum();
        let share = gold as f64 / (gold + tin) as f64;
        assert!((share / 0.75 - 1.0).abs() < 0.1, "gold had {share}");
    }
}

#[test]
fn a_patient_class_runs_however_many_of_a_better_one_come() {
    let config = Config {
        policy: PolicyKind::Priority,
        ageing: units::Duration::seconds(5),
        max_batch: 2,
        max_queue: 1_000,
        ..Config::default()
    };
    let mut scheduler = scheduler(config, 1_000);
    let mut stepper = counting();
    let mut now = Instant::now();
    // Nobody finds an empty batch.
    for _ in 0..2 {
        scheduler.submit(classed(0, greedy(&[2], 5)), now).unwrap();
    }
    let patient = scheduler.submit(classed(3, greedy(&[1], 5)), now).unwrap();
    let mut told = None;
    for round in 0..1_000 {
        // More than can be served.
        scheduler.submit(classed(0, greedy(&[2], 5)), now).unwrap();
        let tenth = Duration::from_millis(100);
        let (_, events) = step(&mut scheduler, &mut stepper, &mut now, tenth);
        let end = |(seq, event): &(SeqId, Event)| {
            *seq == patient && matches!(event, Event::Finished { .. })
        };
        if events.iter().any(end) {
            told = Some(round);
            break;
        }
    }
    let round = told.expect("the patient one never ran");
    assert!(round > 100, "three classes are fifteen seconds of waiting");
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
                let drawn = stepper.step(&plan, None).unwrap();
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

    /// Whatever policy, batcher and admission: everyone is answered as if alone, and the accounts close.
    #[test]
    fn whoever_gives_way_to_whom_the_answers_are_the_same(
        asks in prop::collection::vec((1u32..50, 1usize..12, 1usize..20, 0i32..4), 1..14),
        policy in 0usize..5,
        batcher in 0usize..3,
        optimistic in any::<bool>(),
        slots in 32usize..70,
        grid in 1usize..9,
    ) {
        let policies = [
            PolicyKind::Fcfs,
            PolicyKind::Priority,
            PolicyKind::Fair,
            PolicyKind::Deadline,
            PolicyKind::Slack,
        ];
        let batchers = [BatcherKind::Fixed, BatcherKind::Dynamic, BatcherKind::SpaceSharing];
        let config = Config {
            policy: policies[policy],
            batcher: batchers[batcher],
            admission: if optimistic { Admission::Optimistic } else { Admission::WorstCase },
            prefill_tokens: grid,
            step_tokens: 12,
            min_chunk: 2,
            max_chunk: 10,
            ..Config::default()
        };
        let mut scheduler = scheduler(config, slots);
        let mut stepper = counting();
        let mut now = Instant::now();
        let mut expected = BTreeMap::new();
        let mut told: BTreeMap<SeqId, Vec<Event>> = BTreeMap::new();
        let mut steps = 0;
        let mut asks = asks.into_iter();
        loop {
            if let Some((first, length, max_tokens, class)) = asks.next() {
                let mut ask = classed(class, greedy(&vec![first; length], max_tokens));
                ask.standing.key = class.to_string();
                let seq = scheduler.submit(ask, now).unwrap();
                let answer: Vec<TokenId> = (first + 1..60).take(max_tokens).collect();
                expected.insert(seq, answer);
            } else if scheduler.is_idle() {
                break;
            }
            let took = Duration::from_millis(7);
            for (seq, event) in step(&mut scheduler, &mut stepper, &mut now, took).1 {
                told.entry(seq).or_default().push(event);
            }
            steps += 1;
            prop_assert!(steps < 5_000, "no end");
        }
        for (seq, answer) in expected {
            prop_assert_eq!(tokens(&told[&seq]), answer);
        }
        prop_assert_eq!(scheduler.memory().accounts().used(), 0);
    }
}
