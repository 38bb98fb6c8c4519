//! Safetensors files as they are written: tensor by tensor, so that no second copy of a model is in memory.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

use ::safetensors::tensor::{Dtype, View};
use half::{bf16, f16};

use super::StoreError;

/// How the values of a written tensor are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FloatType {
    /// 32 bits: nothing is lost.
    F32,
    /// The upper half of float32, rounded to the nearest even.
    Bf16,
    /// IEEE half precision, rounded to the nearest even; values past 65504 become infinite.
    F16,
}

impl FloatType {
    fn bytes(self) -> usize {
        match self {
            FloatType::F32 => 4,
            FloatType::Bf16 | FloatType::F16 => 2,
        }
    }
}

/// A tensor to write.
#[derive(Debug, Clone)]
pub struct Outgoing<'a> {
    /// The name in the file.
    pub name: String,
    /// Row major, outermost first; the product is the number of values.
    pub shape: Vec<usize>,
    /// How it is stored.
    pub stored: FloatType,
    /// The elements.
    pub values: Cow<'a, [f32]>,
}

impl View for Outgoing<'_> {
    fn dtype(&self) -> Dtype {
        match self.stored {
            FloatType::F32 => Dtype::F32,
            FloatType::Bf16 => Dtype::BF16,
            FloatType::F16 => Dtype::F16,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let mut bytes = vec![0; self.data_len()];
        match self.stored {
            FloatType::F32 => encode(&self.values, &mut bytes, f32::to_le_bytes),
            FloatType::Bf16 => encode(&self.values, &mut bytes, |x| {
                bf16::from_f32(x).to_le_bytes()
            }),
            FloatType::F16 => encode(&self.values, &mut bytes, |x| f16::from_f32(x).to_le_bytes()),
        }
        Cow::Owned(bytes)
    }

    fn data_len(&self) -> usize {
        self.values.len() * self.stored.bytes()
    }
}

fn encode<const N: usize>(values: &[f32], bytes: &mut [u8], one: impl Fn(f32) -> [u8; N]) {
    for (slot, x) in bytes.as_chunks_mut::<N>().0.iter_mut().zip(values) {
        *slot = one(*x);
    }
}

/// Writes `tensors` and `notes`, the file's metadata, to `path` and waits until the disk has them.
///
/// # Errors
/// If a shape does not fit its values, a name comes twice, or the file system refuses.
pub fn write_safetensors(
    path: &Path,
    tensors: Vec<Outgoing<'_>>,
    notes: HashMap<String, String>,
) -> Result<(), StoreError> {
    let mut names = std::collections::HashSet::new();
    for tensor in &tensors {
        let count = super::quant::elements(&tensor.shape);
        if count != Some(tensor.values.len()) {
            let reason = format!(
                "shape {:?} is not {} values",
                tensor.shape,
                tensor.values.len()
            );
            return Err(StoreError::malformed(path, tensor.name.as_str(), reason));
        }
        if !names.insert(tensor.name.as_str()) {
            let reason = "is to be written twice";
            return Err(StoreError::malformed(path, tensor.name.as_str(), reason));
        }
    }
    drop(names);
    let named = tensors
        .into_iter()
        .map(|tensor| (tensor.name.clone(), tensor));
    ::safetensors::serialize_to_file(named, Some(notes), path).map_err(|error| {
        let source = match error {
            ::safetensors::SafeTensorError::IoError(source) => source,
            other => std::io::Error::other(other.to_string()),
        };
        StoreError::io("write", path)(source)
    })?;
    let file = File::open(path).map_err(StoreError::io("open", path))?;
    file.sync_all().map_err(StoreError::io("sync", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Checkpoint, Safetensors};

    fn tensor(name: &str, stored: FloatType) -> Outgoing<'static> {
        Outgoing {
            name: name.to_owned(),
            shape: vec![2, 2],
            stored,
            values: Cow::Owned(vec![1.0, -2.5, 0.1, 3.0e-5]),
        }
    }

    #[test]
    fn what_is_written_is_read_back_within_its_width() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("any.safetensors");
        let tensors = vec![
            tensor("whole", FloatType::F32),
            tensor("brain", FloatType::Bf16),
            tensor("half", FloatType::F16),
        ];
        write_safetensors(&path, tensors, HashMap::from([("a".into(), "b".into())])).unwrap();
        let read = Checkpoint::Safetensors(Safetensors::open_file(&path).unwrap());
        for (name, within) in [("whole", 0.0), ("brain", 0.004), ("half", 0.001)] {
            let mut values = Vec::new();
            read.read_f32(name, &mut values).unwrap();
            assert_eq!(read.get(name).unwrap().shape, [2, 2]);
            for (a, b) in values.iter().zip(&*tensor(name, FloatType::F32).values) {
                assert!((a - b).abs() <= within * b.abs(), "{name}: {a} for {b}");
            }
        }
    }

    #[test]
    fn a_wrong_shape_a_second_name_and_a_missing_folder_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let mut wrong = tensor("x", FloatType::F32);
        wrong.shape = vec![3];
        let twice = vec![tensor("x", FloatType::F32), tensor("x", FloatType::F32)];
        for (tensors, at, part) in [
            (vec![wrong], path.clone(), "is not 4 values"),
            (twice, path.clone(), "twice"),
            (
                vec![tensor("x", FloatType::F32)],
                folder.path().join("none/a.safetensors"),
                "cannot write",
            ),
        ] {
            let error = write_safetensors(&at, tensors, HashMap::new()).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}
