//! Any data as JSON Lines.

use std::io::{BufWriter, Write as _};
use std::path::Path;

use serde::Serialize;

use super::{DataError, Dataset, Record, Side};

/// What was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Converted {
    /// Lines.
    pub records: u64,
    /// Bytes.
    pub bytes: u64,
}

/// Writes one side of a dataset as JSON Lines: `text`, `prompt` and `completion`, or `messages`. A document is one line.
/// The file appears under its name once it is whole.
///
/// # Errors
/// The first record that cannot be read, in which case no file is written; [`DataError::Write`].
pub fn convert(dataset: &Dataset, side: Side, to: &Path) -> Result<Converted, DataError> {
    let folder = match to.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let file = tempfile::NamedTempFile::new_in(folder).map_err(DataError::write(to))?;
    let mut out = BufWriter::new(file);
    let mut converted = Converted::default();
    let mut document = String::new();
    for located in dataset.records(side)? {
        let record = match located?.record {
            Record::Text { text, first, last } => {
                if first {
                    document.clear();
                }
                document.push_str(&text);
                if !last {
                    continue;
                }
                Record::text(std::mem::take(&mut document))
            }
            other => other,
        };
        let mut line = record.to_json().to_string();
        line.push('\n');
        out.write_all(line.as_bytes())
            .map_err(DataError::write(to))?;
        converted.records += 1;
        converted.bytes += line.len() as u64;
    }
    let file = out
        .into_inner()
        .map_err(|error| DataError::write(to)(error.into_error()))?;
    file.as_file().sync_all().map_err(DataError::write(to))?;
    let kept = file.persist(to);
    kept.map_err(|error| DataError::write(to)(error.error))?;
    Ok(converted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::DatasetOptions;
    use crate::data::corpus::tests::dataset;

    fn records(dataset: &Dataset) -> Vec<Record> {
        dataset
            .records(Side::Whole)
            .unwrap()
            .map(|r| r.unwrap().record)
            .collect()
    }

    #[test]
    fn every_format_becomes_the_same_records() {
        let folder = tempfile::tempdir().unwrap();
        let long = "a line of text\n".repeat(150_000);
        let parquet = folder.path().join("e.parquet");
        let schema = "message schema { REQUIRED BYTE_ARRAY text (UTF8); }";
        crate::data::parquet::tests::write(&parquet, schema, &[(&[b"a", b"b"], None)], 1);
        let open = |name: &str, content: &str| {
            dataset(folder.path(), name, content, DatasetOptions::default())
        };
        let sets = [
            open("a.csv", "question,answer\n1+1?,2\n2+2?,4\n"),
            open(
                "b.json",
                r#"[{"conversation": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}]"#,
            ),
            open("c.txt", "short\n"),
            open("d.tsv", "instruction\tinput\toutput\ni\tx\to\n"),
            Dataset::open(&[parquet], DatasetOptions::default()).unwrap(),
        ];
        for (at, set) in sets.iter().enumerate() {
            let to = folder.path().join(format!("{at}.jsonl"));
            let converted = convert(set, Side::Whole, &to).unwrap();
            let back = Dataset::open(std::slice::from_ref(&to), DatasetOptions::default()).unwrap();
            assert_eq!(records(&back), records(set));
            assert_eq!(converted.records as usize, records(set).len());
            assert_eq!(converted.bytes, std::fs::metadata(&to).unwrap().len());
        }
        let to = folder.path().join("long.jsonl");
        assert_eq!(
            convert(&open("l.txt", &long), Side::Whole, &to)
                .unwrap()
                .records,
            1
        );
        let back = Dataset::open(&[to], DatasetOptions::default()).unwrap();
        assert!(records(&back) == [Record::text(long)]);
    }

    #[test]
    fn a_bad_record_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let bad = dataset(
            folder.path(),
            "a.jsonl",
            "{\"text\": \"a\"}\noops\n",
            DatasetOptions::default(),
        );
        let to = folder.path().join("out.jsonl");
        assert!(matches!(
            convert(&bad, Side::Whole, &to),
            Err(DataError::Record(_))
        ));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        let nowhere = folder.path().join("no/out.jsonl");
        assert!(matches!(
            convert(&bad, Side::Whole, &nowhere),
            Err(DataError::Write { .. })
        ));
    }
}
