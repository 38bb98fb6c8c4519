//! The formats of data files, by their endings.

use std::fmt;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::DataError;

/// How a file holds its records.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// UTF-8 text: one document, or several with a separator line between them.
    Text,
    /// One JSON object a line.
    Jsonl,
    /// A JSON list of objects, or one object. Read as a whole: for small files.
    Json,
    /// Comma-separated values with a heading.
    Csv,
    /// Tab-separated values with a heading.
    Tsv,
    /// Apache Parquet.
    Parquet,
}

impl Format {
    /// The endings that are known, for messages.
    pub const ENDINGS: &str = ".txt .text .md .jsonl .ndjson .json .csv .tsv .parquet";

    /// The format that the ending of a path names.
    pub fn of_path(path: &Path) -> Option<Format> {
        let ending = path.extension()?.to_str()?.to_ascii_lowercase();
        match ending.as_str() {
            "txt" | "text" | "md" => Some(Format::Text),
            "jsonl" | "ndjson" => Some(Format::Jsonl),
            "json" => Some(Format::Json),
            "csv" => Some(Format::Csv),
            "tsv" => Some(Format::Tsv),
            "parquet" => Some(Format::Parquet),
            _ => None,
        }
    }

    /// The format of a path.
    ///
    /// # Errors
    /// [`DataError::Format`] when its ending is not known.
    pub fn named_by(path: &Path) -> Result<Format, DataError> {
        Format::of_path(path).ok_or_else(|| DataError::Format {
            path: path.to_owned(),
        })
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::Text => "text",
            Format::Jsonl => "jsonl",
            Format::Json => "json",
            Format::Csv => "csv",
            Format::Tsv => "tsv",
            Format::Parquet => "parquet",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_name_formats() {
        for (path, format) in [
            ("a/b.TXT", Some(Format::Text)),
            ("a.md", Some(Format::Text)),
            ("a.jsonl", Some(Format::Jsonl)),
            ("a.json", Some(Format::Json)),
            ("a.csv", Some(Format::Csv)),
            ("a.tsv", Some(Format::Tsv)),
            ("a.parquet", Some(Format::Parquet)),
            ("a.pdf", None),
            ("a", None),
        ] {
            assert_eq!(Format::of_path(Path::new(path)), format, "{path}");
        }
        let error = Format::named_by(Path::new("a.pdf")).unwrap_err();
        assert!(error.to_string().contains(".parquet"), "{error}");
        for format in [
            Format::Text,
            Format::Jsonl,
            Format::Json,
            Format::Csv,
            Format::Tsv,
            Format::Parquet,
        ] {
            let written = serde_json::to_value(format).unwrap();
            assert_eq!(written, serde_json::json!(format.to_string()));
        }
    }
}
