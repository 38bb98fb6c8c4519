use super::*;
use crate::data::corpus::tests::{dataset, encode};
use crate::data::encode::tests::encoder;
use crate::data::{DatasetOptions, EncodeOptions, Side};
use proptest::prelude::*;
use std::fmt::Write as _;

/// A corpus of pairs of many lengths.
pub(crate) fn corpus(count: usize) -> Arc<Corpus> {
    let folder = tempfile::tempdir().unwrap();
    let lines = (0..count).fold(String::new(), |mut out, n| {
        let words = "word ".repeat(1 + n * 7 % 11);
        writeln!(
            out,
            "{{\"prompt\": \"say {n}\", \"completion\": \"{words}\"}}"
        )
        .unwrap();
        out
    });
    let data = dataset(folder.path(), "a.jsonl", &lines, DatasetOptions::default());
    Arc::new(encode(&data, Side::Whole, &encoder(EncodeOptions::default())).unwrap())
}

pub(crate) fn options(packing: Packing) -> BatchOptions {
    BatchOptions {
        packing,
        context: 128,
        rows: 2,
        shuffle: true,
        drop_last: false,
        seed: 9,
        epochs: Some(3),
        padding: 1,
    }
}

fn all(corpus: &Arc<Corpus>, options: &BatchOptions, cursor: Cursor) -> Vec<Loaded> {
    let batches = Batches::new(corpus.clone(), options.clone(), cursor).unwrap();
    batches.map(Result::unwrap).collect()
}

const PACKINGS: [Packing; 3] = [Packing::BestFit, Packing::Padding(8), Packing::Chunks];

#[test]
fn batches_fit_the_samples() {
    let corpus = corpus(20);
    for packing in PACKINGS {
        for Loaded { batch, .. } in all(&corpus, &options(packing), Cursor::default()) {
            let ends: Vec<usize> = batch.spans.iter().map(|(start, len)| start + len).collect();
            assert_eq!(ends.last(), Some(&batch.ids.len()));
            assert!(
                batch
                    .spans
                    .iter()
                    .skip(1)
                    .zip(&ends)
                    .all(|((start, _), end)| start == end)
            );
            assert_eq!(batch.positions.len(), batch.ids.len());
            for (start, len) in &batch.spans {
                assert!(
                    batch.positions[*start..start + len]
                        .iter()
                        .copied()
                        .eq(0..*len as u32)
                );
            }
            assert!(batch.rows <= 2 && batch.samples >= batch.rows);
            let objective = &batch.objective;
            assert_eq!(objective.rows.len(), objective.targets.len());
            assert_eq!(objective.rows.len(), objective.weights.len());
            assert!(objective.rows.is_sorted() && !objective.rows.is_empty());
            // Within a span, a target is the next token; only a chunk's last one lies beyond.
            for (row, target) in objective.rows.iter().zip(&objective.targets) {
                match ends.contains(&(row + 1)) {
                    true => assert_eq!(packing, Packing::Chunks),
                    false => assert_eq!(batch.ids[row + 1], *target),
                }
            }
            match packing {
                Packing::Padding(8) => assert!(batch.spans.iter().all(|(_, len)| len % 8 == 0)),
                Packing::Chunks => assert_eq!(batch.tokens, batch.rows * 128),
                _ => assert!(batch.tokens <= batch.rows * 128),
            }
        }
    }
}

/// Whatever the packing, an epoch learns every learnt token of every sample once; chunks lose those of the remainder.
#[test]
fn an_epoch_learns_everything_once() {
    let corpus = corpus(30);
    let learnt = corpus.report().learnt as usize;
    for packing in PACKINGS {
        let options = BatchOptions {
            epochs: Some(1),
            ..options(packing)
        };
        let plan = options.plan(&corpus, 0).unwrap();
        let seen: usize = all(&corpus, &options, Cursor::default())
            .iter()
            .map(|l| l.batch.objective.rows.len())
            .sum();
        assert!(
            seen <= learnt && seen + plan.dropped_tokens as usize >= learnt,
            "{packing:?}"
        );
        if packing != Packing::Chunks {
            assert_eq!(seen, learnt);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// A cursor, written and read back, goes on with the batches of the run that was not interrupted.
    #[test]
    fn a_cursor_resumes_exactly(which in 0usize..3, shuffle: bool, drop_last: bool, seed in 0u64..50, stop in 0usize..40) {
        let corpus = corpus(12);
        let options = BatchOptions { shuffle, drop_last, seed, ..options(PACKINGS[which]) };
        let straight = all(&corpus, &options, Cursor::default());
        let stop = stop % straight.len();
        let saved = serde_json::to_string(&straight[stop].cursor).unwrap();
        let resumed = all(&corpus, &options, serde_json::from_str(&saved).unwrap());
        prop_assert_eq!(&resumed[..], &straight[stop + 1..]);
    }
}

#[test]
fn epochs_differ_when_shuffled_only() {
    let corpus = corpus(12);
    for shuffle in [true, false] {
        let options = BatchOptions {
            shuffle,
            epochs: Some(2),
            ..options(Packing::BestFit)
        };
        let loaded = all(&corpus, &options, Cursor::default());
        let epoch = |n: u64| {
            loaded
                .iter()
                .filter(|l| l.cursor.epoch == n)
                .map(|l| l.batch.ids.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(epoch(0) != epoch(1), shuffle);
    }
    let endless = BatchOptions {
        epochs: None,
        ..options(Packing::BestFit)
    };
    let batches = Batches::new(corpus, endless, Cursor::default()).unwrap();
    let last = batches.take(100).last().unwrap().unwrap();
    assert!(last.cursor.epoch > 3);
}

#[test]
fn a_cursor_of_other_data_or_options_is_refused() {
    let (one, other) = (corpus(12), corpus(13));
    let base = options(Packing::BestFit);
    let cursor = all(&one, &base, Cursor::default())[0].cursor.clone();
    let refused = |corpus: &Arc<Corpus>, options: BatchOptions, cursor: Cursor| {
        matches!(
            Batches::new(corpus.clone(), options, cursor),
            Err(DataError::Cursor { .. })
        )
    };
    assert!(refused(&other, base.clone(), cursor.clone()));
    assert!(refused(
        &one,
        BatchOptions {
            seed: 10,
            ..base.clone()
        },
        cursor.clone()
    ));
    assert!(refused(
        &one,
        BatchOptions {
            packing: Packing::Chunks,
            ..base.clone()
        },
        cursor.clone()
    ));
    assert!(refused(
        &one,
        base.clone(),
        Cursor {
            batch: 9999,
            ..cursor.clone()
        }
    ));
    assert!(!refused(
        &one,
        BatchOptions {
            epochs: Some(9),
            ..base
        },
        cursor
    ));
}

#[test]
fn data_that_fill_no_batch_are_refused() {
    let corpus = corpus(2);
    let options = BatchOptions {
        drop_last: true,
        rows: 50,
        ..options(Packing::BestFit)
    };
    assert!(matches!(
        Batches::new(corpus.clone(), options, Cursor::default()),
        Err(DataError::Empty { .. })
    ));
    let bad = BatchOptions {
        rows: 0,
        ..self::options(Packing::BestFit)
    };
    assert!(matches!(
        Batches::new(corpus, bad, Cursor::default()),
        Err(DataError::Option { .. })
    ));
}
