//! Threads that share the parts of a compute step.
#![allow(
    unsafe_code,
    reason = "threads that outlive a run borrow its closure, which the run outlasts"
)]

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

mod ahead;
#[cfg(test)]
mod tests;

use ahead::{Expected, Fetched};

/// How long a thread looks for the next run before it sleeps: longer than the gaps inside of a step of many sequences, whose
/// bookkeeping between two products takes some 200 microseconds. To wake it takes a tenth of a millisecond.
const SPIN: Duration = Duration::from_micros(400);

/// Looks between two offers of the core to others: a few microseconds, as a look takes some 50 ns.
const LOOKS: u32 = 64;

/// The state of a pool in one word: the number of the run in the upper half, then whether threads may join it, whether
/// the pool ends, and how many threads have joined and not left.
const RUN: u64 = 1 << 32;
const OPEN: u64 = 1 << 31;
const END: u64 = 1 << 30;
const JOINED: u64 = END - 1;

/// Threads that run the parts of one call at a time.
///
/// Parts are claimed one by one, so a thread that is late or has lost its core to another process costs at most the one
/// part that it holds. After a run the threads look for the next for less than half a millisecond, then they sleep.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<Worker>,
    /// Held by the caller whose run it is.
    caller: Mutex<Fetched>,
}

struct Worker {
    sleeper: Arc<Sleeper>,
    handle: JoinHandle<()>,
}

/// Of its own cache line, since all threads look at it.
#[repr(align(128))]
#[derive(Default)]
struct Line<T>(T);

#[derive(Default)]
struct Shared {
    state: Line<AtomicU64>,
    next: Line<AtomicUsize>,
    /// Valid for those who have joined the run.
    job: AtomicPtr<Job<'static>>,
    /// What each thread reads next, the caller's first.
    expected: Vec<Line<Expected>>,
}

#[derive(Default)]
struct Sleeper(AtomicBool);

struct Job<'a> {
    work: &'a (dyn Fn(usize) + Sync),
    parts: usize,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

impl Pool {
    /// A pool that computes on `threads` threads, of which the caller of [`Pool::run`] is one; 0 counts as 1.
    ///
    /// # Errors
    ///
    /// When the system starts no further thread.
    pub fn new(threads: usize) -> io::Result<Pool> {
        let mut pool = Pool {
            shared: Arc::new(Shared {
                expected: (0..threads.max(1)).map(|_| Line::default()).collect(),
                ..Shared::default()
            }),
            workers: Vec::new(),
            caller: Mutex::default(),
        };
        for index in 1..threads {
            let shared = Arc::clone(&pool.shared);
            let sleeper = Arc::new(Sleeper::default());
            let handle = thread::Builder::new()
                .name(format!("compute-{index}"))
                .spawn({
                    let sleeper = Arc::clone(&sleeper);
                    move || shared.serve(index, &sleeper)
                })?;
            pool.workers.push(Worker { sleeper, handle });
        }
        Ok(pool)
    }

    /// Threads that compute, with the caller's.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `work` once for every part of `0..parts`, on any of the threads and in any order, and returns when all
    /// calls have returned. Runs of several callers follow each other; `work` must not call `run` of the same pool,
    /// which would wait for itself.
    ///
    /// # Panics
    ///
    /// When a call of `work` panics: with what the first such call panicked with, after the other parts have run.
    pub fn run(&self, parts: usize, work: impl Fn(usize) + Sync) {
        let job = Job {
            work: &work,
            parts,
            panic: Mutex::default(),
        };
        if parts <= 1 || self.workers.is_empty() {
            (0..parts).for_each(|part| job.run(part));
        } else {
            let mut turn = self.caller.lock().unwrap_or_else(PoisonError::into_inner);
            self.share(&job, &mut turn);
        }
        let panic = job.panic.into_inner();
        if let Some(payload) = panic.unwrap_or_else(PoisonError::into_inner) {
            resume_unwind(payload);
        }
    }

    /// Calls `work` once for every part, likewise; one that is alone needs no list and no lock.
    ///
    /// # Panics
    ///
    /// As [`Pool::run`].
    pub(super) fn each<T: Send>(
        &self,
        parts: impl IntoIterator<Item = T>,
        work: impl Fn(&mut T) + Sync,
    ) {
        let mut parts = parts.into_iter();
        match (parts.next(), parts.next()) {
            (None, _) => {}
            (Some(mut part), None) => work(&mut part),
            (Some(first), Some(second)) => {
                let parts = [first, second].into_iter().chain(parts);
                let parts: Vec<_> = parts.map(Mutex::new).collect();
                self.run(parts.len(), |part| {
                    work(&mut parts[part].lock().unwrap_or_else(PoisonError::into_inner));
                });
            }
        }
    }

    /// Says what each thread, by its number, is going to read after the next run or runs: it fetches some of that while it
    /// waits.
    pub(super) fn expect<'a>(&self, bytes: impl Fn(usize) -> &'a [u8]) {
        for (thread, expected) in self.shared.expected.iter().enumerate() {
            expected.0.set(bytes(thread));
        }
    }

    /// Runs `job` with the workers; nobody else may be in here.
    fn share(&self, job: &Job<'_>, fetched: &mut Fetched) {
        let shared = &*self.shared;
        let erased = std::ptr::from_ref(job).cast::<Job<'static>>();
        shared.job.store(erased.cast_mut(), Ordering::Relaxed);
        shared.next.0.store(0, Ordering::Relaxed);
        let run = shared.state.0.load(Ordering::Relaxed) & !(RUN - 1);
        // Sequentially consistent, as are the looks of those who go to sleep: either they see the run or it sees them.
        let state = run.wrapping_add(RUN) | OPEN;
        shared.state.0.store(state, Ordering::SeqCst);
        for worker in self.workers.iter().take(job.parts - 1) {
            worker.sleeper.wake(worker.handle.thread());
        }

        shared.claim(job);
        shared.state.0.fetch_and(!OPEN, Ordering::Relaxed);
        let mut looks = 0;
        // Acquires what the parts of those who left have written.
        while shared.state.0.load(Ordering::Acquire) & JOINED != 0 {
            if !shared.fetch(0, fetched) {
                pause(&mut looks);
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.state.0.fetch_or(END, Ordering::SeqCst);
        for worker in self.workers.drain(..) {
            worker.sleeper.wake(worker.handle.thread());
            // A worker catches every panic, so it has nothing to tell.
            let _ = worker.handle.join();
        }
    }
}

impl Shared {
    /// Takes part in runs until the pool ends.
    fn serve(&self, thread: usize, sleeper: &Sleeper) {
        let mut last = 0;
        let mut fetched = Fetched::default();
        while let Some(run) = self.join(last, sleeper, || self.fetch(thread, &mut fetched)) {
            last = run;
            // SAFETY: the pointer was stored before the run was opened, and this thread joined while it was open, which
            // acquires that store. `share`, whose caller owns the job, waits for this thread to leave below, whether or
            // not a part panics, and the reference is not used after that.
            let job = unsafe { &*self.job.load(Ordering::Relaxed) };
            self.claim(job);
            self.state.0.fetch_sub(1, Ordering::Release);
        }
    }

    /// Fetches some of what a thread reads next; false when there is nothing more.
    fn fetch(&self, thread: usize, fetched: &mut Fetched) -> bool {
        (self.expected.get(thread)).is_some_and(|expected| expected.0.fetch(fetched))
    }

    /// Waits for a run after `last`, with something to do meanwhile as long as that is true, and joins it; `None` when
    /// the pool ends.
    fn join(
        &self,
        last: u64,
        sleeper: &Sleeper,
        mut meanwhile: impl FnMut() -> bool,
    ) -> Option<u64> {
        let mut start = Instant::now();
        let mut looks = 0;
        loop {
            let state = self.state.0.load(Ordering::Relaxed);
            if state & END != 0 {
                return None;
            }
            if is_news(state, last) {
                let joined = self.state.0.compare_exchange_weak(
                    state,
                    state + 1,
                    Ordering::Acquire,
                    Ordering::Relaxed,
                );
                if joined.is_ok() {
                    return Some(state & !(RUN - 1));
                }
            } else if !meanwhile() && pause(&mut looks) && start.elapsed() >= SPIN {
                sleeper.sleep(|| {
                    let state = self.state.0.load(Ordering::SeqCst);
                    state & END != 0 || is_news(state, last)
                });
                start = Instant::now();
            }
        }
    }

    /// Runs parts until all have been claimed.
    fn claim(&self, job: &Job<'_>) {
        loop {
            let part = self.next.0.fetch_add(1, Ordering::Relaxed);
            if part >= job.parts {
                return;
            }
            job.run(part);
        }
    }
}

/// Whether a run other than `last` can be joined.
fn is_news(state: u64, last: u64) -> bool {
    state & OPEN != 0 && state & !(RUN - 1) != last
}

/// Waits a moment; true when it offered the core to other threads.
fn pause(looks: &mut u32) -> bool {
    *looks += 1;
    if *looks < LOOKS {
        std::hint::spin_loop();
        return false;
    }
    *looks = 0;
    thread::yield_now();
    true
}

impl Sleeper {
    /// Sleeps until woken, unless there is `news`, which must be read with sequential consistency.
    fn sleep(&self, news: impl Fn() -> bool) {
        self.0.store(true, Ordering::SeqCst);
        if news() {
            self.0.store(false, Ordering::Relaxed);
            return;
        }
        while self.0.load(Ordering::Relaxed) {
            thread::park();
        }
    }

    /// Wakes `thread`, if it sleeps.
    fn wake(&self, thread: &Thread) {
        if self.0.load(Ordering::SeqCst) && self.0.swap(false, Ordering::Relaxed) {
            thread.unpark();
        }
    }
}

impl Job<'_> {
    fn run(&self, part: usize) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| (self.work)(part))) {
            let mut first = self.panic.lock().unwrap_or_else(PoisonError::into_inner);
            if first.is_none() {
                *first = Some(payload);
            } else {
                // Dropping it could panic again, and so could dropping that.
                let dropped = catch_unwind(AssertUnwindSafe(|| drop(payload)));
                dropped.unwrap_or_else(std::mem::forget);
            }
        }
    }
}
