//! Records out of files, streamed.

use std::collections::VecDeque;
use std::path::PathBuf;

use super::shape::Parsed;
use super::source::{Body, DataFile, Items, bad, files};
use super::split::{Side, Split, SplitBy};
use super::text_file::Range;
use super::{DataError, Format, Place, Record, Shape};

/// How files are read.
#[derive(Debug, Clone, PartialEq)]
pub struct DatasetOptions {
    /// The format of all files; else each file's ending names it.
    pub format: Option<Format>,
    /// The shape of all records; else each record's fields tell.
    pub shape: Option<Shape>,
    /// A line that stands between the documents of a text file.
    pub separator: Option<String>,
    /// What is kept for validation.
    pub split: Split,
}

impl Default for DatasetOptions {
    fn default() -> Self {
        DatasetOptions {
            format: None,
            shape: None,
            separator: None,
            split: Split::none(),
        }
    }
}

/// Files of records, read from their beginning each time they are asked for.
#[derive(Debug, Clone)]
pub struct Dataset {
    files: Vec<DataFile>,
    options: DatasetOptions,
}

/// A record and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Located {
    /// Where.
    pub place: Place,
    /// What.
    pub record: Record,
    /// The fields it was found by; none for a text file.
    pub shape: Option<Shape>,
    /// Names of its other fields, which mean nothing here. Told once for records that share an object.
    pub unused: Vec<String>,
}

impl Dataset {
    /// Finds the files of paths: files, and folders that are searched with all folders in them, in order of their names.
    ///
    /// # Errors
    /// [`DataError::Read`], [`DataError::Format`] for a file of unknown ending, [`DataError::EmptyFolder`].
    pub fn open(paths: &[PathBuf], options: DatasetOptions) -> Result<Self, DataError> {
        let files = files(paths, options.format)?;
        Ok(Dataset { files, options })
    }

    /// The files, in the order in which they are read.
    pub fn paths(&self) -> impl Iterator<Item = &std::path::Path> {
        self.files.iter().map(|file| &*file.path)
    }

    /// The bytes of all files.
    pub fn bytes(&self) -> u64 {
        let sizes = self
            .files
            .iter()
            .map(|f| std::fs::metadata(&f.path).map_or(0, |m| m.len()));
        sizes.sum()
    }

    /// The records of one side of the split. After an error about a record the next one follows; another error ends the
    /// file that it is about.
    ///
    /// # Errors
    /// When the records must be counted for a split by tail: those of reading.
    pub fn records(&self, side: Side) -> Result<Records<'_>, DataError> {
        let by_tail = self.options.split.by() == SplitBy::Tail;
        let counted = by_tail && side != Side::Whole;
        let train = match counted {
            true => self.options.split.train_count(self.count()?),
            false => 0,
        };
        Ok(Records {
            dataset: self,
            side,
            train,
            seen: 0,
            files: 0,
            items: None,
            kept: false,
            ready: VecDeque::new(),
        })
    }

    /// Records that are not text, one each for lines and rows, whether they can be used or not.
    fn count(&self) -> Result<u64, DataError> {
        let mut count = 0;
        for file in self.files.iter().filter(|f| f.format != Format::Text) {
            for item in file.items(Range::Whole, None)? {
                match item {
                    Ok(_) | Err(DataError::Record(_)) => count += 1,
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(count)
    }

    fn range(&self, side: Side) -> Range {
        let split = &self.options.split;
        match (side, split.by()) {
            (Side::Whole, _) | (_, SplitBy::Hash) => Range::Whole,
            (Side::Train, SplitBy::Tail) => Range::Before(split.train_share()),
            (Side::Validation, SplitBy::Tail) => Range::From(split.train_share()),
        }
    }
}

/// See [`Dataset::records`].
pub struct Records<'a> {
    dataset: &'a Dataset,
    side: Side,
    /// How many of the counted items are trained on; only for a split by tail.
    train: u64,
    seen: u64,
    /// Files that have been begun.
    files: usize,
    items: Option<Items>,
    /// Whether the text document under way belongs to the side.
    kept: bool,
    ready: VecDeque<Located>,
}

impl Records<'_> {
    /// Whether an item belongs to the side that is read.
    fn wanted(&mut self, body: Option<&Body>) -> bool {
        let split = &self.dataset.options.split;
        let validation = match (self.side, split.by(), body) {
            (Side::Whole, _, _) => return true,
            // A text file is opened on the side's own part of it.
            (_, SplitBy::Tail, Some(Body::Passage { .. })) => return true,
            (_, SplitBy::Tail, _) => {
                self.seen += 1;
                self.seen > self.train
            }
            (_, SplitBy::Hash, Some(Body::Passage { text, first, .. })) => {
                if *first {
                    self.kept = split.keeps(text.as_bytes());
                }
                self.kept
            }
            (_, SplitBy::Hash, Some(Body::Fields(value))) => {
                split.keeps(value.to_string().as_bytes())
            }
            // A record that cannot be read has no hash; training is where it will be seen.
            (_, SplitBy::Hash, None) => false,
        };
        validation == (self.side == Side::Validation)
    }

    fn locate(&mut self, place: Place, body: Body) -> Result<(), DataError> {
        let value = match body {
            Body::Passage { text, first, last } => {
                self.ready.push_back(Located {
                    place,
                    record: Record::Text { text, first, last },
                    shape: None,
                    unused: Vec::new(),
                });
                return Ok(());
            }
            Body::Fields(value) => value,
        };
        let Parsed {
            shape,
            records,
            mut unused,
        } = Shape::parse(self.dataset.options.shape, &value)
            .map_err(|error| bad(place.clone(), error.field, error.reason))?;
        for record in records {
            self.ready.push_back(Located {
                place: place.clone(),
                record,
                shape: Some(shape),
                unused: std::mem::take(&mut unused),
            });
        }
        Ok(())
    }

    /// The next item of the files, begun one after another.
    fn item(&mut self) -> Option<Result<super::source::Item, DataError>> {
        loop {
            if let Some(item) = self.items.as_mut().and_then(Iterator::next) {
                return Some(item);
            }
            let dataset = self.dataset;
            let file = dataset.files.get(self.files)?;
            self.files += 1;
            let range = dataset.range(self.side);
            match file.items(range, dataset.options.separator.as_deref()) {
                Ok(items) => self.items = Some(items),
                Err(error) => {
                    self.items = None;
                    return Some(Err(error));
                }
            }
        }
    }
}

impl Iterator for Records<'_> {
    type Item = Result<Located, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(located) = self.ready.pop_front() {
                return Some(Ok(located));
            }
            match self.item()? {
                Ok(item) if self.wanted(Some(&item.body)) => {
                    if let Err(error) = self.locate(item.place, item.body) {
                        return Some(Err(error));
                    }
                }
                Ok(_) => {}
                Err(error @ DataError::Record(_)) => {
                    if self.wanted(None) {
                        return Some(Err(error));
                    }
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

#[cfg(test)]
mod tests;
