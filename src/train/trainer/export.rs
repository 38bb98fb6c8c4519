//! The model that a run leaves, servable as soon as it is saved.

use chrono::{DateTime, SecondsFormat};

use super::{TrainError, Trainer, now};
use crate::ids::ModelId;
use crate::store::{Fetch, FloatType, Library, PullRequest, Silent, Source};
use crate::train::checkpoint::{save_adapter, save_model};
use crate::train::recipe::ExportType;

impl Trainer {
    /// Writes the model into the run's folder and installs it under `export.name`, or the run's name.
    pub(super) fn export(&mut self, library: &Library) -> Result<String, TrainError> {
        let folder = self.folder.path().join("model");
        let stored = match self.recipe.export.dtype {
            ExportType::Fp32 => FloatType::F32,
            ExportType::Bf16 => FloatType::Bf16,
            ExportType::Fp16 => FloatType::F16,
        };
        save_model(&folder, &self.network, stored)?;
        if self.network.options().lora.is_some() {
            save_adapter(&self.folder.path().join("adapter"), &self.network)?;
        }
        self.origin.words.save(&folder)?;
        let name = self.recipe.export.name.clone();
        let name = name.unwrap_or_else(|| self.folder.id().to_string());
        let id: ModelId = name.parse().map_err(|error: crate::ids::BadModelId| {
            TrainError::key(
                "export.name",
                format!("{name:?} is no name of a model: {error}"),
            )
        })?;
        if library
            .find(id.as_str())
            .is_ok_and(|found| found.manifest.is_some())
        {
            library.remove(&id)?;
        }
        let time = DateTime::from_timestamp(now() as i64, 0).unwrap_or_default();
        let request = PullRequest {
            source: Source::Path(folder),
            id: Some(id),
            link: false,
            pulled_at: time.to_rfc3339_opts(SecondsFormat::Secs, true),
        };
        let installed = library.pull(&Fetch::from_env(|_| None), &request, &mut Silent)?;
        Ok(installed.id.to_string())
    }
}
