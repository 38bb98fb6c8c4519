//! The files behind a path, and what each holds before it is a record.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::text_file::{Passages, Range};
use super::{DataError, Format, Place, Problem, csv, jsonl, parquet};

/// What stands at one place of a file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Item {
    pub(super) place: Place,
    pub(super) body: Body,
}

/// A text, or the fields of a record.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Body {
    Passage {
        text: String,
        first: bool,
        last: bool,
    },
    Fields(Value),
}

/// Items of a file. After [`DataError::Record`] it goes on with the next item; after another error it has ended.
pub(super) type Items = Box<dyn Iterator<Item = Result<Item, DataError>>>;

/// A file and its format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DataFile {
    pub(super) path: Arc<Path>,
    pub(super) format: Format,
}

impl DataFile {
    /// The items of the file; of a text file those within `range`.
    pub(super) fn items(&self, range: Range, separator: Option<&str>) -> Result<Items, DataError> {
        Ok(match self.format {
            Format::Text => Box::new(Passages::open(&self.path, range, separator)?),
            Format::Jsonl => Box::new(jsonl::lines(&self.path)?),
            Format::Json => Box::new(jsonl::list(&self.path)?),
            Format::Csv => Box::new(csv::rows(&self.path, self.format, b',')?),
            Format::Tsv => Box::new(csv::rows(&self.path, self.format, b'\t')?),
            Format::Parquet => Box::new(parquet::rows(&self.path)?),
        })
    }
}

/// The data files of paths: a file is itself, a folder all files below it whose endings are known, sorted by path.
/// Hidden files and folders are left out.
pub(super) fn files(paths: &[PathBuf], format: Option<Format>) -> Result<Vec<DataFile>, DataError> {
    let mut files = Vec::new();
    for path in paths {
        let about = std::fs::metadata(path).map_err(DataError::read(path))?;
        if !about.is_dir() {
            let format = format.map_or_else(|| Format::named_by(path), Ok)?;
            files.push(DataFile {
                path: path.as_path().into(),
                format,
            });
            continue;
        }
        let mut found = Vec::new();
        walk(path, &mut found)?;
        found.sort();
        let before = files.len();
        files.extend(found.into_iter().filter_map(|path| {
            let ending = Format::of_path(&path)?;
            let path = path.as_path().into();
            let format = format.unwrap_or(ending);
            Some(DataFile { path, format })
        }));
        if files.len() == before {
            return Err(DataError::EmptyFolder { path: path.clone() });
        }
    }
    Ok(files)
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) -> Result<(), DataError> {
    for entry in std::fs::read_dir(folder).map_err(DataError::read(folder))? {
        let entry = entry.map_err(DataError::read(folder))?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = entry.path();
        // A link to a folder is not followed, so no walk is endless.
        match entry.file_type().map_err(DataError::read(&path))?.is_dir() {
            true => walk(&path, found)?,
            false => found.push(path),
        }
    }
    Ok(())
}

/// The error for a record, as readers make it.
pub(super) fn bad(place: Place, field: Option<String>, reason: impl Into<String>) -> DataError {
    DataError::Record(Problem {
        place,
        field,
        reason: reason.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_walked_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(at("b/c")).unwrap();
        std::fs::create_dir_all(at(".hidden")).unwrap();
        for name in [
            "z.txt",
            "b/c/x.jsonl",
            "b/a.csv",
            "readme.pdf",
            ".hidden/h.txt",
            "b/.h.txt",
        ] {
            std::fs::write(at(name), "x").unwrap();
        }
        std::os::unix::fs::symlink(folder.path(), at("b/loop")).unwrap();
        let found = files(&[folder.path().to_owned()], None).unwrap();
        let names: Vec<_> = found
            .iter()
            .map(|f| {
                f.path
                    .strip_prefix(folder.path())
                    .unwrap()
                    .to_str()
                    .unwrap()
            })
            .collect();
        assert_eq!(names, ["b/a.csv", "b/c/x.jsonl", "z.txt"]);
        let forced = files(&[folder.path().to_owned()], Some(Format::Text)).unwrap();
        assert!(forced.iter().all(|file| file.format == Format::Text) && forced.len() == 3);
        let one = files(&[at("readme.pdf")], Some(Format::Text)).unwrap();
        assert_eq!(one.len(), 1);
        assert!(matches!(
            files(&[at("readme.pdf")], None),
            Err(DataError::Format { .. })
        ));
        assert!(matches!(
            files(&[at("none")], None),
            Err(DataError::Read { .. })
        ));
        std::fs::create_dir(at("empty")).unwrap();
        assert!(matches!(
            files(&[at("empty")], None),
            Err(DataError::EmptyFolder { .. })
        ));
    }
}
