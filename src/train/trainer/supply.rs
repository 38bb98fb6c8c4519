//! The data of a run: what is learnt from, and what is held back to judge by.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::TrainError;
use super::words::Words;
use crate::data::{
    self, BatchOptions, Corpus, Dataset, DatasetOptions, EncodeOptions, Encoder, Overlong, Packing,
    Pairs, Side, Split, SplitBy, bytes_of_tokens,
};
use crate::train::recipe::{self, Format, Recipe, Stage};

/// The multiple that padded rows are filled up to.
const PADDING: u32 = 8;

/// The files of a recipe.
pub(super) struct Files {
    /// Name, data, weight.
    pub(super) sources: Vec<(String, Dataset, f64)>,
    /// Data to judge by that is in files of its own.
    held: Option<Dataset>,
    splits: bool,
}

impl Files {
    pub(super) fn open(recipe: &Recipe) -> Result<Files, TrainError> {
        let by = match recipe.stage {
            Stage::Pretrain => SplitBy::Tail,
            _ => SplitBy::Hash,
        };
        let own = recipe.data.validation_path.is_some();
        let split = match own {
            true => Split::none(),
            false => Split::new(recipe.data.validation_split, by, recipe.seed)?,
        };
        let options = |format: Format, split: Split| DatasetOptions {
            format: match format {
                Format::Auto => None,
                Format::Text => Some(data::Format::Text),
                Format::Jsonl => Some(data::Format::Jsonl),
                Format::Csv => Some(data::Format::Csv),
                Format::Parquet => Some(data::Format::Parquet),
            },
            shape: None,
            separator: None,
            split,
        };
        let mut sources = Vec::new();
        for source in recipe.data.sources() {
            let paths = [PathBuf::from(source.path)];
            let dataset = Dataset::open(&paths, options(source.format, split))?;
            sources.push((
                source.path.to_owned(),
                dataset,
                source.weight.unwrap_or(1.0),
            ));
        }
        let held = match &recipe.data.validation_path {
            None => None,
            Some(path) => {
                let options = options(recipe.data.format, Split::none());
                Some(Dataset::open(&[PathBuf::from(path)], options)?)
            }
        };
        Ok(Files {
            sources,
            held,
            splits: !own && recipe.data.validation_split > 0.0,
        })
    }
}

/// Encoded data.
pub(super) struct Supply {
    pub(super) train: Arc<Corpus>,
    pub(super) held: Option<Arc<Corpus>>,
    /// How many bytes each token stands for, where something is held back.
    pub(super) bytes: Vec<u32>,
    pub(super) encoder: Encoder,
    /// Most tokens of a row.
    pub(super) context: u32,
}

impl Supply {
    /// Encodes all of it. What was cut, and what teaches nothing, is told.
    pub(super) fn encode(
        recipe: &Recipe,
        files: &Files,
        words: &Words,
        context: u32,
        scratch: &Path,
        tell: &mut dyn FnMut(&str),
    ) -> Result<Supply, TrainError> {
        let encoder = encoder(recipe, words, Some(context))?;
        let sources: Vec<(String, &Dataset, f64)> = files
            .sources
            .iter()
            .map(|(name, dataset, weight)| (name.clone(), dataset, *weight))
            .collect();
        let side = match files.splits {
            true => Side::Train,
            false => Side::Whole,
        };
        let train = Corpus::encode(&sources, side, &encoder, scratch, &mut |_| {})?;
        tell_of("to learn from", &train, tell);
        let held = match (&files.held, files.splits) {
            (Some(held), _) => {
                let sources = [("validation".to_owned(), held, 1.0)];
                Some(Corpus::encode(
                    &sources,
                    Side::Whole,
                    &encoder,
                    scratch,
                    &mut |_| {},
                )?)
            }
            (None, true) => {
                let side = Side::Validation;
                Some(Corpus::encode(
                    &sources,
                    side,
                    &encoder,
                    scratch,
                    &mut |_| {},
                )?)
            }
            (None, false) => None,
        };
        if let Some(held) = &held {
            tell_of("held back", held, tell);
        }
        Ok(Supply {
            train: Arc::new(train),
            bytes: held
                .as_ref()
                .map_or(Vec::new(), |_| bytes_of_tokens(encoder.tokenizer())),
            held: held.map(Arc::new),
            encoder,
            context,
        })
    }

    /// How batches of `rows` rows are made of it.
    pub(super) fn batches(
        &self,
        recipe: &Recipe,
        packing: recipe::Packing,
        rows: usize,
    ) -> BatchOptions {
        BatchOptions {
            packing: match packing {
                recipe::Packing::Concatenate => Packing::Chunks,
                recipe::Packing::BestFit => Packing::BestFit,
                recipe::Packing::Padding => Packing::Padding(PADDING),
            },
            context: self.context,
            rows,
            shuffle: recipe.data.shuffle,
            drop_last: false,
            seed: recipe.seed,
            epochs: None,
            padding: self.encoder.tokenizer().eos().unwrap_or(0),
        }
    }
}

/// What turns records into ids: documents whole, others up to `row` tokens.
pub(super) fn encoder(
    recipe: &Recipe,
    words: &Words,
    row: Option<u32>,
) -> Result<Encoder, TrainError> {
    let options = EncodeOptions {
        pairs: Pairs::Turns,
        context: match recipe.stage {
            Stage::Pretrain => None,
            _ => row.map(|tokens| tokens as usize),
        },
        overlong: Overlong::Truncate,
    };
    let template = words.template(recipe.data.template.as_deref())?;
    Ok(Encoder::new(words.tokenizer.clone(), template, options)?)
}

fn tell_of(what: &str, corpus: &Corpus, tell: &mut dyn FnMut(&str)) {
    let report = corpus.report();
    tell(&format!(
        "data {what}: {} records, {} samples, {} tokens, {} of them learnt",
        report.records, report.samples, report.tokens, report.learnt
    ));
    if report.truncated > 0 {
        tell(&format!(
            "warning: {} samples are longer than a row and were cut, {} tokens in all: raise data.max_length to keep them",
            report.truncated, report.cut_tokens
        ));
    }
    if report.without_targets > 0 {
        tell(&format!(
            "warning: {} samples have nothing to learn: no turn of the assistant's is left in them",
            report.without_targets
        ));
    }
}
