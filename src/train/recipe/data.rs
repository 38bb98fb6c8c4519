//! What is learned from.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is learned from. Each of `path` and `mixture` names sources; a recipe has one of the two.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Data {
    /// A file or folder, or a list of them, each drawn from in proportion to its size.
    #[schemars(extend("examples" = ["data/train.jsonl"]))]
    pub path: Option<Paths>,
    /// Sources with weights: tables of `path`, `weight` and `format`.
    pub mixture: Vec<Source>,
    /// How sources without a format of their own are read.
    pub format: Format,
    /// The share of the data that is held back to measure the loss on; 0 = none.
    #[schemars(range(min = 0.0, max = 0.9))]
    pub validation_split: f64,
    /// A file or folder of its own that the loss is measured on, in place of a share.
    #[schemars(extend("examples" = ["data/held-out.jsonl"]))]
    pub validation_path: Option<String>,
    /// How samples become rows; absent = concatenate in pretraining, best_fit elsewhere.
    pub packing: Option<Packing>,
    /// The most tokens of a row; absent = the model's context.
    #[schemars(range(min = 8, max = 1048576), extend("examples" = [512]))]
    pub max_length: Option<u32>,
    /// Whether samples come in another order in each epoch, drawn from the seed.
    pub shuffle: bool,
    /// How many batches are made ready ahead of the step that needs them.
    #[schemars(range(min = 1, max = 1024))]
    pub prefetch: u32,
    /// A file with the chat template that conversations are written in; absent = the model's own.
    #[schemars(extend("examples" = ["templates/chatml.jinja"]))]
    pub template: Option<String>,
}

impl Default for Data {
    fn default() -> Self {
        Data {
            path: None,
            mixture: Vec::new(),
            format: Format::Auto,
            validation_split: 0.1,
            validation_path: None,
            packing: None,
            max_length: None,
            shuffle: true,
            prefetch: 4,
            template: None,
        }
    }
}

impl Data {
    /// The sources of either key; those of `path` without weights, that is in proportion to their sizes.
    pub fn sources(&self) -> Vec<Weighted<'_>> {
        let paths = self.path.iter().flat_map(Paths::iter).map(|path| Weighted {
            path,
            weight: None,
            format: self.format,
        });
        let mixture = self.mixture.iter().map(|source| Weighted {
            path: &source.path,
            weight: Some(source.weight),
            format: match source.format {
                Format::Auto => self.format,
                own => own,
            },
        });
        paths.chain(mixture).collect()
    }

    /// Whether any of it is held back.
    pub fn validates(&self) -> bool {
        self.validation_path.is_some() || self.validation_split > 0.0
    }
}

/// One source of [`Data::sources`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weighted<'a> {
    /// The file or folder.
    pub path: &'a str,
    /// Its weight among the sources; absent = its size.
    pub weight: Option<f64>,
    /// How it is read.
    pub format: Format,
}

/// A file or folder, or a list of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Paths {
    /// One.
    One(String),
    /// Several.
    Several(Vec<String>),
}

impl Paths {
    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let all = match self {
            Paths::One(one) => std::slice::from_ref(one),
            Paths::Several(several) => several,
        };
        all.iter().map(String::as_str)
    }
}

/// A source of a mixture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// A file or folder.
    pub path: String,
    /// How often it is drawn from, beside the other sources.
    #[serde(default = "one")]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub weight: f64,
    /// How it is read.
    #[serde(default)]
    pub format: Format,
}

fn one() -> f64 {
    1.0
}

/// How a source is read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// By the file's extension, and the fields of its records.
    #[default]
    Auto,
    /// Plain text.
    Text,
    /// A JSON object a line.
    Jsonl,
    /// Lines of fields, the first of their names.
    Csv,
    /// Columns.
    Parquet,
}

/// How samples become rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Packing {
    /// One after the other, cut into rows of equal length.
    Concatenate,
    /// Whole samples, each in the row that it fills best; none sees another.
    BestFit,
    /// A sample a row, with others of about its length.
    Padding,
}
