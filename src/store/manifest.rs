//! What is recorded beside an installed model: where it came from and what its files must be.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::StoreError;
use super::hf_folder::read_json;
use super::source::is_inner_path;

/// The manifest's file name in a model's folder.
pub const FILE: &str = "manifest.json";

/// The record of one pull.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The source, as [`Source`](super::Source) prints it.
    pub source: String,
    /// The hub commit that was pulled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The licence, if the catalogue says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// When the pull was asked for, as the caller wrote it (RFC 3339).
    pub pulled_at: String,
    /// Every file, in order of the names.
    pub files: Vec<FileRecord>,
}

/// One file of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// The plain file name.
    pub name: String,
    /// The length in bytes.
    pub size: u64,
    /// The sha256 in hexadecimal.
    pub sha256: String,
    /// True if the file is a link to a file elsewhere.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub linked: bool,
}

impl Manifest {
    /// Reads the manifest in a model's `folder`; `None` if there is none.
    ///
    /// # Errors
    /// [`StoreError::Malformed`] if it is not a manifest or names files outside the folder.
    pub fn read(folder: &Path) -> Result<Option<Manifest>, StoreError> {
        let path = folder.join(FILE);
        if !path.exists() {
            return Ok(None);
        }
        let manifest: Manifest = read_json(&path)?;
        let plain = |name: &str| is_inner_path(name) && !name.contains('/');
        match manifest.files.iter().find(|file| !plain(&file.name)) {
            Some(bad) => {
                let reason = format!("{:?} is not a plain file name", bad.name);
                Err(StoreError::malformed(&path, "files", reason))
            }
            None => Ok(Some(manifest)),
        }
    }

    /// Writes the manifest into a model's `folder`.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), StoreError> {
        let path = folder.join(FILE);
        let mut text = serde_json::to_string_pretty(self)
            .map_err(|error| StoreError::io("write", &path)(error.into()))?;
        text.push('\n');
        std::fs::write(&path, text).map_err(StoreError::io("write", &path))?;
        super::disk::sync(&path)
    }

    /// The length of all files in bytes.
    pub fn bytes(&self) -> u64 {
        self.files
            .iter()
            .fold(0, |sum, file| sum.saturating_add(file.size))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_is_read_back_and_stays_in_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Manifest::read(folder.path()).unwrap(), None);
        let record = |name: &str| FileRecord {
            name: name.into(),
            size: 3,
            sha256: "00".into(),
            linked: false,
        };
        let mut manifest = Manifest {
            source: "hf:o/r".into(),
            revision: Some("abc".into()),
            license: None,
            pulled_at: "2026-01-01T00:00:00Z".into(),
            files: vec![record("a.gguf"), record("b")],
        };
        manifest.write(folder.path()).unwrap();
        assert_eq!(
            Manifest::read(folder.path()).unwrap().as_ref(),
            Some(&manifest)
        );
        assert_eq!(manifest.bytes(), 6);
        manifest.files.push(record("../x"));
        manifest.write(folder.path()).unwrap();
        assert!(
            Manifest::read(folder.path())
                .unwrap_err()
                .to_string()
                .contains("../x")
        );
    }
}
