//! Parquet files, row by row, one row group in memory.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use parquet::file::reader::SerializedFileReader;
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row};
use serde_json::{Map, Value};

use super::source::{Body, Item, bad};
use super::{DataError, Format, Place};

/// The rows of a Parquet file as objects.
pub(super) fn rows(
    path: &Arc<Path>,
) -> Result<impl Iterator<Item = Result<Item, DataError>> + use<>, DataError> {
    let file = File::open(path).map_err(DataError::read(path))?;
    let damaged = {
        let path = path.to_path_buf();
        move |reason: String| DataError::Damaged {
            path: path.clone(),
            format: Format::Parquet,
            reason,
        }
    };
    let reader = guarded(|| SerializedFileReader::new(file).map_err(|error| error.to_string()));
    let reader = reader.and_then(|reader| reader).map_err(&damaged)?;
    let mut rows = RowIter::from_file_into(Box::new(reader));
    let mut number = 0;
    let path = path.clone();
    let mut ended = false;
    Ok(std::iter::from_fn(move || {
        if ended {
            return None;
        }
        let row = match guarded(|| rows.next()) {
            Ok(row) => row?.map_err(|error| error.to_string()),
            Err(panicked) => Err(panicked),
        };
        number += 1;
        let place = Place::row(&path, number);
        Some(match row {
            Ok(row) => match object(row) {
                Ok(value) => Ok(Item {
                    place,
                    body: Body::Fields(value),
                }),
                Err(field) => Err(bad(
                    place,
                    Some(field),
                    "is binary and not UTF-8; only text can be trained on",
                )),
            },
            Err(reason) => {
                ended = true;
                Err(damaged(format!("row {number}: {reason}")))
            }
        })
    }))
}

/// The library checks some numbers of a file by assertions, so a damaged one panics. What it was reading is not used
/// after that.
fn guarded<T>(read: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(read)).map_err(|_| "its numbers do not fit each other".to_owned())
}

/// A row as JSON, or the name of the column that is no text.
fn object(row: Row) -> Result<Value, String> {
    let mut map = Map::new();
    for (name, field) in row.into_columns() {
        let value = value(field).ok_or_else(|| name.clone())?;
        map.insert(name, value);
    }
    Ok(Value::Object(map))
}

/// A field as JSON; bytes without a type are texts of old writers.
fn value(field: Field) -> Option<Value> {
    Some(match field {
        Field::Str(text) => Value::String(text),
        Field::Bytes(bytes) => Value::String(String::from_utf8(bytes.data().to_vec()).ok()?),
        Field::Group(row) => object(row).ok()?,
        Field::ListInternal(list) => {
            let items = list.elements().iter().cloned().map(value);
            Value::Array(items.collect::<Option<Vec<_>>>()?)
        }
        Field::Null => Value::Null,
        Field::Bool(yes) => Value::from(yes),
        Field::Byte(number) => Value::from(number),
        Field::Short(number) => Value::from(number),
        Field::Int(number) => Value::from(number),
        Field::Long(number) => Value::from(number),
        Field::UByte(number) => Value::from(number),
        Field::UShort(number) => Value::from(number),
        Field::UInt(number) => Value::from(number),
        Field::ULong(number) => Value::from(number),
        Field::Float(number) => Value::from(number),
        Field::Double(number) => Value::from(number),
        // Dates, times, decimals and maps: nothing that is trained on, and readable in a message.
        other => Value::from(other.to_string()),
    })
}

#[cfg(test)]
pub(super) mod tests;
