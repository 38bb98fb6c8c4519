//! The shapes on the wire: what a body says becomes narrow types, what happened becomes JSON. Pure: no request, no
//! runtime, no clock.

mod answer;
pub(super) mod chat;
pub(super) mod common;
mod completion;
mod dialect;
mod embedding;
mod error;
pub(super) mod fields;
mod format;
pub(super) mod limits;
mod logprobs;
mod tools;
mod usage;

pub(super) use answer::{Call, Choice, Endpoint, Envelope, Reason, Said};
pub(super) use chat::ChatAsk;
pub(super) use common::{Shared, session_id};
pub(super) use completion::{CompletionAsk, Prompt};
pub(super) use dialect::Dialect;
pub(super) use embedding::{EmbeddingAsk, Encoding, inputs};
pub(super) use error::ApiError;
pub(super) use fields::Fields;
pub(super) use format::{Format, refused};
pub(super) use logprobs::{ByText, ChatLogprob, Logprobs, TopLogprob};
pub(super) use tools::{ToolChoice, Tools};
pub(super) use usage::{Timings, UsageOut};
