//! Folders of safetensors files: one `model.safetensors`, or an index and its shards.
//!
//! The safetensors crate checks the header of each file; what it lets pass (a name twice, offsets
//! whose sum overflows) is checked before it is asked.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;

use ::safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;

use super::StoreError;
use super::checkpoint::TensorInfo;
use super::hf_folder;
use super::map::Mapped;
use super::quant::DType;

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// More shards than any published model has.
const MOST_SHARDS: usize = 4096;
/// The length field in front of the header.
const LENGTH_BYTES: usize = 8;

/// An open folder.
#[derive(Debug)]
pub struct Safetensors {
    path: PathBuf,
    config: Value,
    shards: Vec<Mapped>,
    tensors: BTreeMap<String, Placed>,
    pub(super) read: AtomicU64,
}

/// A tensor, its shard and its bytes there.
#[derive(Debug)]
struct Placed {
    info: TensorInfo,
    shard: usize,
    range: Range<usize>,
}

impl Safetensors {
    /// Maps and checks every file of the folder.
    ///
    /// # Errors
    /// [`StoreError::Malformed`] with the field, or [`StoreError::Unsupported`] for a number type
    /// other than F32, F16 and BF16.
    pub fn open(folder: &Path) -> Result<Safetensors, StoreError> {
        let config = hf_folder::read_json(&folder.join("config.json"))?;
        let index = read_index(folder)?;
        let mut open = Safetensors {
            path: folder.to_path_buf(),
            config,
            shards: Vec::new(),
            tensors: BTreeMap::new(),
            read: AtomicU64::new(0),
        };
        for name in shard_names(index.as_ref(), folder)? {
            open.add(
                &folder.join(&name),
                index.as_ref().map(|map| (map, name.as_str())),
            )?;
        }
        if let Some(missing) = index
            .iter()
            .flatten()
            .find(|(name, _)| open.get(name).is_none())
        {
            let reason = format!("{:?} is not in {}", missing.0, missing.1);
            return Err(StoreError::malformed(
                &folder.join(INDEX),
                "weight_map",
                reason,
            ));
        }
        Ok(open)
    }

    /// Maps and checks one file, whatever its name; there is no configuration then.
    ///
    /// # Errors
    /// As [`Safetensors::open`].
    pub fn open_file(path: &Path) -> Result<Safetensors, StoreError> {
        let mut open = Safetensors {
            path: path.to_path_buf(),
            config: Value::Null,
            shards: Vec::new(),
            tensors: BTreeMap::new(),
            read: AtomicU64::new(0),
        };
        open.add(path, None)?;
        Ok(open)
    }

    /// Maps one shard and takes up the tensors that the index, if there is one, expects in it.
    fn add(
        &mut self,
        path: &Path,
        index: Option<(&HashMap<String, String>, &str)>,
    ) -> Result<(), StoreError> {
        let map = Mapped::open(path)?;
        for (info, range) in read_header(&map, path)? {
            let expected = index.and_then(|(map, shard)| map.get(&info.name).map(|at| at == shard));
            if index.is_some() && expected != Some(true) {
                let reason = format!("{:?} is not where the index says", info.name);
                return Err(StoreError::malformed(path, "header", reason));
            }
            let placed = Placed {
                info,
                shard: self.shards.len(),
                range,
            };
            self.tensors.insert(placed.info.name.clone(), placed);
        }
        self.shards.push(map);
        Ok(())
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// See [`super::Checkpoint::let_go`].
    pub(super) fn let_go(&self) {
        self.shards.iter().for_each(Mapped::let_go);
    }

    /// The folder's `config.json`.
    pub fn config(&self) -> &Value {
        &self.config
    }

    /// The length of all shards in bytes.
    pub fn file_bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.len() as u64).sum()
    }

    /// All tensors, in order of their names.
    pub fn tensors(&self) -> impl Iterator<Item = &TensorInfo> {
        self.tensors.values().map(|placed| &placed.info)
    }

    /// The tensor called `name`.
    pub fn get(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name).map(|placed| &placed.info)
    }

    /// The stored bytes of the tensor called `name`.
    pub fn bytes(&self, name: &str) -> Option<&[u8]> {
        let placed = self.tensors.get(name)?;
        self.shards.get(placed.shard)?.get(placed.range.clone())
    }
}

/// The index's map from tensor to shard, if there is an index.
fn read_index(folder: &Path) -> Result<Option<HashMap<String, String>>, StoreError> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: HashMap<String, String>,
    }
    let path = folder.join(INDEX);
    if !path.exists() {
        return Ok(None);
    }
    let index: Index = hf_folder::read_json(&path)?;
    if index.weight_map.is_empty() {
        return Err(StoreError::malformed(&path, "weight_map", "is empty"));
    }
    Ok(Some(index.weight_map))
}

/// The shards to open, each a plain file name of this folder.
fn shard_names(
    index: Option<&HashMap<String, String>>,
    folder: &Path,
) -> Result<BTreeSet<String>, StoreError> {
    let Some(index) = index else {
        return Ok(BTreeSet::from([SINGLE.to_owned()]));
    };
    let names: BTreeSet<String> = index.values().cloned().collect();
    let path = folder.join(INDEX);
    if names.len() > MOST_SHARDS {
        let reason = format!(
            "names {} shards, and {MOST_SHARDS} is the limit",
            names.len()
        );
        return Err(StoreError::malformed(&path, "weight_map", reason));
    }
    match names.iter().find(|name| !is_shard_name(name)) {
        Some(bad) => {
            let reason = format!("{bad:?} is not the plain name of a .safetensors file");
            Err(StoreError::malformed(&path, "weight_map", reason))
        }
        None => Ok(names),
    }
}

fn is_shard_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    name.ends_with(".safetensors")
        && name.chars().all(plain)
        && !name.starts_with('.')
        && !name.contains("..")
}

/// The tensors of one file and their places in it.
fn read_header(bytes: &[u8], path: &Path) -> Result<Vec<(TensorInfo, Range<usize>)>, StoreError> {
    let bad = |reason: String| StoreError::malformed(path, "header", reason);
    check_header(bytes).map_err(bad)?;
    let (length, header) =
        SafeTensors::read_metadata(bytes).map_err(|error| bad(error.to_string()))?;
    let start = length.saturating_add(LENGTH_BYTES);
    let mut tensors = Vec::new();
    for (name, tensor) in header.tensors() {
        let dtype = number_type(tensor.dtype).ok_or_else(|| StoreError::Unsupported {
            path: path.to_path_buf(),
            reason: format!(
                "tensor {name:?} is {:?}, and F32, F16 and BF16 are read",
                tensor.dtype
            ),
        })?;
        let (from, to) = tensor.data_offsets;
        let range = start.saturating_add(from)..start.saturating_add(to);
        if range.is_empty() || bytes.get(range.clone()).is_none() {
            return Err(bad(format!("tensor {name:?} is empty or outside the file")));
        }
        tensors.push((
            TensorInfo {
                name,
                shape: tensor.shape.clone(),
                dtype,
            },
            range,
        ));
    }
    Ok(tensors)
}

fn number_type(dtype: Dtype) -> Option<DType> {
    match dtype {
        Dtype::F32 => Some(DType::F32),
        Dtype::F16 => Some(DType::F16),
        Dtype::BF16 => Some(DType::BF16),
        _ => None,
    }
}

/// What the crate does not check: names are unique and no offset is past the end of the file.
fn check_header(bytes: &[u8]) -> Result<(), String> {
    let cut = || "is cut short".to_owned();
    let (length, rest) = bytes.split_first_chunk::<LENGTH_BYTES>().ok_or_else(cut)?;
    let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| cut())?;
    let text = rest.get(..length).ok_or_else(cut)?;
    let Offsets(ends) = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    match ends.into_iter().find(|(_, end)| *end > bytes.len() as u64) {
        Some((name, end)) => Err(format!(
            "tensor {name:?} ends at {end}, past the end of the file"
        )),
        None => Ok(()),
    }
}

/// Each tensor's name and end, names unique.
struct Offsets(Vec<(String, u64)>);

impl<'de> Deserialize<'de> for Offsets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(OffsetsVisitor)
    }
}

struct OffsetsVisitor;

impl<'de> Visitor<'de> for OffsetsVisitor {
    type Value = Offsets;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map from tensor names to their places")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Offsets, A::Error> {
        #[derive(Deserialize)]
        struct Place {
            data_offsets: (u64, u64),
        }
        let mut names = BTreeSet::new();
        let mut ends = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            if !names.insert(name.clone()) {
                return Err(serde::de::Error::custom(format!("{name:?} is there twice")));
            }
            if name == "__metadata__" {
                map.next_value::<serde::de::IgnoredAny>()?;
                continue;
            }
            let place: Place = map.next_value()?;
            ends.push((name, place.data_offsets.1));
        }
        Ok(Offsets(ends))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use ::safetensors::tensor::TensorView;

    fn file(name: &str, values: &[f32]) -> Vec<u8> {
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        let view = TensorView::new(Dtype::F32, vec![values.len()], &bytes).unwrap();
        ::safetensors::serialize([(name, view)], None).unwrap()
    }

    fn folder(files: &[(&str, Vec<u8>)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), "{}").unwrap();
        for (name, bytes) in files {
            std::fs::write(folder.path().join(name), bytes).unwrap();
        }
        folder
    }

    #[test]
    fn shards_open_as_one() {
        let index = br#"{"weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}}"#;
        let folder = folder(&[
            (INDEX, index.to_vec()),
            ("m-1.safetensors", file("a", &[1.0, 2.0])),
            ("m-2.safetensors", file("b", &[3.0])),
        ]);
        let open = Safetensors::open(folder.path()).unwrap();
        assert_eq!(open.bytes("b").unwrap(), 3.0f32.to_le_bytes());
        assert_eq!(open.get("a").unwrap().shape, [2]);
    }

    #[test]
    fn an_index_cannot_leave_its_folder_or_lie() {
        let cases: [(&str, &str); 5] = [
            (r#"{"weight_map": {"a": "../m.safetensors"}}"#, "plain name"),
            (r#"{"weight_map": {"a": "/m.safetensors"}}"#, "plain name"),
            (r#"{"weight_map": {"a": "m.txt"}}"#, "plain name"),
            (
                r#"{"weight_map": {"a": "m.safetensors", "z": "m.safetensors"}}"#,
                "\"z\" is not in",
            ),
            (
                r#"{"weight_map": {"z": "m.safetensors"}}"#,
                "not where the index says",
            ),
        ];
        for (index, part) in cases {
            let files = [
                (INDEX, index.as_bytes().to_vec()),
                ("m.safetensors", file("a", &[1.0])),
            ];
            let error = Safetensors::open(folder(&files).path())
                .unwrap_err()
                .to_string();
            assert!(error.contains(part), "{index}: {error}");
        }
    }

    #[test]
    fn a_name_twice_and_a_far_offset_are_refused() {
        let place = r#"{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#;
        let far = r#"{"dtype":"F32","shape":[1],"data_offsets":[0,18446744073709551615]}"#;
        for (header, part) in [
            (format!(r#"{{"a":{place},"a":{place}}}"#), "twice"),
            (format!(r#"{{"a":{far}}}"#), "past the end"),
        ] {
            let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
            bytes.extend(header.as_bytes());
            bytes.extend([0; 4]);
            let error = Safetensors::open(folder(&[(SINGLE, bytes)]).path()).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}
