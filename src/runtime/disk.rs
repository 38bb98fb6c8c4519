//! Models from the library on disk, computed by [`crate::llama`].

use std::sync::{Arc, Weak};

use dashmap::DashMap;

use super::source::{ModelSource, Opened, SourceError};
use crate::ids::ModelId;
use crate::llama::{self, Compute, KvMemory, Llama, LlamaForward, ModelConfig};
use crate::store::state_file::Sha256Hex;
use crate::store::{Installed, Library, Manifest, Model, StoreError};

/// A library and how to compute what it holds.
pub struct DiskModels {
    library: Library,
    config: llama::Config,
    compute: Compute,
    memory: KvMemory,
    /// What was opened last under a name, while it is in use: how much of it was read.
    opened: DashMap<ModelId, Weak<Model>>,
}

impl DiskModels {
    /// Models of `library`, on the device that `config` asks for.
    pub fn new(library: Library, config: llama::Config) -> Self {
        let compute = Compute::choose(config.dtype);
        DiskModels {
            library,
            config,
            compute,
            memory: KvMemory::default(),
            opened: DashMap::new(),
        }
    }

    /// The same, with caches kept as `memory` says.
    #[must_use]
    pub fn with_memory(mut self, memory: KvMemory) -> Self {
        self.memory = memory;
        self
    }

    /// The library.
    pub fn library(&self) -> &Library {
        &self.library
    }

    /// Reads a model and puts it on this thread's device, for work without actors.
    pub fn load(&self, name: &str) -> Result<(Model, LlamaForward), SourceError> {
        let installed = self.library.find(name).map_err(not_found)?;
        let model = Model::open(&installed.path).map_err(unusable)?;
        let llama = self.build(&model).map_err(unusable)?;
        let memory = self.memory_of(&installed);
        Ok((model, LlamaForward::with_memory(llama, memory)))
    }

    /// States of a model belong to its file: by the hash that was checked when it was installed, else by its path.
    fn memory_of(&self, installed: &Installed) -> KvMemory {
        let manifest = Manifest::read(&installed.path).ok().flatten();
        let text = match manifest {
            Some(manifest) => format!("{manifest:?}"),
            None => installed.path.display().to_string(),
        };
        KvMemory {
            model: Sha256Hex::of_content(text.as_bytes()),
            ..self.memory.clone()
        }
    }

    fn build(&self, model: &Model) -> Result<Llama, llama::LlamaError> {
        build(model, &self.config, self.compute)
    }
}

fn build(
    model: &Model,
    config: &llama::Config,
    compute: Compute,
) -> Result<Llama, llama::LlamaError> {
    Llama::load(
        &model.checkpoint,
        compute,
        config.prefill_chunk,
        config.context,
    )
}

impl ModelSource for DiskModels {
    fn names(&self) -> Vec<ModelId> {
        let installed = self.library.list().unwrap_or_default();
        installed.into_iter().map(|model| model.id).collect()
    }

    fn open(&self, name: &str) -> Result<Opened, SourceError> {
        let installed = self.library.find(name).map_err(not_found)?;
        let model = Model::open(&installed.path).map_err(unusable)?;
        let shape = ModelConfig::read(&model.checkpoint).map_err(unusable)?;
        if model.template.is_none() {
            let reason = model.template_error.as_deref().unwrap_or("it has none");
            tracing::warn!(model = %installed.id, reason, "no chat template from the model: using ChatML");
        }
        let template = model.chat_template();
        let parameters = model.summary.parameters as usize;
        let context = self.config.context.unwrap_or(usize::MAX).min(shape.context);
        let memory = self.memory_of(&installed);
        let kv_shape = memory.kv_shape(&shape, self.compute);
        let about = format!(
            "{:.0}M parameters, {} on disk, computed in {}",
            parameters as f64 / 1e6,
            model.summary.quantization,
            self.compute.about()
        );
        let (tokenizer, eos) = (model.tokenizer.clone(), model.eos.clone());
        let (model, config, compute) = (Arc::new(model), self.config.clone(), self.compute);
        let watched = Arc::downgrade(&model);
        self.opened.insert(installed.id.clone(), watched);
        Ok(Opened {
            id: installed.id,
            tokenizer,
            template: Arc::new(template),
            context,
            eos,
            shape: kv_shape,
            weight_bytes: Llama::estimated_bytes(&model.checkpoint, self.compute),
            about,
            build: Arc::new(move || {
                let llama = build(&model, &config, compute).map_err(unusable)?;
                Ok(Box::new(LlamaForward::with_memory(llama, memory.clone())))
            }),
        })
    }

    fn library(&self) -> Option<&Library> {
        Some(&self.library)
    }

    fn progress(&self, id: &ModelId) -> Option<f64> {
        let model = self.opened.get(id)?.upgrade()?;
        let read = model.checkpoint.bytes_read() as f64;
        // A format that the kernels do not read is found out after some of it was: it is read again for libtorch.
        Some((read / model.checkpoint.file_bytes().max(1) as f64).min(1.0))
    }
}

fn not_found(error: StoreError) -> SourceError {
    match error {
        StoreError::UnknownModel { .. } => SourceError::NotFound(error.to_string()),
        other => SourceError::Unusable(other.to_string()),
    }
}

fn unusable(error: impl std::fmt::Display) -> SourceError {
    SourceError::Unusable(error.to_string())
}
