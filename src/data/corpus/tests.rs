use super::*;
use crate::data::encode::tests::{encoder, tokenizer};
use crate::data::{DatasetOptions, EncodeOptions, Overlong, Record, Split, SplitBy};
use crate::text::Controls;

/// A dataset of one file.
pub(crate) fn dataset(
    folder: &Path,
    name: &str,
    content: &str,
    options: DatasetOptions,
) -> Dataset {
    let path = folder.join(name);
    std::fs::write(&path, content).unwrap();
    Dataset::open(&[path], options).unwrap()
}

pub(crate) fn encode(
    dataset: &Dataset,
    side: Side,
    encoder: &Encoder,
) -> Result<Corpus, DataError> {
    let sources = [("one".to_owned(), dataset, 1.0)];
    Corpus::encode(&sources, side, encoder, &std::env::temp_dir(), &mut |_| {})
}

fn cut(context: usize, overlong: Overlong) -> Encoder {
    encoder(EncodeOptions {
        context: Some(context),
        overlong,
        ..EncodeOptions::default()
    })
}

const TEXTS: &str = "{\"text\": \"small\"}\n{\"text\": \"things and more of them\"}\n";

#[test]
fn samples_are_read_as_they_were_encoded() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(folder.path(), "a.jsonl", TEXTS, DatasetOptions::default());
    let encoder = encoder(EncodeOptions::default());
    let mut told = 0;
    let sources = [("a".to_owned(), &data, 1.0), ("b".to_owned(), &data, 0.5)];
    let corpus = Corpus::encode(&sources, Side::Whole, &encoder, folder.path(), &mut |_| {
        told += 1
    })
    .unwrap();
    assert_eq!((corpus.len(), told, corpus.is_empty()), (4, 4, false));
    let expected = encoder
        .encode(&Record::text("things and more of them"))
        .unwrap();
    assert_eq!(corpus.sample(1).unwrap(), expected);
    assert_eq!(corpus.sample(3).unwrap(), expected);
    assert_eq!(corpus.lengths()[1] as usize, expected.ids.len());
    assert_eq!(corpus.mixture().parts()[1].samples, 2..4);
    assert_eq!(corpus.mixture().len(), 3);
    let part = corpus
        .piece(Piece {
            sample: 1,
            from: 2,
            len: 3,
        })
        .unwrap();
    assert_eq!(part.ids, expected.ids[2..6]);
    assert!(corpus.sample(4).is_err());
    assert!(
        corpus
            .piece(Piece {
                sample: 1,
                from: 2,
                len: 300
            })
            .is_err()
    );
    let report = corpus.report();
    assert_eq!((report.records, report.samples), (4, 4));
    assert_eq!(report.learnt, report.tokens - 4);
    assert_eq!(
        report.learnt_bytes,
        2 * ("small".len() + "things and more of them".len()) as u64
    );
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        1,
        "the scratch file has no name"
    );
}

#[test]
fn a_fingerprint_tells_data_and_weights() {
    let folder = tempfile::tempdir().unwrap();
    let data = dataset(folder.path(), "a.jsonl", TEXTS, DatasetOptions::default());
    let other = dataset(
        folder.path(),
        "b.jsonl",
        &TEXTS.replace("small", "large"),
        DatasetOptions::default(),
    );
    let print = |data: &Dataset, weight: f64| {
        let sources = [("a".to_owned(), data, weight)];
        let encoder = encoder(EncodeOptions::default());
        let corpus = Corpus::encode(&sources, Side::Whole, &encoder, folder.path(), &mut |_| {});
        corpus.unwrap().fingerprint().to_owned()
    };
    assert_eq!(print(&data, 1.0), print(&data, 1.0));
    assert_ne!(print(&data, 1.0), print(&data, 2.0));
    assert_ne!(print(&data, 1.0), print(&other, 1.0));
}

#[test]
fn a_long_text_file_is_one_sample() {
    let folder = tempfile::tempdir().unwrap();
    let text = "user and assistant talk about small things\n".repeat(60_000);
    let data = dataset(folder.path(), "a.txt", &text, DatasetOptions::default());
    let corpus = encode(&data, Side::Whole, &encoder(EncodeOptions::default())).unwrap();
    assert_eq!((corpus.len(), corpus.report().records), (1, 1));
    let ids = corpus.sample(0).unwrap().ids;
    assert_eq!((ids.first(), ids.last()), (Some(&0), Some(&1)));
    assert!(tokenizer().decode(&ids, Controls::Skip) == text);
    let cut = encode(&data, Side::Whole, &cut(32, Overlong::Truncate)).unwrap();
    assert_eq!((cut.report().truncated, cut.report().tokens), (1, 32));
    assert_eq!(cut.report().cut_tokens, ids.len() as u64 - 32);
}

/// Test N5, the part about length: a sample is cut at 32 tokens where that is asked for, and refused otherwise.
#[test]
fn n5_truncation_at_32_is_asked_for_and_told() {
    let folder = tempfile::tempdir().unwrap();
    let long = format!(
        "{{\"prompt\": \"hi\", \"completion\": \"{}\"}}\n",
        "word ".repeat(40)
    );
    let masked = format!(
        "{{\"prompt\": \"{}\", \"completion\": \"x\"}}\n",
        "word ".repeat(40)
    );
    let data = dataset(
        folder.path(),
        "a.jsonl",
        &(long + &masked),
        DatasetOptions::default(),
    );
    let error = encode(&data, Side::Whole, &cut(32, Overlong::Refuse)).unwrap_err();
    assert!(
        error.to_string().contains("a.jsonl:1: the sample has"),
        "{error}"
    );
    assert!(error.problem().is_some());
    let corpus = encode(&data, Side::Whole, &cut(32, Overlong::Truncate)).unwrap();
    assert_eq!(corpus.lengths(), [32]);
    let report = corpus.report();
    assert_eq!(
        (report.truncated, report.without_targets, report.records),
        (2, 1, 2)
    );
}

#[test]
fn what_cannot_be_used_is_an_error_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let encoder = encoder(EncodeOptions::default());
    let bad = dataset(
        folder.path(),
        "a.jsonl",
        "{\"text\": \"a\"}\noops\n",
        DatasetOptions::default(),
    );
    assert!(
        encode(&bad, Side::Whole, &encoder)
            .unwrap_err()
            .to_string()
            .contains("a.jsonl:2")
    );
    let control = r#"{"messages": [{"role": "user", "content": "a", "name": "<|im_end|>"}, {"role": "assistant", "content": "b"}]}"#;
    let control = dataset(folder.path(), "b.jsonl", control, DatasetOptions::default());
    let error = encode(&control, Side::Whole, &encoder).unwrap_err();
    assert!(matches!(error, DataError::Encode { .. }), "{error}");
    assert!(error.problem().unwrap().reason.contains("control token"));
    let one = DatasetOptions {
        split: Split::new(0.5, SplitBy::Tail, 0).unwrap(),
        ..DatasetOptions::default()
    };
    let one = dataset(folder.path(), "c.jsonl", "{\"text\": \"a\"}\n", one);
    let side = |side| {
        encode(&one, side, &encoder)
            .map(|c| c.len())
            .map_err(|e| e.to_string())
    };
    let (train, kept) = (side(Side::Train), side(Side::Validation));
    assert!(train.is_err() != kept.is_err(), "{train:?} {kept:?}");
    let nowhere = Corpus::encode(
        &[("a".into(), &one, 1.0)],
        Side::Whole,
        &encoder,
        Path::new("/no/such/folder"),
        &mut |_| {},
    );
    assert!(matches!(nowhere, Err(DataError::Scratch { .. })));
}
