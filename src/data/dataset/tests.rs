use super::*;
use std::fmt::Write as _;
use std::path::Path;

fn dataset(folder: &Path, names: &[&str], options: DatasetOptions) -> Dataset {
    let paths: Vec<PathBuf> = names.iter().map(|name| folder.join(name)).collect();
    Dataset::open(&paths, options).unwrap()
}

fn texts(dataset: &Dataset, side: Side) -> Vec<String> {
    let records = dataset.records(side).unwrap();
    records
        .map(|r| r.unwrap().record.texts().concat())
        .collect()
}

fn numbered(range: std::ops::Range<u32>) -> String {
    range.fold(String::new(), |mut out, n| {
        writeln!(out, "{{\"text\": \"{n}\"}}").unwrap();
        out
    })
}

fn split(fraction: f64, by: SplitBy) -> DatasetOptions {
    DatasetOptions {
        split: Split::new(fraction, by, 7).unwrap(),
        ..DatasetOptions::default()
    }
}

#[test]
fn the_last_records_of_all_files_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.jsonl"), numbered(0..12)).unwrap();
    std::fs::write(
        folder.path().join("b.csv"),
        "text\n12\n13\n14\n15\n16\n17\n18\n19\n",
    )
    .unwrap();
    let data = dataset(
        folder.path(),
        &["a.jsonl", "b.csv"],
        split(0.1, SplitBy::Tail),
    );
    let numbers = |range: std::ops::Range<u32>| range.map(|n| n.to_string()).collect::<Vec<_>>();
    assert_eq!(texts(&data, Side::Train), numbers(0..18));
    assert_eq!(texts(&data, Side::Validation), numbers(18..20));
    assert_eq!(texts(&data, Side::Whole), numbers(0..20));
    assert_eq!(data.paths().count(), 2);
    assert!(data.bytes() > 20);
}

#[test]
fn the_hash_parts_records_wherever_they_stand() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.jsonl"), numbered(0..60)).unwrap();
    std::fs::write(folder.path().join("b.jsonl"), numbered(30..90)).unwrap();
    std::fs::write(
        folder.path().join("c.txt"),
        (0..40)
            .map(|n| format!("doc {n}\n--\n"))
            .collect::<String>(),
    )
    .unwrap();
    let options = DatasetOptions {
        separator: Some("--".to_owned()),
        ..split(0.3, SplitBy::Hash)
    };
    let data = dataset(folder.path(), &["a.jsonl", "b.jsonl", "c.txt"], options);
    let (train, kept) = (texts(&data, Side::Train), texts(&data, Side::Validation));
    assert_eq!(train.len() + kept.len(), 160);
    assert!(kept.len() > 20 && train.len() > 60);
    assert!(kept.iter().all(|text| !train.contains(text)));
    assert!(kept.iter().any(|text| text.starts_with("doc")));
}

#[test]
fn the_tail_of_each_text_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.txt"), "0123456789").unwrap();
    std::fs::write(folder.path().join("b.txt"), "abcdefghij").unwrap();
    let data = dataset(
        folder.path(),
        &["a.txt", "b.txt"],
        split(0.2, SplitBy::Tail),
    );
    assert_eq!(texts(&data, Side::Train), ["01234567", "abcdefgh"]);
    assert_eq!(texts(&data, Side::Validation), ["89", "ij"]);
}

#[test]
fn errors_name_the_place_and_the_rest_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let lines = "{\"text\": \"a\", \"id\": 1}\n{\"text\": \"\"}\nnot json\n{\"instruction\": \"i\", \"id\": 2, \"instances\": [{\"output\": \"x\"}, {\"output\": \"y\"}]}\n";
    std::fs::write(folder.path().join("a.jsonl"), lines).unwrap();
    let data = dataset(folder.path(), &["a.jsonl"], DatasetOptions::default());
    let got: Vec<_> = data.records(Side::Whole).unwrap().collect();
    assert_eq!(got.len(), 5);
    assert_eq!(got[0].as_ref().unwrap().unused, ["id"]);
    let error = got[1].as_ref().unwrap_err();
    assert!(
        error
            .to_string()
            .contains("a.jsonl:2: field `text`: is empty"),
        "{error}"
    );
    assert!(error.problem().is_some());
    assert!(
        got[2]
            .as_ref()
            .unwrap_err()
            .to_string()
            .contains("a.jsonl:3: is not JSON")
    );
    let (first, second) = (got[3].as_ref().unwrap(), got[4].as_ref().unwrap());
    assert_eq!(
        (first.place.number, first.unused.len(), second.unused.len()),
        (4, 1, 0)
    );
    // A split counts lines, also those that cannot be used.
    let data = dataset(folder.path(), &["a.jsonl"], split(0.25, SplitBy::Tail));
    assert_eq!(data.records(Side::Train).unwrap().count(), 3);
    assert_eq!(data.records(Side::Validation).unwrap().count(), 2);
    let data = dataset(folder.path(), &["a.jsonl"], split(0.25, SplitBy::Hash));
    let bad = data
        .records(Side::Train)
        .unwrap()
        .filter(|r| r.is_err())
        .count();
    assert_eq!(
        bad + data
            .records(Side::Validation)
            .unwrap()
            .filter(|r| r.is_err())
            .count(),
        2
    );
}

#[test]
fn a_file_that_is_gone_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.jsonl"), numbered(0..2)).unwrap();
    std::fs::write(folder.path().join("b.jsonl"), numbered(2..3)).unwrap();
    let data = dataset(
        folder.path(),
        &["a.jsonl", "b.jsonl"],
        split(0.5, SplitBy::Tail),
    );
    std::fs::remove_file(folder.path().join("a.jsonl")).unwrap();
    assert!(matches!(
        data.records(Side::Train),
        Err(DataError::Read { .. })
    ));
    let got: Vec<_> = data.records(Side::Whole).unwrap().collect();
    assert!(got[0].is_err() && got[1].is_ok() && got.len() == 2);
}

proptest::proptest! {
    /// Whatever a file holds, reading it ends, and every error names a place in it.
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(proptest::sample::select(b"{}[]\",:\n\r\t\xEF\xBB\xBF\xC3\xFF text1-a".to_vec()), 0..200), which in 0usize..5) {
        let folder = tempfile::tempdir().unwrap();
        let name = ["a.txt", "a.jsonl", "a.json", "a.csv", "a.tsv"][which];
        std::fs::write(folder.path().join(name), &bytes).unwrap();
        let options = DatasetOptions { separator: Some("text".to_owned()), ..DatasetOptions::default() };
        let data = dataset(folder.path(), &[name], options);
        for record in data.records(Side::Whole).unwrap().take(1000) {
            match record {
                Ok(located) => proptest::prop_assert!(!located.record.texts().is_empty()),
                Err(error) => proptest::prop_assert!(error.to_string().contains(name), "{error}"),
            }
        }
    }
}
