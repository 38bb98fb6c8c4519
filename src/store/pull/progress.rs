//! How a pull tells how far it is.

/// Hears how far a pull is. Of each file: `start`, any number of `advance`, `finish` if it went well.
pub trait Progress {
    /// Something begins that will take a while; `total` is in bytes, if known.
    fn start(&mut self, what: &str, total: Option<u64>);
    /// Bytes done so far, never fewer than the last time.
    fn advance(&mut self, bytes_done: u64);
    /// It is done.
    fn finish(&mut self);
    /// Whether nobody waits for the pull any more: it stops, and a later one goes on from there.
    fn cancelled(&self) -> bool {
        false
    }
}

/// Tells no one.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn start(&mut self, _what: &str, _total: Option<u64>) {}
    fn advance(&mut self, _bytes_done: u64) {}
    fn finish(&mut self) {}
}

/// Keeps the promise of [`Progress::advance`] when a download starts over.
pub(super) struct Monotone<'a> {
    inner: &'a mut dyn Progress,
    most: u64,
}

impl<'a> Monotone<'a> {
    pub(super) fn new(inner: &'a mut dyn Progress) -> Self {
        Monotone { inner, most: 0 }
    }

    pub(super) fn start(&mut self, what: &str, total: Option<u64>) {
        self.most = 0;
        self.inner.start(what, total);
    }

    pub(super) fn advance(&mut self, bytes_done: u64) {
        if bytes_done > self.most {
            self.most = bytes_done;
            self.inner.advance(bytes_done);
        }
    }

    pub(super) fn finish(&mut self) {
        self.inner.finish();
    }

    pub(super) fn cancelled(&self) -> bool {
        self.inner.cancelled()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Heard(Vec<u64>);

    impl Progress for Heard {
        fn start(&mut self, _: &str, _: Option<u64>) {}
        fn advance(&mut self, bytes_done: u64) {
            self.0.push(bytes_done);
        }
        fn finish(&mut self) {}
    }

    #[test]
    fn progress_never_goes_back_within_a_file() {
        let mut heard = Heard::default();
        let mut progress = Monotone::new(&mut heard);
        progress.start("a", None);
        [3, 5, 2, 5, 9]
            .into_iter()
            .for_each(|done| progress.advance(done));
        progress.start("b", None);
        progress.advance(1);
        assert_eq!(heard.0, [3, 5, 9, 1]);
    }
}
