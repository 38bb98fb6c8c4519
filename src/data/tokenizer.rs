//! Training a tokenizer on data, and how well tokenizers compress it.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use serde::Serialize;

use crate::text::{BpeSpec, Tokenizer, TrainedTokenizer, train_bpe};

use super::encode::text_ids;
use super::{DataError, Dataset, Record, Side};

/// Most texts that wait to be counted.
const AHEAD: usize = 64;

/// What a tokenizer is trained on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenizerOptions {
    /// Most characters of a document; none for all.
    pub doc_cap: Option<u64>,
    /// Most characters in all; none for all.
    pub max_chars: Option<u64>,
}

/// What a tokenizer was trained on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TokenizerReport {
    /// Documents, pairs and chats.
    pub documents: u64,
    /// Characters.
    pub chars: u64,
    /// Documents whose end was left out, as they are longer than the cap.
    pub capped: u64,
    /// Whether the most characters in all were reached and the rest left unread.
    pub stopped: bool,
}

/// How well a tokenizer compresses a text.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Compression {
    /// Its name.
    pub name: String,
    /// Ids that it has.
    pub vocab_size: usize,
    /// Tokens of the text.
    pub tokens: u64,
    /// UTF-8 bytes of the text.
    pub bytes: u64,
    /// The quotient of the two: more is better.
    pub bytes_per_token: f64,
}

/// Trains a byte-level BPE on one side of datasets.
///
/// # Errors
/// The first record that cannot be read; those of [`train_bpe`].
pub fn train_tokenizer(
    datasets: &[&Dataset],
    side: Side,
    options: &TokenizerOptions,
    spec: &BpeSpec,
) -> Result<(TrainedTokenizer, TokenizerReport), DataError> {
    let (sender, receiver) = sync_channel(AHEAD);
    thread::scope(|scope| {
        // Readers of files stay on one thread, while the library counts words on many.
        let reading = scope.spawn(move || read(datasets, side, options, &sender));
        let trained = train_bpe(receiver.into_iter(), spec);
        let report = reading.join().map_err(|_| DataError::LoaderGone)??;
        Ok((trained?, report))
    })
}

fn read(
    datasets: &[&Dataset],
    side: Side,
    options: &TokenizerOptions,
    sender: &SyncSender<String>,
) -> Result<TokenizerReport, DataError> {
    let mut report = TokenizerReport::default();
    let cap = options.doc_cap.unwrap_or(u64::MAX);
    let max = options.max_chars.unwrap_or(u64::MAX);
    // Characters of the document under way, and whether its end has been left out.
    let mut taken = 0;
    let mut capped = false;
    for dataset in datasets {
        for located in dataset.records(side)? {
            let record = located?.record;
            if !matches!(record, Record::Text { first: false, .. }) {
                report.documents += 1;
                (taken, capped) = (0, false);
            }
            for text in record.texts() {
                let chars = text.chars().count() as u64;
                let room = (cap - taken).min(max - report.chars).min(chars);
                if room < chars {
                    report.stopped |= max - report.chars == room;
                    report.capped += u64::from(cap - taken == room && !capped);
                    capped |= cap - taken == room;
                }
                taken += room;
                report.chars += room;
                for piece in pieces(text, room) {
                    // The trainer has given up, and says why.
                    if sender.send(piece).is_err() {
                        return Ok(report);
                    }
                }
            }
            if report.stopped {
                return Ok(report);
            }
        }
    }
    Ok(report)
}

/// The first `chars` characters of a text, in pieces that the trainer takes.
fn pieces(text: &str, chars: u64) -> Vec<String> {
    const PIECE: usize = 1 << 20;
    let mut pieces = vec![String::new()];
    for c in text
        .chars()
        .take(usize::try_from(chars).unwrap_or(usize::MAX))
    {
        if let Some(piece) = pieces.last_mut().filter(|piece| piece.len() < PIECE) {
            piece.push(c);
        } else {
            pieces.push(c.to_string());
        }
    }
    pieces
}

/// Compresses one side of a dataset by each of the named tokenizers, as plain text.
///
/// # Errors
/// The first record that cannot be read or encoded; [`DataError::Empty`] when there is no text.
pub fn compression(
    dataset: &Dataset,
    side: Side,
    tokenizers: &[(&str, &Tokenizer)],
) -> Result<Vec<Compression>, DataError> {
    let mut bytes = 0;
    let mut tokens = vec![0; tokenizers.len()];
    for located in dataset.records(side)? {
        let located = located?;
        for text in located.record.texts() {
            bytes += text.len() as u64;
            for (sum, (_, tokenizer)) in tokens.iter_mut().zip(tokenizers) {
                let ids = text_ids(tokenizer, text).map_err(|source| DataError::Encode {
                    place: located.place.clone(),
                    source,
                })?;
                *sum += ids.len() as u64;
            }
        }
    }
    if bytes == 0 {
        return Err(DataError::Empty {
            what: "the text to compress".to_owned(),
            advice: "give files with text, and a part for validation",
        });
    }
    let row = |(tokens, (name, tokenizer)): (u64, &(&str, &Tokenizer))| Compression {
        name: (*name).to_owned(),
        vocab_size: tokenizer.vocab_size(),
        tokens,
        bytes,
        bytes_per_token: bytes as f64 / tokens as f64,
    };
    Ok(tokens.into_iter().zip(tokenizers).map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::corpus::tests::dataset;
    use crate::data::encode::tests::tokenizer;
    use crate::data::{DatasetOptions, Split, SplitBy};

    fn text() -> String {
        (0..3000)
            .map(|n| format!("line {n} of a story about {} foxes\n", n * 7))
            .collect()
    }

    #[test]
    fn a_tokenizer_is_trained_and_compared() {
        let folder = tempfile::tempdir().unwrap();
        let options = DatasetOptions {
            split: Split::new(0.1, SplitBy::Tail, 0).unwrap(),
            ..DatasetOptions::default()
        };
        let data = dataset(folder.path(), "a.txt", &text(), options);
        let spec = BpeSpec::new(320);
        let (trained, report) =
            train_tokenizer(&[&data], Side::Train, &TokenizerOptions::default(), &spec).unwrap();
        assert_eq!(
            (report.documents, report.capped, report.stopped),
            (1, 0, false)
        );
        let share = report.chars as f64 / text().len() as f64;
        assert!((share - 0.9).abs() < 1e-3);
        let other = tokenizer();
        let table = compression(
            &data,
            Side::Validation,
            &[("own", trained.tokenizer()), ("other", &other)],
        )
        .unwrap();
        assert_eq!(table[0].bytes, table[1].bytes);
        assert!(
            table[0].bytes_per_token > table[1].bytes_per_token,
            "{table:?}"
        );
        assert_eq!((table[0].name.as_str(), table[0].vocab_size), ("own", 320));
    }

    #[test]
    fn caps_are_kept_and_told() {
        let folder = tempfile::tempdir().unwrap();
        let options = DatasetOptions {
            separator: Some("--".to_owned()),
            ..DatasetOptions::default()
        };
        let documents = "ä b c d e f g h i\n--\nshort\n--\n".repeat(40);
        let data = dataset(folder.path(), "a.txt", &documents, options);
        let read = |doc_cap, max_chars| {
            let (sender, receiver) = sync_channel(1000);
            let options = TokenizerOptions { doc_cap, max_chars };
            let report = read(&[&data], Side::Whole, &options, &sender).unwrap();
            drop(sender);
            let got: String = receiver.into_iter().collect();
            assert_eq!(got.chars().count() as u64, report.chars);
            report
        };
        let capped = read(Some(10), None);
        assert_eq!(
            (
                capped.documents,
                capped.capped,
                capped.chars,
                capped.stopped
            ),
            (80, 40, 40 * 16, false)
        );
        let stopped = read(None, Some(30));
        assert_eq!(
            (stopped.documents, stopped.chars, stopped.stopped),
            (3, 30, true)
        );
        let all = read(Some(10_000), Some(10_000));
        assert_eq!((all.capped, all.stopped), (0, false));
    }

    #[test]
    fn errors_of_both_threads_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let bad = dataset(
            folder.path(),
            "a.jsonl",
            "oops\n",
            DatasetOptions::default(),
        );
        let train = |data: &Dataset, spec| {
            train_tokenizer(&[data], Side::Whole, &TokenizerOptions::default(), &spec)
        };
        let error = train(&bad, BpeSpec::new(300)).unwrap_err();
        assert!(matches!(error, DataError::Record(_)), "{error}");
        let few = dataset(
            folder.path(),
            "b.txt",
            "few words",
            DatasetOptions::default(),
        );
        let error = train(&few, BpeSpec::new(3000)).unwrap_err();
        assert!(matches!(error, DataError::Text(_)), "{error}");
        let wrong = dataset(
            folder.path(),
            "c.txt",
            &"many words\n".repeat(10_000),
            DatasetOptions::default(),
        );
        assert!(train(&wrong, BpeSpec::new(3)).is_err());
        assert!(matches!(
            compression(
                &dataset(folder.path(), "d.txt", "", DatasetOptions::default()),
                Side::Whole,
                &[]
            ),
            Err(DataError::Empty { .. })
        ));
    }
}
