//! The spans of one request, named and attributed as the conventions for generative models ask
//! (<https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/>; their status is "development").

use std::time::{Duration, SystemTime};

use opentelemetry::trace::{Span, SpanKind, Status, TraceContextExt, Tracer};
use opentelemetry::{Array, Context, KeyValue, StringValue, Value};

use super::TraceParent;

/// When the stages of one sequence were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stages {
    /// When it came to the scheduler.
    pub submitted: SystemTime,
    /// From then to its first step.
    pub queue: Duration,
    /// From then to its first token; zero when there was none.
    pub first_token: Duration,
    /// From then to its end.
    pub total: Duration,
}

impl Stages {
    /// Name, begin and end of each.
    fn spans(&self) -> Vec<(&'static str, SystemTime, SystemTime)> {
        let at = |passed: Duration| self.submitted + passed;
        let end = at(self.total);
        let mut spans = vec![("queue", self.submitted, at(self.queue))];
        if self.first_token.is_zero() {
            spans.push(("prefill", at(self.queue), end));
        } else {
            spans.push(("prefill", at(self.queue), at(self.first_token)));
            spans.push(("decode", at(self.first_token), end));
        }
        spans
    }
}

/// One request that is over.
#[derive(Debug, Clone, Default)]
pub struct RequestTrace {
    /// Whose work it is a part of.
    pub parent: TraceParent,
    /// Its id, as in the log and in the answer.
    pub id: String,
    /// The route, such as `/v1/chat/completions`.
    pub route: &'static str,
    /// What was asked for: `chat`, `text_completion`.
    pub operation: &'static str,
    /// The model.
    pub model: String,
    /// When it came, and when it was over.
    pub times: Option<(SystemTime, SystemTime)>,
    /// Tokens of its prompts.
    pub prompt_tokens: usize,
    /// Of those, what a cache held.
    pub cached_tokens: usize,
    /// Tokens of its answers.
    pub output_tokens: usize,
    /// Why each answer ended.
    pub finish_reasons: Vec<&'static str>,
    /// The code of the error that it ended with, `cancelled` when its client left.
    pub error: Option<&'static str>,
    /// The stages of each answer.
    pub stages: Vec<Stages>,
}

impl RequestTrace {
    /// Makes the spans. They are sent when they are dropped, which they are here.
    pub(super) fn spans(&self, tracer: &impl Tracer) {
        let Some((started, ended)) = self.times else {
            return;
        };
        let name = format!("{} {}", self.operation, self.model);
        let builder = tracer
            .span_builder(name.trim_end().to_owned())
            .with_kind(SpanKind::Server)
            .with_start_time(started)
            .with_attributes(self.attributes());
        let mut span = tracer.build_with_context(builder, self.parent.context());
        if let Some(code) = self.error {
            span.set_attribute(KeyValue::new("error.type", code));
            span.set_status(Status::error(code));
        }
        let own = Context::new().with_remote_span_context(span.span_context().clone());
        for stages in &self.stages {
            for (name, begin, end) in stages.spans() {
                let builder = tracer.span_builder(name).with_start_time(begin);
                tracer
                    .build_with_context(builder, &own)
                    .end_with_timestamp(end);
            }
        }
        span.end_with_timestamp(ended);
    }

    fn attributes(&self) -> Vec<KeyValue> {
        let reasons: Vec<StringValue> = self.finish_reasons.iter().map(|&r| r.into()).collect();
        let count = |tokens: usize| i64::try_from(tokens).unwrap_or(i64::MAX);
        vec![
            KeyValue::new("gen_ai.operation.name", self.operation),
            KeyValue::new("gen_ai.provider.name", "llamahome"),
            KeyValue::new("gen_ai.request.model", self.model.clone()),
            KeyValue::new("gen_ai.response.id", self.id.clone()),
            KeyValue::new("gen_ai.usage.input_tokens", count(self.prompt_tokens)),
            KeyValue::new(
                "gen_ai.usage.cache_read.input_tokens",
                count(self.cached_tokens),
            ),
            KeyValue::new("gen_ai.usage.output_tokens", count(self.output_tokens)),
            KeyValue::new(
                "gen_ai.response.finish_reasons",
                Value::Array(Array::String(reasons)),
            ),
            KeyValue::new("http.request.method", "POST"),
            KeyValue::new("http.route", self.route),
        ]
    }
}
