//! Batches read ahead on a thread of its own.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{Builder, JoinHandle};

use super::{BatchOptions, Batches, Corpus, Cursor, DataError, Loaded};

/// Reads batches ahead, at most as many as it was told. Dropping it ends the thread.
#[derive(Debug)]
pub struct Loader {
    /// None once it is being dropped.
    receiver: Option<Receiver<Result<Loaded, DataError>>>,
    thread: Option<JoinHandle<()>>,
}

impl Loader {
    /// Starts to read from `cursor` on, up to `ahead` batches before they are asked for.
    ///
    /// # Errors
    /// Those of [`Batches::new`]; [`DataError::LoaderGone`] when the system gives no thread.
    pub fn start(
        corpus: Arc<Corpus>,
        options: BatchOptions,
        cursor: Cursor,
        ahead: usize,
    ) -> Result<Self, DataError> {
        let batches = Batches::new(corpus, options, cursor)?;
        let (sender, receiver) = sync_channel(ahead);
        let work = move || {
            for loaded in batches {
                // The other end is gone when the loader is dropped.
                if sender.send(loaded).is_err() {
                    return;
                }
            }
        };
        let thread = Builder::new().name("data-loader".to_owned()).spawn(work);
        Ok(Loader {
            receiver: Some(receiver),
            thread: Some(thread.map_err(|_| DataError::LoaderGone)?),
        })
    }
}

impl Iterator for Loader {
    type Item = Result<Loaded, DataError>;

    /// The next batch; waits until it has been read. None after the last epoch, or after an error.
    fn next(&mut self) -> Option<Self::Item> {
        if let Ok(loaded) = self.receiver.as_ref()?.recv() {
            return Some(loaded);
        }
        // The thread has ended: by itself, or by a panic that must not pass for the end of the data.
        let panicked = self.thread.take()?.join().is_err();
        panicked.then_some(Err(DataError::LoaderGone))
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.receiver = None;
        if let Some(thread) = self.thread.take() {
            // A panic has been told by the reader, or nobody waits for it.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Packing;
    use crate::data::batches::tests::{corpus, options};

    #[test]
    fn what_is_read_ahead_is_what_would_be_read() {
        let corpus = corpus(20);
        for packing in [Packing::BestFit, Packing::Padding(8), Packing::Chunks] {
            let straight =
                Batches::new(corpus.clone(), options(packing), Cursor::default()).unwrap();
            let straight: Vec<Loaded> = straight.map(Result::unwrap).collect();
            for ahead in [0, 1, 4] {
                let loader =
                    Loader::start(corpus.clone(), options(packing), Cursor::default(), ahead)
                        .unwrap();
                let loaded: Vec<Loaded> = loader.map(Result::unwrap).collect();
                assert_eq!(loaded, straight);
            }
            let mut loader = Loader::start(
                corpus.clone(),
                options(packing),
                straight[1].cursor.clone(),
                2,
            )
            .unwrap();
            assert_eq!(loader.next().unwrap().unwrap(), straight[2]);
        }
    }

    #[test]
    fn a_loader_that_is_dropped_ends_its_thread() {
        let corpus = corpus(20);
        let endless = BatchOptions {
            epochs: None,
            ..options(Packing::BestFit)
        };
        let mut loader = Loader::start(corpus.clone(), endless, Cursor::default(), 1).unwrap();
        assert!(loader.next().is_some());
        drop(loader);
        assert_eq!(Arc::strong_count(&corpus), 1);
    }

    #[test]
    fn after_the_end_there_is_nothing() {
        let mut loader =
            Loader::start(corpus(3), options(Packing::BestFit), Cursor::default(), 2).unwrap();
        while loader.next().is_some() {}
        assert!(loader.next().is_none());
    }
}
