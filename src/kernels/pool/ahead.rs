//! What is read next, fetched into the caches of threads that have nothing to do.
//!
//! Decoding is bound by memory, and memory rests whenever threads wait for each other or for what one of them computes
//! alone. A thread that waits fetches the first of what it is expected to read next instead of looking on.

use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use crate::kernels::line::LINE_BYTES;

/// The most that is fetched for a thread: a quarter of a second cache of 1 MiB, so that what a part works with stays.
const MOST: usize = 256 << 10;

/// Lines between two looks for work.
const LINES: usize = 4;

/// Where one thread is expected to read next. Others may look while it changes: what is fetched by mistake does no harm.
#[derive(Debug, Default)]
pub(super) struct Expected {
    start: AtomicPtr<u8>,
    len: AtomicUsize,
}

/// How far a thread is with that.
#[derive(Debug)]
pub(super) struct Fetched {
    start: *const u8,
    done: usize,
}

// SAFETY: the address is compared and fetched from, never read.
unsafe impl Send for Fetched {}

impl Default for Fetched {
    fn default() -> Self {
        Fetched {
            start: std::ptr::null(),
            done: 0,
        }
    }
}

impl Expected {
    pub(super) fn set(&self, bytes: &[u8]) {
        self.len.store(bytes.len().min(MOST), Ordering::Relaxed);
        self.start
            .store(bytes.as_ptr().cast_mut(), Ordering::Relaxed);
    }

    /// Fetches a few lines more; false when there are none.
    pub(super) fn fetch(&self, fetched: &mut Fetched) -> bool {
        let start = self.start.load(Ordering::Relaxed).cast_const();
        if fetched.start != start {
            *fetched = Fetched { start, done: 0 };
        }
        if fetched.done >= self.len.load(Ordering::Relaxed) {
            return false;
        }
        for _ in 0..LINES {
            fetch_line(start.wrapping_add(fetched.done));
            fetched.done += LINE_BYTES;
        }
        true
    }
}

/// Fetches a line into the second cache, where the processor has an instruction for it.
fn fetch_line(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, which reads nothing into the program, and no address makes it fault. Every x86-64 has it.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T1>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretch_is_fetched_once_up_to_its_end_and_the_next_from_its_start() {
        let (short, long) = (vec![0; 5 * LINE_BYTES], vec![0; MOST + 1]);
        let expected = Expected::default();
        let mut fetched = Fetched::default();
        assert!(!expected.fetch(&mut fetched), "nothing is expected");
        let mut times = |bytes: &[u8]| {
            expected.set(bytes);
            (0..).take_while(|_| expected.fetch(&mut fetched)).count()
        };
        assert_eq!(times(&short), 2);
        assert_eq!(times(&short), 0);
        assert_eq!(times(&long), MOST / LINE_BYTES / LINES);
        assert_eq!(times(&short), 2);
        assert_eq!(times(&[]), 0);
    }
}
