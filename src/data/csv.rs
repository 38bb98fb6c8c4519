//! Tables with a heading, comma- or tab-separated.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::source::{Body, Item, bad};
use super::{DataError, Format, Place};

/// The rows of a table as objects of texts, by the line on which each begins.
pub(super) fn rows(
    path: &Arc<Path>,
    format: Format,
    delimiter: u8,
) -> Result<impl Iterator<Item = Result<Item, DataError>> + use<>, DataError> {
    let file = File::open(path).map_err(DataError::read(path))?;
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .from_reader(file);
    let heading = reader.headers().map_err(|error| DataError::Damaged {
        path: path.to_path_buf(),
        format,
        reason: format!("its heading: {error}"),
    })?;
    let heading: Vec<String> = heading
        .iter()
        .map(|name| name.trim_start_matches('\u{FEFF}').trim().to_owned())
        .collect();
    if let Some(twice) = twice(&heading) {
        return Err(DataError::Damaged {
            path: path.to_path_buf(),
            format,
            reason: format!("its heading names the column {twice:?} twice"),
        });
    }
    let path = path.clone();
    let mut last = 1;
    let mut ended = false;
    Ok(reader.into_records().map_while(move |row| {
        if ended {
            return None;
        }
        Some(match row {
            Ok(row) => {
                last = row.position().map_or(last, csv::Position::line);
                let fields = heading.iter().zip(&row);
                let fields = fields.map(|(name, text)| (name.clone(), Value::from(text)));
                Ok(Item {
                    place: Place::line(&path, last),
                    body: Body::Fields(Value::Object(fields.collect::<Map<_, _>>())),
                })
            }
            Err(error) => {
                let line = error.position().map_or(last, csv::Position::line);
                ended = matches!(error.kind(), csv::ErrorKind::Io(_));
                Err(bad(
                    Place::line(&path, line),
                    None,
                    reason(error.into_kind()),
                ))
            }
        })
    }))
}

fn twice(heading: &[String]) -> Option<&String> {
    let mut names = heading.iter().enumerate();
    let found = names.find(|(at, name)| heading.iter().take(*at).any(|other| other == *name));
    found.map(|(_, name)| name)
}

fn reason(kind: csv::ErrorKind) -> String {
    match kind {
        csv::ErrorKind::UnequalLengths {
            expected_len, len, ..
        } => format!(
            "has {len} fields, the heading has {expected_len}; quote fields that hold the separator"
        ),
        csv::ErrorKind::Utf8 { .. } => "is not UTF-8; convert the file to UTF-8".to_owned(),
        csv::ErrorKind::Io(error) => error.to_string(),
        other => format!("cannot be read: {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    type Shown = Result<(u64, Value), String>;

    fn read(content: &[u8], delimiter: u8) -> Result<Vec<Shown>, DataError> {
        let folder = tempfile::tempdir().unwrap();
        let path: Arc<Path> = folder.path().join("a.csv").as_path().into();
        std::fs::write(&path, content).unwrap();
        let shown = |item: Result<Item, DataError>| match item {
            Ok(Item {
                place,
                body: Body::Fields(value),
            }) => Ok((place.number, value)),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.to_string().rsplit_once("a.csv").unwrap().1.to_owned()),
        };
        Ok(rows(&path, Format::Csv, delimiter)?.map(shown).collect())
    }

    #[test]
    fn rows_are_objects_and_bad_ones_are_named() {
        let got = read(
            b"\xEF\xBB\xBFprompt, completion\n\"a, \"\"b\"\"\nc\",d\nonly\n\xff,x\ne,f\n",
            b',',
        )
        .unwrap();
        assert_eq!(
            got[0],
            Ok((2, json!({"prompt": "a, \"b\"\nc", "completion": "d"})))
        );
        let error = got[1].as_ref().unwrap_err();
        assert!(error.starts_with(":4: has 1 fields"), "{error}");
        assert!(got[2].as_ref().unwrap_err().starts_with(":5: is not UTF-8"));
        assert_eq!(got[3], Ok((6, json!({"prompt": "e", "completion": "f"}))));
        assert_eq!(got.len(), 4);
        let tabs = read(b"text\tlabel\na,b\t1\n", b'\t').unwrap();
        assert_eq!(tabs, [Ok((2, json!({"text": "a,b", "label": "1"})))]);
        assert!(
            read(b"a,b,a\n", b',')
                .unwrap_err()
                .to_string()
                .contains("twice")
        );
    }
}
