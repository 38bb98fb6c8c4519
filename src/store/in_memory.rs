//! A model whose tensors are in no file, read like one that is.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicU64;

use ::safetensors::tensor::View;
use serde_json::Value;

use super::quant::{self, DType};
use super::{FloatType, Outgoing, StoreError, TensorInfo};

/// What errors call it in place of a file.
const NAME: &str = "(memory)";

/// Tensors in Hugging Face's names, and the `config.json` that goes with them.
#[derive(Debug)]
pub struct InMemory {
    config: Value,
    tensors: BTreeMap<String, (TensorInfo, Vec<u8>)>,
    pub(super) read: AtomicU64,
}

impl InMemory {
    /// Takes in tensors one by one, so that no more than one is here in two forms.
    ///
    /// # Errors
    /// If a shape does not fit its values, or a name comes twice.
    pub fn new<'a>(
        config: Value,
        tensors: impl Iterator<Item = Outgoing<'a>>,
    ) -> Result<Self, StoreError> {
        let mut taken = BTreeMap::new();
        for tensor in tensors {
            let wrong = |reason: String| {
                StoreError::malformed(Path::new(NAME), tensor.name.as_str(), reason)
            };
            if quant::elements(&tensor.shape) != Some(tensor.values.len()) {
                let (shape, count) = (&tensor.shape, tensor.values.len());
                return Err(wrong(format!("shape {shape:?} is not {count} values")));
            }
            let info = TensorInfo {
                name: tensor.name.clone(),
                shape: tensor.shape.clone(),
                dtype: match tensor.stored {
                    FloatType::F32 => DType::F32,
                    FloatType::Bf16 => DType::BF16,
                    FloatType::F16 => DType::F16,
                },
            };
            let bytes = tensor.data().into_owned();
            if taken.insert(tensor.name.clone(), (info, bytes)).is_some() {
                return Err(wrong("is given twice".to_owned()));
            }
        }
        Ok(InMemory {
            config,
            tensors: taken,
            read: AtomicU64::new(0),
        })
    }

    /// What stands in errors for the file.
    pub(super) fn path(&self) -> &Path {
        Path::new(NAME)
    }

    pub(super) fn config(&self) -> &Value {
        &self.config
    }

    pub(super) fn tensors(&self) -> impl Iterator<Item = &TensorInfo> {
        self.tensors.values().map(|(info, _)| info)
    }

    pub(super) fn get(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name).map(|(info, _)| info)
    }

    pub(super) fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.tensors.get(name).map(|(_, bytes)| bytes.as_slice())
    }

    pub(super) fn total_bytes(&self) -> u64 {
        let lengths = self.tensors.values().map(|(_, bytes)| bytes.len() as u64);
        lengths.sum()
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::store::Checkpoint;

    fn tensor(name: &str, shape: Vec<usize>, stored: FloatType) -> Outgoing<'static> {
        Outgoing {
            name: name.to_owned(),
            shape,
            stored,
            values: Cow::Borrowed(&[1.0, -2.5, 0.25, 3.0]),
        }
    }

    #[test]
    fn tensors_are_read_as_from_a_file() {
        let all = [FloatType::F32, FloatType::Bf16, FloatType::F16];
        let tensors = ["a", "b", "c"].into_iter().zip(all);
        let tensors = tensors.map(|(name, stored)| tensor(name, vec![2, 2], stored));
        let config = serde_json::json!({"model_type": "llama"});
        let memory = InMemory::new(config.clone(), tensors).unwrap();
        let checkpoint = Checkpoint::Memory(memory);
        assert_eq!(checkpoint.names().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(checkpoint.config_json(), Some(&config));
        assert!(checkpoint.metadata().is_none());
        assert_eq!(checkpoint.file_bytes(), 16 + 8 + 8);
        let mut values = Vec::new();
        for name in ["a", "b", "c"] {
            checkpoint.read_f32(name, &mut values).unwrap();
            assert_eq!(values, [1.0, -2.5, 0.25, 3.0]);
            assert_eq!(checkpoint.get(name).unwrap().shape, [2, 2]);
        }
        assert_eq!(checkpoint.bytes_read(), 32);
        let error = checkpoint.bytes("d").unwrap_err().to_string();
        assert!(error.contains("(memory)"), "{error}");
    }

    #[test]
    fn what_does_not_fit_is_named() {
        for (tensors, part) in [
            (vec![tensor("a", vec![3], FloatType::F32)], "4 values"),
            (
                vec![
                    tensor("a", vec![4], FloatType::F32),
                    tensor("a", vec![4], FloatType::F32),
                ],
                "twice",
            ),
        ] {
            let error = InMemory::new(Value::Null, tensors.into_iter()).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}
