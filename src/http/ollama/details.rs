//! What is told of a model beside its name.

use std::time::SystemTime;

use serde::Serialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::answer::rfc3339;
use crate::store::gguf::{Array, Metadata, Value as Entry};
use crate::store::{Checkpoint, Installed, Manifest, Summary};

/// A model in short.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Details {
    /// Models here are not made of others.
    parent_model: &'static str,
    format: &'static str,
    family: String,
    families: Vec<String>,
    parameter_size: String,
    quantization_level: String,
}

impl Details {
    /// Those of a model that is not on disk, or cannot be read.
    pub(super) fn unknown() -> Self {
        Details::default()
    }

    /// Those of an open model.
    pub(super) fn new(checkpoint: &Checkpoint, summary: &Summary) -> Self {
        let family = summary.architecture.clone().unwrap_or_default();
        Details {
            parent_model: "",
            format: match checkpoint {
                Checkpoint::Gguf(_) => "gguf",
                Checkpoint::Safetensors(_) | Checkpoint::Memory(_) => "safetensors",
            },
            families: vec![family.clone()],
            family,
            parameter_size: short(summary.parameters),
            quantization_level: summary.quantization.clone(),
        }
    }

    /// Those of an installed model; reads the head of its files.
    pub(super) fn of(model: &Installed) -> Self {
        match Checkpoint::open(&model.path) {
            Ok(checkpoint) => Details::new(&checkpoint, &Summary::new(&checkpoint, false)),
            Err(error) => {
                tracing::debug!(model = %model.id, %error, "listed without details");
                Details::unknown()
            }
        }
    }
}

/// A number of parameters for people.
fn short(parameters: u64) -> String {
    let number = parameters as f64;
    match parameters {
        0..1_000 => parameters.to_string(),
        1_000..1_000_000 => format!("{:.0}K", number / 1e3),
        1_000_000..1_000_000_000 => format!("{:.2}M", number / 1e6),
        _ => format!("{:.1}B", number / 1e9),
    }
}

/// What names the bytes of a model: the SHA-256 of its file, or one over those of all; empty when nothing was recorded.
pub(super) fn digest(manifest: Option<&Manifest>) -> String {
    let Some(manifest) = manifest else {
        return String::new();
    };
    match manifest.files.as_slice() {
        [file] => file.sha256.clone(),
        files => {
            let mut hash = Sha256::new();
            for file in files {
                hash.update(format!("{} {}\n", file.sha256, file.name));
            }
            hash.finalize()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect()
        }
    }
}

/// When a model was pulled, or else when its folder was changed.
pub(super) fn modified_at(model: &Installed) -> String {
    let recorded = model.manifest.as_ref().map(|manifest| &manifest.pulled_at);
    let recorded = recorded.and_then(|text| humantime::parse_rfc3339(text).ok());
    let changed = || std::fs::metadata(&model.path).and_then(|about| about.modified());
    let time = recorded.or_else(|| changed().ok());
    rfc3339(time.unwrap_or(SystemTime::UNIX_EPOCH))
}

/// What the file says of the model by the names that GGUF has for it, and how many parameters there are. Lists are
/// `null` unless `verbose`: those of a vocabulary are long.
pub(super) fn model_info(checkpoint: &Checkpoint, summary: &Summary, verbose: bool) -> Value {
    let mut info = Map::new();
    if let Some(metadata) = checkpoint.metadata() {
        info.extend(entries(metadata, verbose));
    } else {
        let family = summary.architecture.as_deref().unwrap_or("llama");
        info.insert("general.architecture".to_owned(), json!(family));
        info.insert(format!("{family}.block_count"), json!(summary.layers));
        info.insert(
            format!("{family}.context_length"),
            json!(summary.context_length),
        );
    }
    let parameters = json!(summary.parameters);
    info.insert("general.parameter_count".to_owned(), parameters);
    Value::Object(info)
}

fn entries(metadata: &Metadata, verbose: bool) -> impl Iterator<Item = (String, Value)> + '_ {
    metadata.iter().map(move |(key, entry)| {
        let value = match entry {
            Entry::Array(list) if verbose => array(list),
            Entry::Array(_) => Value::Null,
            Entry::String(text) => json!(text),
            Entry::Bool(flag) => json!(flag),
            Entry::F32(number) => json!(number),
            Entry::F64(number) => json!(number),
            Entry::I8(number) => json!(number),
            Entry::I16(number) => json!(number),
            Entry::I32(number) => json!(number),
            Entry::I64(number) => json!(number),
            Entry::U8(_) | Entry::U16(_) | Entry::U32(_) | Entry::U64(_) => json!(entry.as_u64()),
        };
        (key.to_owned(), value)
    })
}

fn array(list: &Array) -> Value {
    match list {
        Array::U8(list) => json!(list),
        Array::I8(list) => json!(list),
        Array::U16(list) => json!(list),
        Array::I16(list) => json!(list),
        Array::U32(list) => json!(list),
        Array::I32(list) => json!(list),
        Array::F32(list) => json!(list),
        Array::Bool(list) => json!(list),
        Array::String(list) => json!(list),
        Array::U64(list) => json!(list),
        Array::I64(list) => json!(list),
        Array::F64(list) => json!(list),
        Array::Array(list) => list.iter().map(array).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::manifest::FileRecord;

    #[test]
    fn numbers_of_parameters_are_short() {
        for (parameters, expected) in [
            (7, "7"),
            (52_000, "52K"),
            (134_515_008, "134.52M"),
            (7_615_616_512, "7.6B"),
        ] {
            assert_eq!(short(parameters), expected);
        }
    }

    #[test]
    fn one_file_is_named_by_its_hash_and_several_by_one_over_all() {
        let record = |name: &str, sha256: &str| FileRecord {
            name: name.to_owned(),
            size: 1,
            sha256: sha256.to_owned(),
            linked: false,
        };
        let manifest = |files| Manifest {
            source: "./m".to_owned(),
            revision: None,
            license: None,
            pulled_at: String::new(),
            files,
        };
        let one = manifest(vec![record("a", "11")]);
        assert_eq!(digest(Some(&one)), "11");
        let two = manifest(vec![record("a", "11"), record("b", "22")]);
        let other = manifest(vec![record("a", "11"), record("b", "23")]);
        assert_eq!(digest(Some(&two)).len(), 64);
        assert_ne!(digest(Some(&two)), digest(Some(&other)));
        assert_eq!(digest(None), "");
    }
}
