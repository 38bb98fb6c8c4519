//! The model that a run begins with.

use std::time::Instant;

use super::TrainError;
use super::supply::Files;
use super::words::Words;
use crate::data::Dataset;
use crate::kernels::training::{Strided, gemm};
use crate::llama::ModelConfig;
use crate::store::{Library, Model};
use crate::train::network::{Freeze, LoraSpec, Network, NetworkOptions, Precision, SpecialTokens};
use crate::train::recipe::{self, Recipe, Stage};
use crate::train::runs::RunFolder;
use crate::train::scaling::Shape;

/// Rows of instructions are at most so long unless `data.max_length` says otherwise.
const ROW: usize = 1024;

/// What a run keeps of it.
pub(super) struct Origin {
    pub(super) words: Words,
}

impl Origin {
    /// Opens the base model, or draws a new one.
    pub(super) fn open(
        library: &Library,
        folder: &RunFolder,
        recipe: &Recipe,
        files: &Files,
        threads: usize,
        tell: &mut dyn FnMut(&str),
    ) -> Result<(Origin, Network), TrainError> {
        if !recipe.evaluation.tasks.is_empty() {
            let reason = "tasks cannot be run by a training run yet; leave it out";
            return Err(TrainError::key("evaluation.tasks", reason));
        }
        let options = NetworkOptions {
            precision: match recipe.precision {
                recipe::Precision::Fp32 => Precision::Float32,
                recipe::Precision::Bf16 => Precision::Bfloat16,
            },
            lora: recipe.lora.as_ref().map(LoraSpec::from),
            quantised: recipe.stage == Stage::Qlora,
            freeze: Freeze {
                layers: recipe.freeze.layers as usize,
                embeddings: recipe.freeze.embeddings,
            },
            recompute: recipe.recompute,
            context: None,
            seed: recipe.seed,
            threads,
        };
        if let Some(base) = &recipe.model.base {
            let installed = library.find(base)?;
            let model = Model::open(&installed.path)?;
            tell(&format!(
                "model: {} from {}",
                installed.id,
                installed.path.display()
            ));
            let network = Network::open(&model.checkpoint, options)?;
            let words = Words::of(&model);
            return Ok((Origin { words }, network));
        }
        let section = recipe.tokenizer.as_ref().ok_or_else(no_tokenizer)?;
        let datasets: Vec<&Dataset> = files
            .sources
            .iter()
            .map(|(_, dataset, _)| dataset)
            .collect();
        let words = Words::of_new(library, section, &datasets, &folder.tokenizer(), tell)?;
        let shape = Shape::of_depth(&recipe.model, words.tokenizer.vocab_size() as u64)?;
        let mut network = Network::random(&config_of(&shape), shape.tied, options)?;
        network.set_special_tokens(SpecialTokens {
            bos: words.tokenizer.bos(),
            eos: words.eos.clone(),
        });
        Ok((Origin { words }, network))
    }
}

pub(super) fn no_tokenizer() -> TrainError {
    TrainError::key("tokenizer", "a new model needs this section")
}

fn config_of(shape: &Shape) -> ModelConfig {
    ModelConfig {
        architecture: "llama".to_owned(),
        vocab: shape.vocab as usize,
        hidden: shape.width as usize,
        intermediate: shape.intermediate as usize,
        layers: shape.layers as usize,
        heads: shape.heads as usize,
        kv_heads: shape.kv_heads as usize,
        head_dim: shape.head_dim as usize,
        context: shape.context as usize,
        rope_theta: 10_000.0,
        rope_scaling: None,
        norm_eps: 1e-5,
        sliding_window: None,
        interleaved_rope: false,
    }
}

/// The shape of a model, for plans and figures.
pub(super) fn shape_of(config: &ModelConfig, tied: bool) -> Shape {
    Shape {
        vocab: config.vocab as u64,
        width: config.hidden as u64,
        intermediate: config.intermediate as u64,
        layers: config.layers as u64,
        heads: config.heads as u64,
        kv_heads: config.kv_heads as u64,
        head_dim: config.head_dim as u64,
        context: config.context as u64,
        tied,
    }
}

/// Most tokens of a row.
pub(super) fn row_tokens(recipe: &Recipe, context: usize) -> Result<u32, TrainError> {
    let usual = match (recipe.stage, &recipe.model.base) {
        (Stage::Pretrain, None) => context,
        (Stage::Pretrain, Some(_)) => context.min(recipe.model.context as usize),
        _ => context.min(ROW),
    };
    let wanted = recipe
        .data
        .max_length
        .map_or(usual, |length| length as usize);
    match u32::try_from(wanted) {
        Ok(tokens) if wanted <= context => Ok(tokens),
        _ => Err(TrainError::key(
            "data.max_length",
            format!("{wanted} tokens are more than the model's context of {context}"),
        )),
    }
}

/// Operations a second of a product of 1,024 by 1,024 by 1,024 in the type that is trained in: the best of five.
pub(super) fn peak(network: &Network) -> f64 {
    const SIDE: usize = 1024;
    let processor = network.processor();
    let a = vec![0.5; SIDE * SIDE];
    let mut out = vec![0.0; SIDE * SIDE];
    let matrix = Strided::new(&a, SIDE, SIDE);
    let arithmetic = network.options().precision.arithmetic();
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        let begun = Instant::now();
        gemm(
            processor.level,
            &processor.pool,
            arithmetic,
            matrix,
            matrix,
            &mut out,
            SIDE,
            false,
        );
        best = best.min(begun.elapsed().as_secs_f64());
    }
    2.0 * (SIDE * SIDE * SIDE) as f64 / best.max(1e-9)
}

/// Bytes of memory that this process has; 0 where the system does not say.
pub(super) fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024
}
