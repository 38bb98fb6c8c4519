//! The shapes on the wire: what a body says becomes narrow types, what happened becomes JSON. Pure: no request, no
//! runtime, no clock.

mod answer;
pub(super) mod chat;
pub(super) mod common;
mod completion;
mod dialect;
mod error;
pub(super) mod fields;
mod logprobs;
mod usage;

pub(super) use answer::{Choice, Endpoint, Envelope};
pub(super) use chat::ChatAsk;
pub(super) use common::{Shared, session_id};
pub(super) use completion::{CompletionAsk, Prompt};
pub(super) use dialect::Dialect;
pub(super) use error::ApiError;
pub(super) use fields::Fields;
pub(super) use logprobs::{ByText, ChatLogprob, Logprobs, TopLogprob};
pub(super) use usage::{Timings, UsageOut};
