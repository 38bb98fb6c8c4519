//! LlamaHome's `training_config.yaml`: its sections in our words, and what of them has no meaning here.

use serde::Serialize;

use super::Place;

/// A key that was read and has no effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unused {
    /// The key as it is written.
    pub key: String,
    /// Where it stands.
    pub place: Place,
    /// Why it has none.
    pub reason: String,
}

/// What one of LlamaHome's keys becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Our key of the same value.
    Is(&'static str),
    /// Our key, unless the file has the other key, which goes first.
    Unless(&'static str, &'static str),
    /// `precision`: bf16 when true.
    Precision,
    /// Whether the section that it stands in counts.
    Enabled(&'static str),
    /// Nothing, for a reason.
    Nothing(&'static str),
}

use Meaning::{Enabled, Is, Nothing, Precision, Unless};

const CACHE: &str =
    "data is streamed from its files and nothing of it is kept, so there is no cache to size";
const FOLDER: &str = "a run keeps all it writes in its own folder below the home folder";
const RESOURCE: &str = "a run takes the compute threads of [model] threads, and memory by lease";
const BATCH: &str =
    "rows are as many in each batch: batch.micro_rows and batch.accumulation say how many";
const READERS: &str = "one thread reads ahead: data.prefetch says how far";
const COMPILE: &str = "there is no graph to compile";
const EPOCHS: &str = "checkpoints follow steps: checkpoint.every says how many";
const MODELS: &str = "a recipe is for one model: model.base names it";

/// Sections that only LlamaHome's files have.
const OWN: [&str; 6] = [
    "cache",
    "monitor",
    "optimization",
    "processing",
    "resource",
    "training",
];

/// LlamaHome's keys, those of its first version last.
const KEYS: [(&str, Meaning); 68] = [
    ("cache.memory_size", Nothing(CACHE)),
    ("cache.disk_size", Nothing(CACHE)),
    ("cache.cleanup_interval", Nothing(CACHE)),
    ("cache.max_age_days", Nothing(CACHE)),
    ("cache.use_mmap", Nothing(CACHE)),
    ("cache.compression", Nothing(CACHE)),
    ("cache.async_writes", Nothing(CACHE)),
    ("data.batch_size", Is("batch.micro_rows")),
    ("data.num_workers", Nothing(READERS)),
    ("data.cache_dir", Nothing(FOLDER)),
    (
        "monitor.log_interval",
        Unless("logging.every", "training.logging_steps"),
    ),
    (
        "monitor.save_interval",
        Unless("checkpoint.every", "training.save_steps"),
    ),
    ("monitor.tensorboard", Is("logging.tensorboard")),
    ("monitor.progress_bars", Is("logging.progress")),
    (
        "monitor.resource_monitoring",
        Nothing("the daemon samples resources: [telemetry] resources says whether"),
    ),
    (
        "monitor.metrics_history_size",
        Nothing("the log of a run is kept whole"),
    ),
    ("optimization.learning_rate", Is("optim.lr")),
    ("optimization.weight_decay", Is("optim.weight_decay")),
    ("optimization.warmup_steps", Is("optim.warmup_steps")),
    ("optimization.scheduler_type", Is("optim.schedule")),
    ("optimization.max_grad_norm", Is("optim.clip")),
    ("optimization.adam_beta1", Is("optim.beta1")),
    ("optimization.adam_beta2", Is("optim.beta2")),
    ("optimization.adam_epsilon", Is("optim.eps")),
    ("processing.mixed_precision", Precision),
    ("processing.gradient_checkpointing", Is("recompute")),
    ("processing.compile_mode", Nothing(COMPILE)),
    ("processing.max_batch_size", Nothing(BATCH)),
    ("processing.accumulation_steps", Is("batch.accumulation")),
    ("resource.gpu_memory_fraction", Nothing(RESOURCE)),
    ("resource.cpu_usage_threshold", Nothing(RESOURCE)),
    ("resource.io_queue_size", Nothing(RESOURCE)),
    ("resource.wait_interval", Nothing(RESOURCE)),
    ("training.num_epochs", Is("horizon.epochs")),
    ("training.save_steps", Is("checkpoint.every")),
    ("training.eval_steps", Is("evaluation.every")),
    ("training.logging_steps", Is("logging.every")),
    ("training.max_steps", Is("horizon.steps")),
    ("training.output_dir", Nothing(FOLDER)),
    ("training.cache_dir", Nothing(FOLDER)),
    (
        "training.early_stopping_patience",
        Is("early_stopping.patience"),
    ),
    (
        "training.early_stopping_threshold",
        Is("early_stopping.threshold"),
    ),
    ("training.batch_size", Is("batch.micro_rows")),
    ("training.max_workers", Nothing(READERS)),
    ("training.max_length", Is("data.max_length")),
    ("training.validation_split", Is("data.validation_split")),
    ("training.epochs", Is("horizon.epochs")),
    ("training.learning_rate", Is("optim.lr")),
    ("training.warmup_steps", Is("optim.warmup_steps")),
    ("training.weight_decay", Is("optim.weight_decay")),
    (
        "training.gradient_accumulation_steps",
        Is("batch.accumulation"),
    ),
    ("training.fp16", Precision),
    ("training.lora.r", Is("lora.rank")),
    ("training.lora.alpha", Is("lora.alpha")),
    ("training.lora.dropout", Is("lora.dropout")),
    ("training.lora.target_modules", Is("lora.targets")),
    ("training.lora.target", Is("lora.targets")),
    (
        "training.lora.bias",
        Nothing("biases are never trained under adapters"),
    ),
    (
        "training.early_stopping.enabled",
        Enabled("training.early_stopping."),
    ),
    (
        "training.early_stopping.patience",
        Is("early_stopping.patience"),
    ),
    (
        "training.early_stopping.min_delta",
        Is("early_stopping.threshold"),
    ),
    ("training.checkpointing.save_strategy", Nothing(EPOCHS)),
    (
        "training.checkpointing.save_total_limit",
        Is("checkpoint.keep_last"),
    ),
    ("training.logging.steps", Is("logging.every")),
    ("training.logging.eval_steps", Is("evaluation.every")),
    ("training.model_configs.llama", Nothing(MODELS)),
    ("training.model_configs.gpt4", Nothing(MODELS)),
    ("training.model_configs.claude", Nothing(MODELS)),
];

/// Whether a file with these top-level keys is one of LlamaHome's.
pub(super) fn is_its_own<'a>(mut top: impl Iterator<Item = &'a str>) -> bool {
    top.any(|name| OWN.contains(&name))
}

/// What `key` becomes.
pub(super) fn meaning(key: &str) -> Option<Meaning> {
    KEYS.iter()
        .find(|(known, _)| *known == key)
        .map(|(_, meaning)| *meaning)
}

/// Whether some key is below `path`, so that its table is to be descended into.
pub(super) fn is_section(path: &str) -> bool {
    let inside = |known: &str| {
        known
            .strip_prefix(path)
            .is_some_and(|rest| rest.starts_with('.'))
    };
    KEYS.iter().any(|(known, _)| inside(known))
}

/// All of LlamaHome's keys.
pub(super) fn keys() -> impl Iterator<Item = &'static str> {
    KEYS.iter().map(|(known, _)| *known)
}

#[cfg(test)]
mod tests {
    use super::super::schema::Keys;
    use super::*;

    #[test]
    fn every_key_means_one_of_ours_or_has_a_reason() {
        let ours = Keys::new();
        for (key, meaning) in KEYS {
            match meaning {
                Is(path) => assert!(ours.find(path).is_some(), "{key}: {path}"),
                Unless(path, first) => {
                    assert!(ours.find(path).is_some(), "{key}: {path}");
                    assert!(super::meaning(first).is_some(), "{key}: {first}");
                }
                Enabled(prefix) => assert!(key.starts_with(prefix)),
                Precision => assert!(ours.find("precision").is_some()),
                Nothing(reason) => assert!(reason.len() > 20),
            }
        }
    }
}
