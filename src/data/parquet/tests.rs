use super::*;
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use serde_json::json;

/// Texts, and where they are nested their repetition and definition levels.
type Column<'a> = (&'a [&'a [u8]], Option<(&'a [i16], &'a [i16])>);

/// Writes columns of texts under a schema.
pub(crate) fn write(path: &Path, schema: &str, columns: &[Column], groups: usize) {
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let compression = parquet::basic::Compression::SNAPPY;
    let properties = WriterProperties::builder()
        .set_compression(compression)
        .build();
    let file = File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties)).unwrap();
    for _ in 0..groups {
        let mut group = writer.next_row_group().unwrap();
        for (texts, levels) in columns {
            let mut column = group.next_column().unwrap().unwrap();
            let values: Vec<ByteArray> =
                texts.iter().map(|t| ByteArray::from(t.to_vec())).collect();
            let ColumnWriter::ByteArrayColumnWriter(typed) = column.untyped() else {
                panic!("a text column");
            };
            let (repetition, definition) = levels.unzip();
            typed.write_batch(&values, definition, repetition).unwrap();
            column.close().unwrap();
        }
        group.close().unwrap();
    }
    writer.close().unwrap();
}

fn read(path: &Path) -> Vec<Result<Item, DataError>> {
    rows(&path.into()).unwrap().collect()
}

#[test]
fn rows_of_all_groups_are_objects() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    let schema = "message schema { REQUIRED BYTE_ARRAY text (UTF8); REQUIRED BYTE_ARRAY source; }";
    write(
        &path,
        schema,
        &[(&[b"a", b"b"], None), (&[b"x", b"\xff"], None)],
        2,
    );
    let got = read(&path);
    assert_eq!(got.len(), 4);
    let third = got[2].as_ref().unwrap();
    assert_eq!(
        third.body,
        Body::Fields(json!({"text": "a", "source": "x"}))
    );
    assert!(third.place.to_string().ends_with("a.parquet: row 3"));
    let error = got[3].as_ref().unwrap_err().to_string();
    assert!(
        error.contains("row 4: field `source`: is binary"),
        "{error}"
    );
}

#[test]
fn lists_of_messages_are_lists_of_objects() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    let schema = "message schema { REQUIRED GROUP messages (LIST) { REPEATED GROUP list {
        REQUIRED GROUP element { REQUIRED BYTE_ARRAY role (UTF8); REQUIRED BYTE_ARRAY content (UTF8); } } } }";
    let levels: Option<(&[i16], &[i16])> = Some((&[0, 1, 0, 1], &[1, 1, 1, 1]));
    let roles: &[&[u8]] = &[b"user", b"assistant", b"user", b"assistant"];
    let texts: &[&[u8]] = &[b"a", b"b", b"c", b"d"];
    write(&path, schema, &[(roles, levels), (texts, levels)], 1);
    let got = read(&path);
    assert_eq!(got.len(), 2);
    let expected = json!({"messages": [{"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}]});
    assert_eq!(got[1].as_ref().unwrap().body, Body::Fields(expected));
}

#[test]
fn a_file_that_is_none_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    std::fs::write(&path, b"PAR1 nothing here PAR1").unwrap();
    let error = rows(&path.as_path().into()).err().unwrap();
    assert!(matches!(error, DataError::Damaged { .. }), "{error}");
    assert!(rows(&Path::new("none").into()).is_err());
}

#[test]
fn a_damaged_file_ends_in_an_error_or_in_other_rows_but_not_in_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    let schema = "message schema { REQUIRED BYTE_ARRAY text (UTF8); }";
    let texts: Vec<String> = (0..50).map(|n| format!("text {n}")).collect();
    let texts: Vec<&[u8]> = texts.iter().map(|text| text.as_bytes()).collect();
    write(&path, schema, &[(&texts, None)], 2);
    let whole = std::fs::read(&path).unwrap();
    let mut errors = 0;
    for at in 0..whole.len() {
        for change in [0x00, 0x7F, 0xFF] {
            let mut damaged = whole.clone();
            damaged[at] = change;
            std::fs::write(&path, &damaged).unwrap();
            let rows = rows(&path.as_path().into());
            errors +=
                usize::from(rows.is_err_and(|error| matches!(error, DataError::Damaged { .. })));
            let read = super::rows(&path.as_path().into());
            errors += read.map_or(0, |rows| rows.take(1000).filter(Result::is_err).count());
        }
    }
    assert!(errors > whole.len() / 4, "{errors} of {}", whole.len());
}
