use std::sync::Barrier;
use std::sync::atomic::AtomicU32;

use proptest::prelude::*;

use super::*;
use crate::kernels::amount;

fn pool(threads: usize) -> Pool {
    Pool::new(threads).unwrap()
}

#[test]
fn a_pool_is_shared_between_threads() {
    fn shared<T: Send + Sync>(_: &T) {}
    shared(&pool(1));
    assert_eq!(
        [0, 1, 2, 5].map(|threads| pool(threads).threads()),
        [1, 1, 2, 5]
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(amount(40, 4) as u32))]

    #[test]
    fn every_part_runs_once_and_its_writes_are_seen(
        threads in 1usize..=5, runs in proptest::collection::vec(0usize..200, 1..50),
    ) {
        let pool = pool(threads);
        for parts in runs {
            // Relaxed: it is the return of `run` that makes the writes visible.
            let counts: Vec<AtomicU32> = (0..parts).map(|_| AtomicU32::new(0)).collect();
            pool.run(parts, |part| {
                counts[part].fetch_add(1 + part as u32, Ordering::Relaxed);
            });
            let counts: Vec<_> = counts.into_iter().map(AtomicU32::into_inner).collect();
            prop_assert!(counts.into_iter().eq(1..=parts as u32));
        }
    }
}

/// Many short runs one after another: late threads meet runs that are over, and new ones in their place.
#[test]
fn runs_do_not_mix() {
    let pool = pool(4);
    for run in 0..amount(20_000, 50) as u32 {
        let tag = run;
        let sum = AtomicU32::new(0);
        pool.run(3, |part| {
            assert_eq!(tag, run);
            sum.fetch_add(part as u32 + 1, Ordering::Relaxed);
        });
        assert_eq!(sum.into_inner(), 6);
    }
}

#[test]
fn other_threads_take_part() {
    let pool = pool(3);
    let barrier = Barrier::new(3);
    let ids = Mutex::new(std::collections::HashSet::new());
    for _ in 0..3 {
        // Nobody passes the barrier before all three have a part.
        pool.run(3, |_| {
            barrier.wait();
            ids.lock().unwrap().insert(thread::current().id());
        });
        assert!(ids.lock().unwrap().contains(&thread::current().id()));
        // From sleep as well as from the wait for the next run.
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(ids.into_inner().unwrap().len(), 3);
}

#[test]
fn one_thread_runs_in_order_on_the_caller() {
    let seen = Mutex::new(Vec::new());
    let caller = thread::current().id();
    pool(1).run(5, |part| {
        assert_eq!(thread::current().id(), caller);
        seen.lock().unwrap().push(part);
    });
    assert_eq!(seen.into_inner().unwrap(), [0, 1, 2, 3, 4]);
}

#[test]
fn a_panic_reaches_the_caller_after_the_other_parts() {
    // A backtrace takes an interpreter seconds.
    for &threads in &[2, 1, 4][..amount(3, 1)] {
        let pool = pool(threads);
        for bad in [vec![0], vec![7], (0..10).collect()] {
            let ran = AtomicUsize::new(0);
            let result = catch_unwind(AssertUnwindSafe(|| {
                pool.run(10, |part| {
                    ran.fetch_add(1, Ordering::Relaxed);
                    assert!(!bad.contains(&part), "bad part");
                });
            }));
            let payload = result.unwrap_err();
            assert_eq!(payload.downcast_ref(), Some(&"bad part"));
            assert_eq!(ran.into_inner(), 10);
        }
        // The pool still works.
        let ran = AtomicUsize::new(0);
        pool.run(10, |_| {
            ran.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(ran.into_inner(), 10);
    }
}

#[test]
fn two_callers_at_once_get_all_their_parts() {
    let pool = pool(3);
    thread::scope(|scope| {
        for caller in 0..4 {
            let pool = &pool;
            scope.spawn(move || {
                for parts in 0..500 {
                    let mine = AtomicUsize::new(0);
                    pool.run(parts % 7, |part| {
                        mine.fetch_add(part + caller, Ordering::Relaxed);
                    });
                    let parts = parts % 7;
                    let expected = parts * caller + parts * parts.saturating_sub(1) / 2;
                    assert_eq!(mine.into_inner(), expected);
                }
            });
        }
    });
}

/// Processor time that this thread has used, in ticks of 10 ms.
#[cfg(target_os = "linux")]
fn ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
    // The name in parentheses may hold spaces; the times are the 14th and 15th field.
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let fields = fields.split_whitespace().skip(11).take(2);
    fields.map(|field| field.parse::<u64>().unwrap()).sum()
}

#[test]
#[cfg(target_os = "linux")]
#[cfg_attr(miri, ignore = "it asks the system for the time that was used")]
fn idle_threads_use_no_processor_time() {
    let pool = pool(2);
    let barrier = Barrier::new(2);
    let caller = thread::current().id();
    let worker_ticks = || {
        let found = AtomicU64::new(0);
        pool.run(2, |_| {
            barrier.wait();
            if thread::current().id() != caller {
                found.store(ticks(), Ordering::Relaxed);
            }
        });
        found.into_inner()
    };
    let before = worker_ticks();
    thread::sleep(Duration::from_millis(400));
    // One that kept looking would have used up to 40.
    let used = worker_ticks() - before;
    assert!(used <= 3, "{used} ticks");
}

#[test]
fn dropping_a_pool_ends_its_threads() {
    let pool = pool(3);
    let shared = Arc::downgrade(&pool.shared);
    pool.run(3, |_| {});
    drop(pool);
    assert_eq!(shared.strong_count(), 0);
}

#[test]
fn each_part_is_worked_on_once_however_many_there_are() {
    let pool = pool(3);
    for parts in [0, 1, 2, 3, 100] {
        let mut values: Vec<usize> = (0..parts).collect();
        pool.each(values.iter_mut(), |value| **value += 1000);
        assert_eq!(values, (1000..1000 + parts).collect::<Vec<_>>());
    }
}
