//! The models on this machine.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::catalog::Catalog;
use super::checkpoint::Checkpoint;
use super::error::closest;
use super::home::create_private;
use super::manifest::{self, Manifest};
use super::pull::{self, Fetch, Progress, PullRequest};
use super::{Home, Source, StoreError, disk};
use crate::ids::ModelId;

/// The installed models and the catalogue to pull more from.
#[derive(Debug, Clone)]
pub struct Library {
    home: Home,
    catalog: Catalog,
}

/// A model that is on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// Its name.
    pub id: ModelId,
    /// Its folder, or its file if it was named by path.
    pub path: PathBuf,
    /// The record of its pull; `None` for a model that was put there by hand.
    pub manifest: Option<Manifest>,
}

/// What a check of an installed model found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The model.
    pub id: ModelId,
    /// Each file of the manifest.
    pub files: Vec<FileReport>,
    /// The number of tensors, each inside its file, or why the model does not open.
    pub tensors: Result<usize, String>,
}

/// What a check of one file found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileReport {
    /// The file's name.
    pub name: String,
    /// Its state.
    pub state: FileState,
}

/// A file against its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FileState {
    /// As recorded.
    Whole,
    /// Other bytes than recorded.
    Changed,
    /// Not there.
    Missing,
}

impl Report {
    /// True if nothing is wrong.
    pub fn is_whole(&self) -> bool {
        self.tensors.is_ok() && self.files.iter().all(|file| file.state == FileState::Whole)
    }
}

impl Library {
    /// The library of `home`.
    pub fn new(home: Home, catalog: Catalog) -> Library {
        Library { home, catalog }
    }

    /// Where the models are.
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// The models that can be pulled by name.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Every installed model, in order of the names. A folder whose name is no model name is passed
    /// over; a manifest that cannot be read counts as none here, and [`Library::verify`] says why.
    ///
    /// # Errors
    /// If the models folder cannot be listed.
    pub fn list(&self) -> Result<Vec<Installed>, StoreError> {
        let folder = self.home.models();
        if !folder.exists() {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&folder).map_err(StoreError::io("list", &folder))? {
            let path = entry.map_err(StoreError::io("list", &folder))?.path();
            let id = path
                .file_name()
                .and_then(|name| name.to_str()?.parse().ok());
            if let Some(id) = id.filter(|_| path.is_dir()) {
                let manifest = Manifest::read(&path).ok().flatten();
                found.push(Installed { id, path, manifest });
            }
        }
        found.sort_by(|left, right| left.id.cmp(&right.id));
        Ok(found)
    }

    /// The model called `name`; `name:version` of the default version is `name`; a path to a file
    /// or folder is taken as it is.
    ///
    /// # Errors
    /// [`StoreError::UnknownModel`] with what to do, or the closest name.
    pub fn find(&self, name: &str) -> Result<Installed, StoreError> {
        if let Ok(source @ Source::Path(_)) = name.parse::<Source>() {
            return self.at_path(&source, name);
        }
        let alias = self
            .catalog
            .lookup(name)
            .ok()
            .map(|found| found.install_name());
        for candidate in std::iter::once(name).chain(alias.as_deref()) {
            if let Ok(id) = candidate.parse::<ModelId>()
                && let Some(found) = self.at_id(id)?
            {
                return Ok(found);
            }
        }
        Err(StoreError::UnknownModel {
            name: name.to_owned(),
            closest: self.hint(name),
        })
    }

    fn at_id(&self, id: ModelId) -> Result<Option<Installed>, StoreError> {
        let path = self.home.models().join(id.as_str());
        if !path.is_dir() {
            return Ok(None);
        }
        let manifest = Manifest::read(&path)?;
        Ok(Some(Installed { id, path, manifest }))
    }

    fn at_path(&self, source: &Source, text: &str) -> Result<Installed, StoreError> {
        let path = Path::new(text);
        if !path.exists() {
            let hint = "there is no such path; a hub repository is written hf:owner/repo";
            let closest = Some(hint.to_owned());
            return Err(StoreError::UnknownModel {
                name: text.to_owned(),
                closest,
            });
        }
        let name: String = source.default_name().replace(|c: char| !is_id_char(c), "-");
        let name = name.trim_start_matches(['-', '.', '_']).replace("..", ".");
        let id =
            name.parse()
                .or_else(|_| "model".parse())
                .map_err(|_| StoreError::UnknownModel {
                    name: text.to_owned(),
                    closest: None,
                })?;
        Ok(Installed {
            id,
            path: path.to_path_buf(),
            manifest: None,
        })
    }

    /// What someone who wrote `name` may have meant.
    fn hint(&self, name: &str) -> Option<String> {
        if self.catalog.lookup(name).is_ok() {
            return Some(format!(
                "it is in the catalogue: run `llamahome pull {name}`"
            ));
        }
        let installed = self.list().unwrap_or_default();
        let here = installed.iter().map(|model| model.id.as_str());
        let known = here.chain(self.catalog.iter().map(|(name, _)| name));
        closest(name, known).map(|near| format!("did you mean {near:?}"))
    }

    /// Pulls a model, see [`pull::pull`].
    ///
    /// # Errors
    /// As there.
    pub fn pull(
        &self,
        fetch: &Fetch,
        request: &PullRequest,
        progress: &mut dyn Progress,
    ) -> Result<Installed, StoreError> {
        pull::pull(&self.home, &self.catalog, fetch, request, progress)
    }

    /// Hashes every file of a model against its manifest and checks that it opens, which checks
    /// that every tensor lies inside its file.
    ///
    /// # Errors
    /// If there is no such model or its manifest is broken; a broken model is a report, not an error.
    pub fn verify(&self, id: &ModelId) -> Result<Report, StoreError> {
        let model = self.must_have(id)?;
        let records = model.manifest.iter().flat_map(|manifest| &manifest.files);
        let files = records.map(|record| {
            let path = model.path.join(&record.name);
            let state = match disk::sha256(&path, |_| ()) {
                Ok((hash, size)) if hash == record.sha256 && size == record.size => {
                    FileState::Whole
                }
                Ok(_) => FileState::Changed,
                Err(_) if !path.exists() => FileState::Missing,
                Err(_) => FileState::Changed,
            };
            FileReport {
                name: record.name.clone(),
                state,
            }
        });
        let opened = Checkpoint::open(&model.path);
        Ok(Report {
            id: id.clone(),
            files: files.collect(),
            tensors: opened
                .map(|open| open.tensors().count())
                .map_err(|error| error.to_string()),
        })
    }

    /// Removes an installed model; linked files elsewhere stay. The folder is renamed first, so a
    /// removal that is cut off leaves no half model.
    ///
    /// # Errors
    /// If there is no such model, it is being pulled, or the disk refuses.
    pub fn remove(&self, id: &ModelId) -> Result<(), StoreError> {
        let model = self.must_have(id)?;
        let _held = pull::lock(&self.home, id)?;
        let doomed = self
            .home
            .models()
            .join(".partial")
            .join(format!("{id}.removed"));
        if doomed.exists() {
            std::fs::remove_dir_all(&doomed).map_err(StoreError::io("remove", &doomed))?;
        }
        std::fs::rename(&model.path, &doomed).map_err(StoreError::io("remove", &model.path))?;
        std::fs::remove_dir_all(&doomed).map_err(StoreError::io("remove", &doomed))
    }

    /// Gives an installed model a second name. The weights lie on the disk once, and go with the last of their names.
    ///
    /// # Errors
    /// If there is no such model, the name is taken or being pulled under, or the disk refuses.
    pub fn copy(&self, from: &ModelId, to: &ModelId) -> Result<Installed, StoreError> {
        let model = self.must_have(from)?;
        if let Some(present) = self.at_id(to.clone())? {
            let manifest = present.manifest.as_ref();
            return Err(StoreError::Exists {
                id: to.to_string(),
                from: manifest
                    .map_or("an unknown source", |m| &m.source)
                    .to_owned(),
            });
        }
        // Whoever takes the name meanwhile makes the rename at the end fail.
        let _held = (pull::lock(&self.home, from)?, pull::lock(&self.home, to)?);
        let target = self.home.models().join(to.as_str());
        let draft = self
            .home
            .models()
            .join(".partial")
            .join(format!("{to}.copy"));
        if draft.exists() {
            std::fs::remove_dir_all(&draft).map_err(StoreError::io("remove", &draft))?;
        }
        create_private(&draft)?;
        let list = std::fs::read_dir(&model.path).map_err(StoreError::io("list", &model.path))?;
        for entry in list {
            let path = entry.map_err(StoreError::io("list", &model.path))?.path();
            let name = path.file_name().unwrap_or_default();
            let place = draft.join(name);
            // A manifest is written in place: each name has its own.
            let linked = name != manifest::FILE && std::fs::hard_link(&path, &place).is_ok();
            if !linked {
                std::fs::copy(&path, &place).map_err(StoreError::io("copy", &path))?;
                disk::sync(&place)?;
            }
        }
        disk::sync(&draft)?;
        std::fs::rename(&draft, &target).map_err(StoreError::io("move the model to", &target))?;
        disk::sync(&self.home.models())?;
        Ok(Installed {
            id: to.clone(),
            path: target,
            manifest: model.manifest,
        })
    }

    fn must_have(&self, id: &ModelId) -> Result<Installed, StoreError> {
        self.at_id(id.clone())?
            .ok_or_else(|| StoreError::UnknownModel {
                name: id.to_string(),
                closest: self.hint(id.as_str()),
            })
    }
}

impl Installed {
    /// Bytes of its files: as recorded, or those that lie in its folder.
    pub fn bytes(&self) -> u64 {
        if let Some(manifest) = &self.manifest {
            return manifest.bytes();
        }
        let entries = std::fs::read_dir(&self.path).into_iter().flatten();
        let sizes = entries
            .flatten()
            .filter_map(|entry| std::fs::metadata(entry.path()).ok());
        sizes.fold(0, |sum, about| sum.saturating_add(about.len()))
    }
}

fn is_id_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | ':')
}
