//! A corpus under way: samples as they are encoded, written one after another.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::data::{DataError, Encoder, Mixture, Overlong, Place, Record, Sample};

use super::{Corpus, CorpusReport, LEARNT};

/// Samples in a file that grows.
pub(super) struct Writing {
    file: BufWriter<File>,
    folder: PathBuf,
    pub(super) ends: Vec<u64>,
    /// Tokens written, the document under way included.
    tokens: u64,
    /// Whether the last sample is a document that goes on.
    open: bool,
    pub(super) report: CorpusReport,
    hash: Sha256,
}

impl Writing {
    pub(super) fn new(folder: &Path) -> Result<Self, DataError> {
        let file = tempfile::tempfile_in(folder).map_err(|source| DataError::Scratch {
            folder: folder.to_owned(),
            source,
        })?;
        Ok(Writing {
            file: BufWriter::new(file),
            folder: folder.to_owned(),
            ends: Vec::new(),
            tokens: 0,
            open: false,
            report: CorpusReport::default(),
            hash: Sha256::new(),
        })
    }

    pub(super) fn count(&self) -> Result<u32, DataError> {
        u32::try_from(self.ends.len()).map_err(|_| DataError::Option {
            option: "number of samples",
            found: self.ends.len().to_string(),
            allowed: "a corpus holds up to 4294967295",
        })
    }

    pub(super) fn add(
        &mut self,
        place: &Place,
        record: &Record,
        encoder: &Encoder,
    ) -> Result<(), DataError> {
        let (first, last) = match record {
            Record::Text { first, last, .. } => (*first, *last),
            _ => (true, true),
        };
        if first {
            self.end_sample()?;
            self.report.records += 1;
        }
        let encoded = encoder.encode(record).map_err(|source| DataError::Encode {
            place: place.clone(),
            source,
        })?;
        let start = self.ends.last().copied().unwrap_or(0);
        let before = usize::try_from(self.tokens - start).unwrap_or(usize::MAX);
        let sample = self.fit(place, encoded, before, encoder)?;
        if before == 0 && first && last && sample.learnt_tokens() == 0 {
            self.report.without_targets += 1;
            return Ok(());
        }
        self.write(&sample, before, encoder)?;
        self.open = true;
        match last {
            true => self.end_sample(),
            false => Ok(()),
        }
    }

    /// What of a sample fits in a row beside the `before` tokens of its document.
    fn fit(
        &mut self,
        place: &Place,
        mut sample: Sample,
        before: usize,
        encoder: &Encoder,
    ) -> Result<Sample, DataError> {
        let options = encoder.options();
        let Some(context) = options.context else {
            return Ok(sample);
        };
        let tokens = before + sample.ids.len();
        if tokens <= context {
            return Ok(sample);
        }
        if options.overlong == Overlong::Refuse {
            return Err(DataError::Overlong {
                place: place.clone(),
                tokens,
                context,
            });
        }
        // A document that was cut in an earlier passage is full already.
        self.report.truncated += u64::from(before < context || before == 0);
        let room = context.saturating_sub(before);
        self.report.cut_tokens += (sample.ids.len() - room) as u64;
        sample.ids.truncate(room);
        sample.learnt.truncate(room);
        Ok(sample)
    }

    fn write(
        &mut self,
        sample: &Sample,
        before: usize,
        encoder: &Encoder,
    ) -> Result<(), DataError> {
        let tokenizer = encoder.tokenizer();
        for (at, (id, learnt)) in sample.ids.iter().zip(&sample.learnt).enumerate() {
            let word = if *learnt { id | LEARNT } else { *id };
            let bytes = word.to_le_bytes();
            self.hash.update(bytes);
            let written = self.file.write_all(&bytes);
            written.map_err(|source| DataError::Scratch {
                folder: self.folder.clone(),
                source,
            })?;
            if *learnt && before + at > 0 {
                self.report.learnt += 1;
                if !tokenizer.is_special(*id) {
                    self.report.learnt_bytes += tokenizer.token_bytes(*id).len() as u64;
                }
            }
        }
        self.tokens += sample.ids.len() as u64;
        Ok(())
    }

    pub(super) fn end_sample(&mut self) -> Result<(), DataError> {
        if !std::mem::replace(&mut self.open, false) {
            return Ok(());
        }
        let start = self.ends.last().copied().unwrap_or(0);
        let length = self.tokens - start;
        if length > u64::from(u32::MAX) {
            return Err(DataError::Option {
                option: "tokens of a document",
                found: length.to_string(),
                allowed: "a document holds up to 4294967295: split the file, or name the line between its documents",
            });
        }
        self.ends.push(self.tokens);
        self.hash.update(self.tokens.to_le_bytes());
        self.report.samples += 1;
        self.report.tokens = self.tokens;
        self.report.longest = self.report.longest.max(length);
        Ok(())
    }

    pub(super) fn finish(mut self, mixture: Mixture) -> Result<Corpus, DataError> {
        let Writing { file, folder, .. } = self;
        let file = file.into_inner().map_err(|error| DataError::Scratch {
            folder: folder.clone(),
            source: error.into_error(),
        })?;
        for part in mixture.parts() {
            self.hash.update(part.weight.to_le_bytes());
            self.hash.update(part.samples.end.to_le_bytes());
        }
        let digest = self.hash.finalize();
        let fingerprint = digest
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Ok(Corpus {
            file,
            folder,
            ends: self.ends,
            mixture,
            report: self.report,
            fingerprint,
        })
    }
}
