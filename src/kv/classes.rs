//! The `kv.classes` file: head weights that `llamahome calibrate` wrote.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test may panic"))]

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::HeadClasses;

/// No model has more weights than this, and no file is read that is longer than such a one could be.
const LONGEST_FILE: u64 = 16 << 20;

/// A file of weights, and what it says once it was read.
#[derive(Debug, Clone)]
pub struct ClassesFile {
    path: PathBuf,
    read: Arc<OnceLock<Result<Arc<HeadClasses>, String>>>,
}

impl PartialEq for ClassesFile {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path
    }
}

impl ClassesFile {
    /// The file at `path`, which is not read yet.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        ClassesFile {
            path: path.into(),
            read: Arc::default(),
        }
    }

    /// The weights; the file is read once. The error says what is wrong with it.
    pub fn classes(&self) -> Result<Arc<HeadClasses>, String> {
        self.read.get_or_init(|| read(&self.path)).clone()
    }
}

fn read(path: &Path) -> Result<Arc<HeadClasses>, String> {
    let shown = path.display();
    let size = std::fs::metadata(path).map_err(|e| format!("cannot read {shown}: {e}"))?;
    if size.len() > LONGEST_FILE {
        return Err(format!("{shown} is too long for a file of head weights"));
    }
    let text = std::fs::read_to_string(path).map_err(|e| format!("cannot read {shown}: {e}"))?;
    let classes: HeadClasses = serde_json::from_str(&text)
        .map_err(|e| format!("{shown}: {e}; `llamahome calibrate --out` writes such a file"))?;
    let usable = |w: &f32| w.is_finite() && *w >= 0.0;
    if !classes.weights.iter().flatten().all(usable) {
        return Err(format!("{shown}: a weight is a number from 0 on"));
    }
    Ok(Arc::new(classes))
}

impl Serialize for ClassesFile {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.path.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ClassesFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        PathBuf::deserialize(deserializer).map(ClassesFile::at)
    }
}

impl JsonSchema for ClassesFile {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "ClassesFile".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "path" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_and_checked() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("classes.json");
        for (text, good) in [
            (r#"{"weights": [[1.0, 0.5]]}"#, true),
            (r#"{"weights": [[-1.0]]}"#, false),
            (r#"{"weights": [["x"]]}"#, false),
            (r#"{"wights": []}"#, false),
        ] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(ClassesFile::at(&file).classes().is_ok(), good, "{text}");
        }
        let missing = ClassesFile::at(folder.path().join("none.json"));
        let missing = missing.classes().unwrap_err();
        assert!(missing.contains("none.json"), "{missing}");
    }
}
