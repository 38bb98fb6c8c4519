//! Data for training: from files of many shapes to batches of token ids.
//!
//! `source` → `record` → `encode` → `corpus` → `plan` → `loader`: a [`Dataset`] streams the [`Record`]s of files, an
//! [`Encoder`] makes each a [`Sample`] of ids with a mask of what is learnt, a [`Corpus`] keeps the samples in a
//! scratch file, a [`Plan`] says which of them make which row of an epoch, and a [`Loader`] reads the rows ahead on a
//! thread of its own. A [`Cursor`] names a place in that sequence of batches; the same place gives the same batches
//! again.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )
)]

mod batch;
mod batches;
mod best_fit;
mod bits;
mod buckets;
mod chunks;
mod convert;
mod corpus;
mod csv;
mod dataset;
mod encode;
mod error;
mod format;
mod json;
mod jsonl;
mod loader;
mod mixture;
mod order;
mod parquet;
mod plan;
mod preview;
mod record;
mod shape;
mod source;
mod split;
mod text_file;
mod tokenizer;
mod validate;

pub use batch::{Batch, Objective};
pub use batches::{BatchOptions, Batches, Cursor, Loaded};
pub use bits::{BitsPerByte, bytes_of_tokens};
pub use convert::{Converted, convert};
pub use corpus::{Corpus, CorpusReport};
pub use dataset::{Dataset, DatasetOptions, Located, Records};
pub use encode::{EncodeOptions, Encoder, Overlong, Pairs, Sample};
pub use error::{DataError, Place, Problem, Unit};
pub use format::Format;
pub use loader::Loader;
pub use mixture::{Mixture, Part};
pub(crate) use order::order_of_prompts;
pub use plan::{Packing, Piece, Plan, Row};
pub use preview::{Preview, PreviewToken, Run};
pub use record::Record;
pub use shape::Shape;
pub use split::{Side, Split, SplitBy};
pub use tokenizer::{Compression, TokenizerOptions, TokenizerReport, compression, train_tokenizer};
pub use validate::{Validation, validate};
