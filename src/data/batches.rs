//! The batches of a run, one after another, from any place on.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ids::TokenId;

use super::plan::Layout;
use super::{Batch, Corpus, DataError, Packing, Plan};

/// How a corpus becomes batches.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchOptions {
    /// How samples become rows.
    pub packing: Packing,
    /// Most tokens of a row.
    pub context: u32,
    /// Rows of a batch.
    pub rows: usize,
    /// Whether each epoch has an order of its own.
    pub shuffle: bool,
    /// Whether a last batch that is not full is left out.
    pub drop_last: bool,
    /// What orders follow from.
    pub seed: u64,
    /// How many epochs there are; none for no end.
    pub epochs: Option<u64>,
    /// The token that pads.
    pub padding: TokenId,
}

impl BatchOptions {
    fn layout(&self) -> Layout {
        Layout {
            packing: self.packing,
            context: self.context,
            rows: self.rows,
            shuffle: self.shuffle,
            drop_last: self.drop_last,
            seed: self.seed,
        }
    }

    /// The plan of an epoch over a corpus.
    ///
    /// # Errors
    /// [`DataError::Option`] for a context, number of rows or multiple out of range.
    pub fn plan(&self, corpus: &Corpus, epoch: u64) -> Result<Plan, DataError> {
        let layout = self.layout();
        layout.check()?;
        let order = corpus.mixture().epoch(self.seed, epoch, self.shuffle);
        Ok(Plan::of_epoch(&corpus.lengths(), &order, &layout, epoch))
    }

    /// What a cursor belongs to: the corpus, and all that orders and cuts it.
    fn fingerprint(&self, corpus: &Corpus) -> String {
        let BatchOptions {
            packing,
            context,
            rows,
            shuffle,
            drop_last,
            seed,
            epochs: _,
            padding: _,
        } = self;
        let packing = match packing {
            Packing::BestFit => "best_fit".to_owned(),
            Packing::Padding(multiple) => format!("padding_{multiple}"),
            Packing::Chunks => "chunks".to_owned(),
        };
        let corpus = corpus.fingerprint();
        format!("{corpus}-{packing}-{context}x{rows}-{shuffle}-{drop_last}-{seed}")
    }
}

/// A place between two batches of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cursor {
    /// Epochs that are done.
    pub epoch: u64,
    /// Batches of the epoch that are done.
    pub batch: u64,
    /// The data and options it belongs to; empty at the start of a run.
    pub fingerprint: String,
}

/// A batch, and the place after it: what a checkpoint holds once the batch has been learnt.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The batch.
    pub batch: Batch,
    /// The place after it.
    pub cursor: Cursor,
}

/// Batches in order, read when they are asked for. After an error it ends.
#[derive(Debug)]
pub struct Batches {
    corpus: Arc<Corpus>,
    options: BatchOptions,
    plan: Plan,
    cursor: Cursor,
    failed: bool,
}

impl Batches {
    /// The batches from `cursor` on; [`Cursor::default`] for the start.
    ///
    /// # Errors
    /// Those of [`BatchOptions::plan`]; [`DataError::Cursor`] when the cursor belongs to other data or options;
    /// [`DataError::Empty`] when an epoch would have no batch.
    pub fn new(
        corpus: Arc<Corpus>,
        options: BatchOptions,
        cursor: Cursor,
    ) -> Result<Self, DataError> {
        let plan = options.plan(&corpus, cursor.epoch)?;
        let found = options.fingerprint(&corpus);
        let begun = cursor.epoch > 0 || cursor.batch > 0 || !cursor.fingerprint.is_empty();
        let beyond = cursor.batch > plan.batches.len() as u64;
        if begun && (cursor.fingerprint != found || beyond) {
            return Err(DataError::Cursor {
                saved: format!("{} batch {}", cursor.fingerprint, cursor.batch),
                found,
            });
        }
        if plan.batches.is_empty() {
            return Err(DataError::Empty {
                what: "an epoch".to_owned(),
                advice: "the data fill no batch: use a shorter context, fewer rows, or keep batches that are not full",
            });
        }
        Ok(Batches {
            corpus,
            options,
            plan,
            cursor: Cursor {
                fingerprint: found,
                ..cursor
            },
            failed: false,
        })
    }

    /// The plan of the epoch under way.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    fn read(&mut self) -> Result<Option<Loaded>, DataError> {
        if self.cursor.batch >= self.plan.batches.len() as u64 {
            self.cursor.epoch += 1;
            self.cursor.batch = 0;
            if self
                .options
                .epochs
                .is_none_or(|epochs| self.cursor.epoch < epochs)
            {
                self.plan = self.options.plan(&self.corpus, self.cursor.epoch)?;
            }
        }
        if self
            .options
            .epochs
            .is_some_and(|epochs| self.cursor.epoch >= epochs)
        {
            return Ok(None);
        }
        let at = usize::try_from(self.cursor.batch).unwrap_or(usize::MAX);
        let Some(rows) = self.plan.batches.get(at) else {
            return Ok(None);
        };
        let batch = Batch::read(&self.corpus, rows, self.options.padding)?;
        self.cursor.batch += 1;
        Ok(Some(Loaded {
            batch,
            cursor: self.cursor.clone(),
        }))
    }
}

impl Iterator for Batches {
    type Item = Result<Loaded, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let read = self.read();
        self.failed = read.is_err();
        read.transpose()
    }
}

#[cfg(test)]
pub(super) mod tests;
