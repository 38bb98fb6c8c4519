//! The tensors of a model, whatever the format of its files.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;

use super::StoreError;
use super::gguf::{Gguf, Metadata};
use super::hf_folder;
use super::in_memory::InMemory;
use super::quant::{self, DType};
use super::safetensors::Safetensors;

/// What is known of one tensor without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// The name in the file.
    pub name: String,
    /// Row major, outermost first; GGUF's dimensions reversed.
    pub shape: Vec<usize>,
    /// How the elements are stored.
    pub dtype: DType,
}

impl TensorInfo {
    /// The number of elements; checked to fit when the file was opened.
    pub fn elements(&self) -> usize {
        quant::elements(&self.shape).unwrap_or(0)
    }
}

/// An open model file or folder. Sharing it between threads is free: all state is read-only.
#[derive(Debug)]
pub enum Checkpoint {
    /// One GGUF file.
    Gguf(Gguf),
    /// A folder with `config.json` and safetensors files.
    Safetensors(Safetensors),
    /// Tensors that are in no file.
    Memory(InMemory),
}

impl Checkpoint {
    /// Opens a `.gguf` file, or a folder that holds one `.gguf` file, or `config.json` and
    /// safetensors.
    ///
    /// # Errors
    /// If nothing readable is there, or it is malformed or not supported.
    pub fn open(path: &Path) -> Result<Checkpoint, StoreError> {
        let about = std::fs::metadata(path).map_err(StoreError::io("open", path))?;
        if !about.is_dir() {
            return Gguf::open(path).map(Checkpoint::Gguf);
        }
        let gguf = gguf_files(path)?;
        let folder = hf_folder::looks_like(path);
        match (gguf.as_slice(), folder) {
            ([file], false) => Gguf::open(file).map(Checkpoint::Gguf),
            ([], true) => Safetensors::open(path).map(Checkpoint::Safetensors),
            ([], false) => Err(unsupported(
                path,
                "the folder holds neither a .gguf file nor config.json with safetensors",
            )),
            (files, false) => Err(unsupported(
                path,
                format!(
                    "the folder holds {} .gguf files: name the one to open",
                    files.len()
                ),
            )),
            (_, true) => Err(unsupported(
                path,
                "the folder holds both .gguf and safetensors: name the .gguf file to open",
            )),
        }
    }

    /// The file or folder.
    pub fn path(&self) -> &Path {
        match self {
            Checkpoint::Gguf(file) => file.path(),
            Checkpoint::Safetensors(folder) => folder.path(),
            Checkpoint::Memory(memory) => memory.path(),
        }
    }

    /// All tensors, in order of their names.
    pub fn tensors(&self) -> Box<dyn Iterator<Item = &TensorInfo> + '_> {
        match self {
            Checkpoint::Gguf(file) => Box::new(file.tensors()),
            Checkpoint::Safetensors(folder) => Box::new(folder.tensors()),
            Checkpoint::Memory(memory) => Box::new(memory.tensors()),
        }
    }

    /// The names of all tensors, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors().map(|info| info.name.as_str())
    }

    /// The tensor called `name`.
    pub fn get(&self, name: &str) -> Option<&TensorInfo> {
        match self {
            Checkpoint::Gguf(file) => file.get(name),
            Checkpoint::Safetensors(folder) => folder.get(name),
            Checkpoint::Memory(memory) => memory.get(name),
        }
    }

    /// The stored bytes of the tensor called `name`, straight from the mapped file.
    ///
    /// # Errors
    /// [`StoreError::NoTensor`].
    pub fn bytes(&self, name: &str) -> Result<&[u8], StoreError> {
        let found = match self {
            Checkpoint::Gguf(file) => file.bytes(name),
            Checkpoint::Safetensors(folder) => folder.bytes(name),
            Checkpoint::Memory(memory) => memory.bytes(name),
        };
        let bytes = found.ok_or_else(|| StoreError::NoTensor {
            path: self.path().to_path_buf(),
            name: name.to_owned(),
        })?;
        self.read().fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(bytes)
    }

    /// Bytes of tensors that were asked for since it was opened, those that were asked for again too: how far a load is.
    pub fn bytes_read(&self) -> u64 {
        self.read().load(Ordering::Relaxed)
    }

    /// Lets go of the pages of its files, once what is needed of them was copied: they would count as the process's memory.
    pub fn let_go(&self) {
        match self {
            Checkpoint::Gguf(file) => file.let_go(),
            Checkpoint::Safetensors(folder) => folder.let_go(),
            Checkpoint::Memory(_) => {}
        }
    }

    fn read(&self) -> &AtomicU64 {
        match self {
            Checkpoint::Gguf(file) => &file.read,
            Checkpoint::Safetensors(folder) => &folder.read,
            Checkpoint::Memory(memory) => &memory.read,
        }
    }

    /// Replaces `out` by the elements of the tensor called `name`, row major.
    ///
    /// # Errors
    /// [`StoreError::NoTensor`].
    pub fn read_f32(&self, name: &str, out: &mut Vec<f32>) -> Result<(), StoreError> {
        let bytes = self.bytes(name)?;
        let info = self.get(name).ok_or_else(|| StoreError::NoTensor {
            path: self.path().to_path_buf(),
            name: name.to_owned(),
        })?;
        out.clear();
        out.resize(info.elements(), 0.0);
        quant::dequantize(info.dtype, bytes, out).map_err(|error| {
            StoreError::malformed(self.path(), format!("tensor {name:?}"), error.to_string())
        })
    }

    /// The metadata of a GGUF file.
    pub fn metadata(&self) -> Option<&Metadata> {
        match self {
            Checkpoint::Gguf(file) => Some(file.metadata()),
            Checkpoint::Safetensors(_) | Checkpoint::Memory(_) => None,
        }
    }

    /// The `config.json` of a safetensors folder.
    pub fn config_json(&self) -> Option<&Value> {
        match self {
            Checkpoint::Gguf(_) => None,
            Checkpoint::Safetensors(folder) => Some(folder.config()),
            Checkpoint::Memory(memory) => Some(memory.config()),
        }
    }

    /// The length of all weight files in bytes; of tensors in memory, theirs.
    pub fn file_bytes(&self) -> u64 {
        match self {
            Checkpoint::Gguf(file) => file.file_bytes(),
            Checkpoint::Safetensors(folder) => folder.file_bytes(),
            Checkpoint::Memory(memory) => memory.total_bytes(),
        }
    }
}

fn unsupported(path: &Path, reason: impl Into<String>) -> StoreError {
    StoreError::Unsupported {
        path: path.to_path_buf(),
        reason: reason.into(),
    }
}

/// The `.gguf` files of a folder, sorted.
pub(super) fn gguf_files(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(StoreError::io("list", folder))? {
        let path = entry.map_err(StoreError::io("list", folder))?.path();
        if path
            .extension()
            .is_some_and(|e| e.eq_ignore_ascii_case("gguf"))
            && path.is_file()
        {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::super::gguf::write::Writer;
    use super::*;

    fn tiny() -> Vec<u8> {
        let values: Vec<f32> = (0..64).map(|i| i as f32).collect();
        Writer::new()
            .tensor(
                "half",
                &[2, 32],
                DType::F16,
                quant::encode(DType::F16, &values).unwrap(),
            )
            .finish()
    }

    #[test]
    fn a_file_and_a_folder_with_one_file_open_alike() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.gguf");
        std::fs::write(&file, tiny()).unwrap();
        for path in [file.as_path(), folder.path()] {
            let checkpoint = Checkpoint::open(path).unwrap();
            assert_eq!(checkpoint.names().collect::<Vec<_>>(), ["half"]);
            let mut out = vec![9.0; 3];
            checkpoint.read_f32("half", &mut out).unwrap();
            assert_eq!((out.len(), out[63]), (64, 63.0));
            assert!(matches!(
                checkpoint.bytes("none"),
                Err(StoreError::NoTensor { .. })
            ));
        }
    }

    #[test]
    fn an_unclear_folder_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let empty = Checkpoint::open(folder.path()).unwrap_err().to_string();
        assert!(empty.contains("neither"), "{empty}");
        std::fs::write(folder.path().join("a.gguf"), tiny()).unwrap();
        std::fs::write(folder.path().join("b.gguf"), tiny()).unwrap();
        let two = Checkpoint::open(folder.path()).unwrap_err().to_string();
        assert!(two.contains("2 .gguf files"), "{two}");
    }

    #[test]
    fn a_checkpoint_crosses_threads() {
        fn crosses<T: Send + Sync>() {}
        crosses::<Checkpoint>();
    }
}
