//! Small files and folders that are on the disk when the call returns.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::CheckpointError;
use crate::store::StoreError;

/// The longest JSON file of a checkpoint in bytes: a cursor over many files is a few kilobytes.
const LONGEST: u64 = 64 << 20;

/// Makes `folder`, with what it lies in, if it is not there.
pub(super) fn folder(folder: &Path) -> Result<(), CheckpointError> {
    Ok(fs::create_dir_all(folder).map_err(StoreError::io("create", folder))?)
}

/// Waits until the disk has the names of a folder.
pub(super) fn sync(folder: &Path) -> Result<(), CheckpointError> {
    let open = File::open(folder).map_err(StoreError::io("open", folder))?;
    Ok(open.sync_all().map_err(StoreError::io("sync", folder))?)
}

/// Writes JSON, indented, and waits until the disk has it.
pub(super) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), CheckpointError> {
    let malformed =
        |error: serde_json::Error| StoreError::malformed(path, "json", error.to_string());
    let mut text = serde_json::to_vec_pretty(value).map_err(malformed)?;
    text.push(b'\n');
    let mut file = File::create(path).map_err(StoreError::io("create", path))?;
    file.write_all(&text)
        .map_err(StoreError::io("write", path))?;
    Ok(file.sync_all().map_err(StoreError::io("sync", path))?)
}

/// Reads JSON of a known shape.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, CheckpointError> {
    let about = fs::metadata(path).map_err(StoreError::io("open", path))?;
    if about.len() > LONGEST {
        let reason = format!("has {} bytes, more than {LONGEST}", about.len());
        return Err(StoreError::malformed(path, "file", reason).into());
    }
    let bytes = fs::read(path).map_err(StoreError::io("read", path))?;
    let read = serde_json::from_slice(&bytes);
    Ok(read.map_err(|error| StoreError::malformed(path, "json", error.to_string()))?)
}

/// For a float that JSON should show as it was written, not as its neighbour in float64.
pub(super) fn short<S: Serializer>(value: &f32, serializer: S) -> Result<S::Ok, S::Error> {
    let text = value.to_string();
    serde_json::from_str::<Value>(&text)
        .map_err(serde::ser::Error::custom)?
        .serialize(serializer)
}
