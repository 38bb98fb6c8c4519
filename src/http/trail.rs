//! What a generation leaves behind when it is over, however it ended: its audit record, its trace, and what it is
//! charged for.

use std::time::{Instant, SystemTime};

use super::keys::Caller;
use super::limits::Account;
use super::wire::{ApiError, Endpoint};
use crate::ids::RequestId;
use crate::runtime::{Finish, Runtime};
use crate::sched::FinishReason;
use crate::telemetry::{Outcome, Record, RequestTrace, Stages, TraceParent};

/// What is asked for, as records and traces name it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    /// The route.
    pub(super) route: &'static str,
    /// The operation, by OpenTelemetry's names for generative models.
    pub(super) operation: &'static str,
}

impl From<Endpoint> for Asked {
    fn from(endpoint: Endpoint) -> Self {
        Asked {
            route: endpoint.route(),
            operation: match endpoint {
                Endpoint::Chat => "chat",
                Endpoint::Completion => "text_completion",
            },
        }
    }
}

/// What is known so far. Dropped without an outcome, the client has left.
pub(super) struct Trail {
    runtime: Runtime,
    account: Account,
    record: Record,
    started: SystemTime,
    /// Absent when traces go nowhere.
    trace: Option<RequestTrace>,
}

impl Trail {
    /// A request that has come.
    pub(super) fn new(
        runtime: &Runtime,
        request: RequestId,
        asked: Asked,
        caller: &Caller,
        parent: TraceParent,
    ) -> Self {
        let Asked { route, operation } = asked;
        let trace = runtime.traces().on().then(|| RequestTrace {
            parent,
            id: request.to_string(),
            route,
            operation,
            ..RequestTrace::default()
        });
        Trail {
            runtime: runtime.clone(),
            account: caller.account.clone(),
            started: SystemTime::now(),
            trace,
            record: Record {
                at: SystemTime::now(),
                request,
                route,
                action: None,
                who: caller.name.clone(),
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

    /// The prompts were taken in: they are charged now, for requests that come meanwhile.
    pub(super) fn charge_prompt(&self) {
        self.account
            .charge(self.record.prompt_tokens, Instant::now());
    }

    /// Tokens that were generated.
    pub(super) fn generated(&mut self, tokens: usize) {
        self.record.output_tokens += tokens;
    }

    /// An answer is complete; `first` says whether it is the first of its prompt.
    pub(super) fn finished(&mut self, first: bool, finish: &Finish) {
        let Some(trace) = &mut self.trace else {
            return;
        };
        let usage = &finish.usage;
        if first {
            trace.cached_tokens += usage.cached_tokens;
        }
        trace.finish_reasons.push(match finish.reason {
            FinishReason::Stop => "stop",
            FinishReason::Length => "length",
        });
        let now = SystemTime::now();
        trace.stages.push(Stages {
            submitted: now.checked_sub(usage.total).unwrap_or(now),
            queue: usage.queue,
            first_token: usage.first_token,
            total: usage.total,
        });
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
        if let Some(trace) = &mut self.trace {
            trace.error = Some(error.code);
        }
    }
}

impl Drop for Trail {
    fn drop(&mut self) {
        let now = SystemTime::now();
        self.record.at = now;
        self.account
            .charge(self.record.output_tokens, Instant::now());
        if let Some(mut trace) = self.trace.take() {
            trace.model.clone_from(&self.record.model);
            trace.times = Some((self.started, now));
            trace.prompt_tokens = self.record.prompt_tokens;
            trace.output_tokens = self.record.output_tokens;
            if self.record.result == Outcome::Cancelled {
                trace.error = Some("cancelled");
            }
            self.runtime.traces().tell(&trace);
        }
        self.runtime.audit(self.record.clone());
    }
}
