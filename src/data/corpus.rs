//! Encoded samples, kept in a scratch file so that any part of any of them can be read in any order.

mod writing;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{DataError, Dataset, Encoder, Mixture, Part, Piece, Sample, Side};
use writing::Writing;

/// Bytes of a token in the scratch file.
const WORD: u64 = 4;
/// Set where the token is learnt. Vocabularies are far smaller than 2^31.
const LEARNT: u32 = 1 << 31;

/// What was encoded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CorpusReport {
    /// Records read; passages of one document count as one.
    pub records: u64,
    /// Samples kept.
    pub samples: u64,
    /// Their tokens.
    pub tokens: u64,
    /// Those of them that are learnt.
    pub learnt: u64,
    /// UTF-8 bytes of the learnt tokens; special tokens have none.
    pub learnt_bytes: u64,
    /// Tokens of the longest sample.
    pub longest: u64,
    /// Samples whose end was cut off, where that was asked for.
    pub truncated: u64,
    /// Tokens that were cut off.
    pub cut_tokens: u64,
    /// Samples left out because nothing of them is learnt, as after a cut within the prompt.
    pub without_targets: u64,
}

/// Samples of one side of one or more sources.
#[derive(Debug)]
pub struct Corpus {
    file: File,
    folder: PathBuf,
    /// Where each sample ends in the file, in tokens.
    ends: Vec<u64>,
    mixture: Mixture,
    report: CorpusReport,
    fingerprint: String,
}

impl Corpus {
    /// Reads and encodes all records of one side of the sources, each a name, its files and its weight in the mixture.
    /// `scratch` is the folder of the file, which is removed by the system when the corpus is dropped or the process
    /// ends. `progress` is told the counts after each record.
    ///
    /// # Errors
    /// The first record that cannot be read, encoded or fitted in a row, with its place; [`DataError::Scratch`];
    /// [`DataError::Empty`] when no sample is left.
    pub fn encode(
        sources: &[(String, &Dataset, f64)],
        side: Side,
        encoder: &Encoder,
        scratch: &Path,
        progress: &mut dyn FnMut(&CorpusReport),
    ) -> Result<Self, DataError> {
        let mut writing = Writing::new(scratch)?;
        let mut parts = Vec::new();
        for (name, dataset, weight) in sources {
            let start = writing.count()?;
            for located in dataset.records(side)? {
                let located = located?;
                writing.add(&located.place, &located.record, encoder)?;
                progress(&writing.report);
            }
            writing.end_sample()?;
            parts.push(Part {
                name: name.clone(),
                samples: start..writing.count()?,
                weight: *weight,
            });
        }
        if writing.ends.is_empty() {
            return Err(DataError::Empty {
                what: match side {
                    Side::Whole => "the data".to_owned(),
                    Side::Train => "the training part of the data".to_owned(),
                    Side::Validation => "the validation part of the data".to_owned(),
                },
                advice: "check the files, and the fraction kept for validation",
            });
        }
        writing.finish(Mixture::new(parts)?)
    }

    /// How many samples there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none; [`Corpus::encode`] makes no such corpus.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// What was encoded.
    pub fn report(&self) -> &CorpusReport {
        &self.report
    }

    /// The sources and how often each is drawn.
    pub fn mixture(&self) -> &Mixture {
        &self.mixture
    }

    /// A short hash of all samples and weights: the same for the same data, tokenizer and options.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The tokens of each sample.
    pub fn lengths(&self) -> Vec<u32> {
        let starts = std::iter::once(&0).chain(&self.ends);
        let lengths = starts.zip(&self.ends).map(|(start, end)| end - start);
        lengths
            .map(|length| u32::try_from(length).unwrap_or(u32::MAX))
            .collect()
    }

    /// A whole sample, for previews.
    ///
    /// # Errors
    /// [`DataError::Scratch`] when the file cannot be read, or there is no such sample.
    pub fn sample(&self, sample: u32) -> Result<Sample, DataError> {
        let len = self.bounds(sample).map_or(0, |(start, end)| end - start);
        self.piece(Piece {
            sample,
            from: 0,
            len: u32::try_from(len).unwrap_or(u32::MAX),
        })
    }

    /// The tokens of a piece, and the one after it when the sample goes on.
    pub(super) fn piece(&self, piece: Piece) -> Result<Sample, DataError> {
        let gone = || io::Error::new(io::ErrorKind::NotFound, format!("no piece {piece:?}"));
        let (start, end) = self
            .bounds(piece.sample)
            .ok_or_else(|| self.scratch(gone()))?;
        let first = start + u64::from(piece.from);
        if first + u64::from(piece.len) > end {
            return Err(self.scratch(gone()));
        }
        let last = (first + u64::from(piece.len) + 1).min(end);
        let mut bytes = vec![0; ((last - first) * WORD) as usize];
        let read = self.file.read_exact_at(&mut bytes, first * WORD);
        read.map_err(|error| self.scratch(error))?;
        let (words, _) = bytes.as_chunks::<4>();
        let words = words.iter().map(|word| u32::from_le_bytes(*word));
        let (ids, learnt) = words
            .map(|word| (word & !LEARNT, word & LEARNT != 0))
            .unzip();
        Ok(Sample { ids, learnt })
    }

    fn bounds(&self, sample: u32) -> Option<(u64, u64)> {
        let at = sample as usize;
        let end = *self.ends.get(at)?;
        let start = match at.checked_sub(1) {
            Some(before) => *self.ends.get(before)?,
            None => 0,
        };
        Some((start, end))
    }

    fn scratch(&self, source: io::Error) -> DataError {
        DataError::Scratch {
            folder: self.folder.clone(),
            source,
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
