//! Which files of a folder are read, in which order, and which are left alone.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::ConfigError;
use super::file::Syntax;

/// The stems of general files, in the order in which they are read.
const GENERAL: [&str; 3] = ["llamahome", "config", "settings"];

/// The profiles that need no file: their text is part of the program.
pub(super) const BUILT_IN_PROFILES: [(&str, &str); 2] = [
    ("dev", include_str!("../../.config/dev.toml")),
    ("prod", include_str!("../../.config/prod.toml")),
];

/// The files of one folder that are of a readable format, by name.
#[derive(Debug, Default)]
pub(super) struct Folder {
    files: Vec<(PathBuf, Syntax)>,
}

impl Folder {
    /// Lists a folder; one that is not there has no files.
    pub(super) fn list(path: &Path) -> Result<Self, ConfigError> {
        let fault = |source| ConfigError::Read {
            path: path.to_owned(),
            source,
        };
        let entries = match std::fs::read_dir(path) {
            Ok(entries) => entries,
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                return Ok(Folder::default());
            }
            Err(error) => return Err(fault(error)),
        };
        let mut files = Vec::new();
        for entry in entries {
            let file = entry.map_err(fault)?.path();
            if let (Some(syntax), true) = (Syntax::of(&file), file.is_file()) {
                files.push((file, syntax));
            }
        }
        files.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(Folder { files })
    }

    /// The files of one stem, of any format, in the order of their names.
    pub(super) fn of_stem(&self, stem: &str) -> impl Iterator<Item = &(PathBuf, Syntax)> {
        self.files
            .iter()
            .filter(move |(path, _)| stem_of(path) == stem)
    }

    /// The files of several stems, in the order of the stems.
    pub(super) fn of_stems<'a>(&'a self, stems: &[&'a str]) -> Vec<&'a (PathBuf, Syntax)> {
        stems.iter().flat_map(|stem| self.of_stem(stem)).collect()
    }

    /// The files that none of `stems` names and that belong to no other program we know.
    pub(super) fn ignored(&self, stems: &[&str]) -> Vec<PathBuf> {
        let unread = self.files.iter().filter(|(path, _)| {
            let stem = stem_of(path);
            !stems.contains(&stem) && !is_built_in(stem) && !is_foreign(path)
        });
        unread.map(|(path, _)| path.clone()).collect()
    }

    /// The stems that could be meant as profiles, and the built-in ones.
    pub(super) fn profiles(&self, taken: &[&str]) -> Vec<String> {
        let free = self.files.iter().filter(|(path, _)| !is_foreign(path));
        let free = free
            .map(|(path, _)| stem_of(path))
            .filter(|stem| !taken.contains(stem));
        let built_in = BUILT_IN_PROFILES.iter().map(|(name, _)| *name);
        let names: BTreeSet<&str> = free.chain(built_in).collect();
        names.into_iter().map(str::to_owned).collect()
    }
}

/// The stems that are read in a project's folder, in order.
pub(super) fn project_stems<'a>(sections: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut stems = vec!["default"];
    stems.extend(user_stems(sections));
    stems.push("local");
    stems
}

/// The stems that are read in a user's folder, in order.
pub(super) fn user_stems<'a>(sections: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    GENERAL.into_iter().chain(sections).collect()
}

fn stem_of(path: &Path) -> &str {
    path.file_stem()
        .and_then(|stem| stem.to_str())
        .unwrap_or_default()
}

fn is_built_in(stem: &str) -> bool {
    BUILT_IN_PROFILES.iter().any(|(name, _)| *name == stem)
}

/// Files that other parts and other programs keep beside ours.
fn is_foreign(path: &Path) -> bool {
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    matches!(name, "models.json" | "nextest.toml") || stem_of(path) == "training_config"
}
