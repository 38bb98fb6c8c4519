//! The span of a caller, as its `traceparent` header says (<https://www.w3.org/TR/trace-context/>).

use std::collections::HashMap;

use opentelemetry::Context;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry_sdk::propagation::TraceContextPropagator;

/// Whose work a request is a part of; by default nobody's.
#[derive(Debug, Clone, Default)]
pub struct TraceParent(Context);

impl TraceParent {
    /// What the headers `traceparent` and `tracestate` say. One that cannot be read is nobody's, as the standard asks.
    pub fn of(parent: Option<&str>, state: Option<&str>) -> Self {
        let Some(parent) = parent else {
            return TraceParent::default();
        };
        let mut headers = HashMap::from([("traceparent".to_owned(), parent.to_owned())]);
        if let Some(state) = state {
            headers.insert("tracestate".to_owned(), state.to_owned());
        }
        let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &headers);
        TraceParent(context)
    }

    pub(super) fn context(&self) -> &Context {
        &self.0
    }
}
