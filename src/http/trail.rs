//! The audit record of a generation, written when it is over, however it ended.

use std::time::SystemTime;

use super::wire::ApiError;
use crate::ids::RequestId;
use crate::runtime::Runtime;
use crate::telemetry::{Outcome, Record};

/// What is known so far. Dropped without an outcome, the client has left.
pub(super) struct Trail {
    runtime: Runtime,
    record: Record,
}

impl Trail {
    /// A request that has come.
    pub(super) fn new(
        runtime: &Runtime,
        request: RequestId,
        route: &'static str,
        who: &str,
    ) -> Self {
        Trail {
            runtime: runtime.clone(),
            record: Record {
                at: SystemTime::now(),
                request,
                route,
                who: who.to_owned(),
                model: String::new(),
                prompt_tokens: 0,
                output_tokens: 0,
                result: Outcome::Cancelled,
            },
        }
    }

    /// The model that was asked for.
    pub(super) fn model(&mut self, name: &str) {
        self.record.model = name.chars().take(96).collect();
    }

    /// Tokens of the prompts.
    pub(super) fn prompt(&mut self, tokens: usize) {
        self.record.prompt_tokens = tokens;
    }

    /// Tokens that were generated.
    pub(super) fn generated(&mut self, tokens: usize) {
        self.record.output_tokens += tokens;
    }

    /// It was answered.
    pub(super) fn answered(&mut self) {
        self.record.result = Outcome::Ok;
    }

    /// It was refused or failed.
    pub(super) fn ended(&mut self, error: &ApiError) {
        self.record.result = if error.is_ours() {
            Outcome::Failed
        } else {
            Outcome::Refused
        };
    }
}

impl Drop for Trail {
    fn drop(&mut self) {
        self.record.at = SystemTime::now();
        self.runtime.audit(self.record.clone());
    }
}
