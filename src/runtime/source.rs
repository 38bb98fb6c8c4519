//! Where the runtime gets its models from.

use std::sync::Arc;

use crate::ids::{ModelId, TokenId};
use crate::kv::KvShape;
use crate::sched::Forward;
use crate::store::Library;
use crate::text::{ChatTemplate, Tokenizer};

/// Makes the model on the worker's thread; called again after a worker was lost.
pub type Builder = Arc<dyn Fn() -> Result<Box<dyn Forward>, SourceError> + Send + Sync>;

/// A model that was found and read but not yet put on a device.
#[derive(Clone)]
pub struct Opened {
    /// Its name.
    pub id: ModelId,
    /// Text to ids and back.
    pub tokenizer: Tokenizer,
    /// How a chat is written.
    pub template: Arc<ChatTemplate>,
    /// Positions that there are.
    pub context: usize,
    /// Ids that end a text.
    pub eos: Vec<TokenId>,
    /// What a token costs in KV cache.
    pub shape: KvShape,
    /// Bytes that the weights will take in memory, as estimated from the file.
    pub weight_bytes: usize,
    /// One line for people: parameters, format, compute type.
    pub about: String,
    /// What puts it on the device.
    pub build: Builder,
}

/// Why a model cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// There is no such model.
    #[error("{0}")]
    NotFound(String),
    /// It is there and cannot be used.
    #[error("{0}")]
    Unusable(String),
}

/// Finds models by name. Called off the async threads.
pub trait ModelSource: Send + Sync {
    /// The names that there are.
    fn names(&self) -> Vec<ModelId>;

    /// Reads what there is to know of a model before its weights are loaded.
    fn open(&self, name: &str) -> Result<Opened, SourceError>;

    /// How much of the model that is being loaded was read, from 0 to 1; `None` when that is not known.
    fn progress(&self, _model: &ModelId) -> Option<f64> {
        None
    }

    /// The models on disk, where more can be pulled to and some removed; `None` when they come from elsewhere.
    fn library(&self) -> Option<&Library> {
        None
    }
}
